// The operator's view: what it shows is what the server has done.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, demo, json, serve, until, visitor } from "../harness.mjs";

let server;
before(async () => {
  server = await serve("--model", demo);
});
after(() => server.stop());

const legend = (page, title) => page.locator("figure.panel", { has: page.getByRole("heading", { name: title }) }).locator(".legend").innerText();

test("requests, tokens, cache and memory are plotted while they change", async () => {
  const { open, checks } = await visitor();
  const page = await open(`${server.url}/#/operator`);
  await page.getByRole("heading", { name: "Operator" }).waitFor();
  await page.locator(".panel dd", { hasText: "0" }).first().waitFor();
  const hello = (at) => fetch(`${server.url}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ messages: [{ role: "user", content: `hello ${at}` }], ignore_eos: true, stream: true, max_tokens: 300 }),
  }).then((answer) => answer.text());
  // Four at a time, and so many that the view asks while they run, however fast they are.
  const four = Array.from({ length: 4 }, async (_, at) => {
    for (let i = 0; i < 10; i++) await hello(at);
  });
  await until("running requests", async () => !/running\s+(0|–)/.test(await legend(page, "Requests")));
  await until("tokens", async () => /written\s+[1-9]/.test(await legend(page, "Tokens a second")));
  await Promise.all(four);
  await until("the end", async () => /running\s+0/.test(await legend(page, "Requests")));
  assert.match(await legend(page, "Memory"), /weights and caches\s+\d[\d.,]*\sMB/);
  assert.ok((await page.locator("figure.panel polyline").count()) >= 5);
  const figure = (name) => page.locator("#tables dl div", { hasText: name }).locator("dd").innerText();
  await until("the count", async () => (await figure("Answers")) === "40");
  assert.equal(await figure("Tokens written"), "12,000");
  // One looks back with the arrows.
  const picture = page.locator(".picture").first();
  await picture.focus();
  await page.keyboard.press("ArrowLeft");
  await page.locator(".when", { hasText: "s ago" }).waitFor();
  assert.match(await picture.getAttribute("aria-label"), /^Requests: running \d+, waiting \d+\./);
  await checks(server.url);
});

test("a prompt that is known shows as such, and the chat goes on behind the view", async () => {
  const { open, checks } = await visitor();
  const page = await open(server.url);
  await ask(page, "What is 17 + 25?");
  await page.getByRole("link", { name: "Operator" }).click();
  await page.locator("#tables dl").waitFor();
  const { data } = await json(`${server.url}/v1/models`);
  assert.equal(data[0].loaded, true);
  await page.getByRole("link", { name: "Chat" }).click();
  assert.equal(await page.locator(".written").innerText(), "42");
  await checks(server.url);
});

test("a server that ends is told", async () => {
  const own = await serve("--model", demo);
  const { open, checks } = await visitor();
  const page = await open(`${own.url}/#/operator`);
  await page.locator("#tables dl").waitFor();
  own.stop();
  await page.locator("#pulse", { hasText: "The server does not answer" }).waitFor();
  await checks(own.url);
});
