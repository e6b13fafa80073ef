// What goes wrong is told in words, and can be tried again.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, demo, reload, serve, settled, type, until, visitor } from "../harness.mjs";
import { chunks, json, scripted } from "../scripted.mjs";

let server;
before(async () => {
  server = await serve("--model", `demo=${demo}`);
});
after(() => server.stop());

test("a full queue is told, and tried again", async () => {
  let full = true;
  const error = { message: "256 requests run or wait already; try again later", code: "queue_full" };
  const front = await scripted(server.url, async (request, response) => full && request.url === "/v1/chat/completions" && json(response, 429, { error }, { "retry-after": "1" }));
  const { open, checks } = await visitor();
  const page = await open(front.url);
  await type(page, "What is 17 + 25?");
  await page.locator(".error:visible", { hasText: "The server is full. 256 requests run or wait already" }).waitFor();
  full = false;
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator(".written", { hasText: "42" }).waitFor();
  assert.equal(await page.locator(".error:visible").count(), 0);
  await checks(front.url);
  front.close();
});

test("an answer that breaks off keeps what it had, and says why", async () => {
  let broken = 0;
  let seen;
  const front = await scripted(server.url, async (request, response) => {
    if (request.url !== "/v1/chat/completions" || broken > 1) return false;
    const stream = chunks(response);
    stream.say("Half of");
    await new Promise((resolve) => (seen = resolve));
    if (broken++ === 0) stream.fail({ message: "the engine ended", code: "engine_ended" });
    else response.destroy();
    return true;
  });
  const { open, checks } = await visitor();
  const page = await open(front.url);
  for (const why of ["the engine ended", "The connection broke off."]) {
    if (why === "the engine ended") await type(page, "What is 17 + 25?");
    else await page.getByRole("button", { name: "Try again" }).click();
    await page.locator(".written", { hasText: "Half of" }).waitFor();
    await until("the stream", () => seen);
    seen();
    seen = undefined;
    await page.locator(".error:visible", { hasText: why }).waitFor();
    assert.equal(await page.locator(".written").innerText(), "Half of");
  }
  await page.keyboard.press("Alt+KeyR");
  await page.locator(".written", { hasText: "42" }).waitFor();
  await checks(front.url);
  front.close();
});

test("a server that has gone is missed, and found again", async () => {
  const own = await serve("--model", demo);
  let upstream = own.url;
  // The page's address must not change when the server comes back.
  const front = await scripted(own.url, async (request, response) => {
    if (upstream !== null) return false;
    response.destroy();
    return true;
  });
  const { open, checks } = await visitor();
  const page = await open(front.url);
  assert.equal(await ask(page, "What is 17 + 25?"), "42");
  upstream = null;
  await type(page, "What is 5 + 6?");
  await page.locator(".error:visible", { hasText: "The server does not answer" }).waitFor();
  upstream = own.url;
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator(".written", { hasText: "11" }).waitFor();
  await checks(front.url);
  front.close();
  own.stop();
});

test("a model that is being loaded shows how far it is", async () => {
  let loading = false;
  let loaded;
  const front = await scripted(server.url, async (request, response) => {
    if (request.url === "/health") return json(response, 200, { status: "ok", running: 0, waiting: 1, models: [{ name: "demo", state: loading ? "loading" : "loaded", fraction: loading ? 0.43 : undefined, bytes: 3_300_000, in_use: loading }] });
    if (request.url !== "/v1/chat/completions") return false;
    loading = true;
    await new Promise((resolve) => (loaded = resolve));
    loading = false;
    return false;
  });
  const { open, checks } = await visitor();
  const page = await open(front.url);
  assert.equal(await page.locator("#memory").innerText(), "3.30\u00a0MB");
  await type(page, "What is 17 + 25?");
  await page.locator(".waiting", { hasText: /Loading demo 43% of 3.30\sMB/ }).waitFor();
  await page.locator("#loading", { hasText: "43%" }).waitFor();
  assert.equal(await page.locator("#loading progress").evaluate((bar) => bar.value), 0.43);
  loaded();
  await page.locator(".written", { hasText: "42" }).waitFor();
  await page.locator("#loading").waitFor({ state: "hidden" });
  await checks(front.url);
  front.close();
});

test("a page that was closed says that its answer was not finished", async () => {
  const front = await scripted(server.url, async (request, response) => {
    if (request.url !== "/v1/chat/completions") return false;
    const stream = chunks(response);
    stream.say("Half of");
    return true;
  });
  const { open, checks } = await visitor();
  const page = await open(front.url);
  await type(page, "hello");
  await page.locator(".written", { hasText: "Half of" }).waitFor();
  await page.waitForTimeout(1000);
  await reload(page);
  await page.locator(".written", { hasText: "Half of" }).waitFor();
  await settled(page);
  assert.match(await page.locator(".figures").innerText(), /the page was closed while this was written/);
  await checks(front.url);
  front.close();
});
