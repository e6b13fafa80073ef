// Conversations are kept in the browser.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, demo, reload, serve, visitor } from "../harness.mjs";

let server;
before(async () => {
  server = await serve("--model", demo);
});
after(() => server.stop());

const titles = (page) => page.locator("#conversations a").allInnerTexts();

test("a reload finds them; they are renamed and deleted", async () => {
  const { open, checks } = await visitor();
  const page = await open(server.url);
  await ask(page, "What is 17 + 25?");
  await page.click("#new");
  await ask(page, "Spell walnut.");
  await reload(page);
  assert.deepEqual(await page.locator(".written").allInnerTexts(), ["w-a-l-n-u-t"]);
  assert.deepEqual(await titles(page), ["Spell walnut.", "What is 17 + 25?"]);
  // One that goes on is the model's past, too.
  await page.locator("#conversations a").nth(1).click();
  assert.equal(await ask(page, "What is 5 + 6?"), "11");
  assert.deepEqual(await titles(page), ["What is 17 + 25?", "Spell walnut."]);

  await page.locator("#conversations li").nth(1).hover();
  await page.getByLabel("Rename Spell walnut.").click();
  await page.keyboard.type("Nuts");
  await page.keyboard.press("Enter");
  await reload(page);
  assert.deepEqual(await titles(page), ["What is 17 + 25?", "Nuts"]);

  await page.locator("#conversations li").first().hover();
  await page.getByLabel("Delete What is 17 + 25?").click();
  await page.getByRole("button", { name: "Keep it" }).click();
  assert.equal((await titles(page)).length, 2);
  await page.locator("#conversations li").first().hover();
  await page.getByLabel("Delete What is 17 + 25?").click();
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await page.waitForSelector("#empty:not([hidden])");
  await reload(page);
  assert.deepEqual(await titles(page), ["Nuts"]);
  await checks(server.url);
});

test("what one tab writes another one shows", async () => {
  const { open, checks } = await visitor();
  const [one, other] = [await open(server.url), await open(server.url)];
  await one.bringToFront();
  await ask(one, "What is 17 + 25?");
  await other.bringToFront();
  await other.locator("#conversations a", { hasText: "What is 17 + 25?" }).click();
  assert.deepEqual(await other.locator(".written").allInnerTexts(), ["42"]);
  await ask(other, "Spell walnut.");
  await one.bringToFront();
  await one.locator(".written", { hasText: "w-a-l-n-u-t" }).waitFor();
  await checks(server.url);
});

test("the settings of a conversation are its own, and are sent", async () => {
  const { open, checks } = await visitor();
  const page = await open(server.url);
  const sent = [];
  page.on("request", (request) => {
    if (request.url().endsWith("/v1/chat/completions")) sent.push(request.postDataJSON());
  });
  await page.keyboard.press("Alt+KeyS");
  await page.getByLabel("System prompt").fill("Be short.");
  await page.getByLabel("Temperature").fill("0.5");
  await page.getByLabel("Most tokens").fill("2");
  await page.getByLabel("Seed").fill("7");
  await page.keyboard.press("Escape");
  await ask(page, "Spell walnut.");
  const { model, messages, temperature, max_tokens, seed, top_p } = sent[0];
  assert.deepEqual({ model, messages, temperature, max_tokens, seed, top_p }, {
    model: "qwen3-demo",
    messages: [{ role: "system", content: "Be short." }, { role: "user", content: "Spell walnut." }],
    temperature: 0.5,
    max_tokens: 2,
    seed: 7,
    top_p: undefined,
  });
  assert.match(await page.locator(".figures").innerText(), /^cut off at the most tokens/);
  await reload(page);
  await page.keyboard.press("Alt+KeyS");
  assert.equal(await page.getByLabel("System prompt").inputValue(), "Be short.");
  // Fields that are no JSON are told while they are typed, and when they would be sent.
  await page.getByLabel("Further fields").fill("{");
  assert.match(await page.locator("#s-further-wrong").innerText(), /no JSON/);
  await page.keyboard.press("Escape");
  await ask(page, "hello");
  assert.match(await page.locator(".error:visible").innerText(), /no JSON/);
  assert.equal(sent.length, 1);
  await checks(server.url);
});
