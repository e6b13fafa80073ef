// Asking and answering, with the demo model.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, demo, endless, json, reload, serve, settled, type, until, visitor } from "../harness.mjs";

let server;
before(async () => {
  server = await serve("--model", `demo=${demo}`, "--model", `endless=${endless()}`);
});
after(() => server.stop());

test("a question is typed, and its answer is read", async () => {
  const { open, checks } = await visitor();
  const page = await open(server.url);
  assert.equal(await page.locator("#model").inputValue(), "demo");
  assert.equal(await ask(page, "What is 17 + 25?"), "42");
  assert.equal(await page.locator("#conversations a").innerText(), "What is 17 + 25?");
  assert.match(await page.locator("#about-model").innerText(), /1,024 tokens of context/);
  // A screen reader is told once, when it is there.
  assert.equal(await page.locator("#status").textContent(), "The answer is there: 42");
  assert.equal(await page.locator("#log").getAttribute("aria-busy"), "false");
  assert.equal(await ask(page, "Spell walnut."), "w-a-l-n-u-t");
  // Where all of it comes at once, there is no rate.
  assert.match(await page.locator(".figures").last().innerText(), /^\d+\stokens · ([\d.,]+\stokens\/s · )?first after [\d.]+\sm?s/);
  await checks(server.url);
});

test("a message is edited and sent again, and answered again", async () => {
  const { open, checks } = await visitor();
  const page = await open(server.url);
  await ask(page, "What is 17 + 25?");
  await ask(page, "Spell walnut.");
  await page.locator(".question").first().hover();
  await page.getByLabel("Edit and send again").first().click();
  await page.getByLabel("Your message").fill("What is 5 + 6?");
  await page.keyboard.press("Enter");
  await settled(page);
  // What came after it has gone.
  assert.deepEqual(await page.locator(".question .said").allInnerTexts(), ["What is 5 + 6?"]);
  assert.deepEqual(await page.locator(".written").allInnerTexts(), ["11"]);
  await page.getByLabel("Answer again").click();
  await settled(page);
  assert.deepEqual(await page.locator(".written").allInnerTexts(), ["11"]);
  // In an empty field the arrow goes back to the last message; Esc leaves it as it was.
  await page.press("#field", "ArrowUp");
  await page.getByLabel("Your message").fill("something else");
  await page.keyboard.press("Escape");
  assert.deepEqual(await page.locator(".question .said").allInnerTexts(), ["What is 5 + 6?"]);
  await checks(server.url);
});

test("an answer is stopped, and its place is free", async () => {
  const { open, checks } = await visitor();
  const page = await open(server.url);
  await page.selectOption("#model", "endless");
  await page.getByLabel("Settings of this conversation").click();
  await page.getByLabel("Further fields").fill('{"ignore_eos": true}');
  await page.keyboard.press("Escape");
  for (const stop of [() => page.keyboard.press("Escape"), () => page.getByLabel("Stop", { exact: true }).click()]) {
    await type(page, "hello");
    await page.waitForFunction(() => [...document.querySelectorAll(".written")].at(-1).textContent.length > 60);
    await stop();
    await settled(page);
    assert.match(await page.locator(".figures").last().innerText(), /^stopped · [\d.,]+\stokens\/s · first after/);
    await until("the place", async () => (await json(`${server.url}/health`)).running === 0);
  }
  const text = await page.locator(".written").last().innerText();
  await reload(page);
  assert.equal(await page.locator(".written").last().innerText(), text);
  await checks(server.url);
});

test("several conversations are written at the same time", async () => {
  const { open, checks } = await visitor();
  const page = await open(server.url);
  await page.selectOption("#model", "endless");
  await page.getByLabel("Settings of this conversation").click();
  await page.getByLabel("Further fields").fill('{"ignore_eos": true}');
  await page.keyboard.press("Escape");
  await type(page, "first");
  await page.waitForFunction(() => document.querySelector(".written")?.textContent.length > 5);
  await page.click("#new");
  await page.getByLabel("Settings of this conversation").click();
  await page.getByLabel("Further fields").fill("");
  await page.keyboard.press("Escape");
  await page.selectOption("#model", "demo");
  assert.equal(await ask(page, "What is 17 + 25?"), "42");
  assert.equal(await page.getByLabel("being written").count(), 1);
  await page.locator("#conversations a", { hasText: "first" }).click();
  const long = await page.locator(".written").innerText();
  await page.waitForFunction((length) => document.querySelector(".written").textContent.length > length, long.length);
  await page.keyboard.press("Escape");
  await settled(page);
  assert.equal(await page.getByLabel("being written").count(), 0);
  await checks(server.url);
});
