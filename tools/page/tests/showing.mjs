// What answers may be made of: thoughts, calls of tools, JSON, Markdown. The answers are written down here.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, demo, reload, serve, settled, type, visitor } from "../harness.mjs";
import { chunks, scripted } from "../scripted.mjs";

let server;
let front;
const asked = [];
let thought;
const scripts = {
  weather(stream) {
    stream.say({ reasoning_content: "A tool **knows**." });
    stream.say({ tool_calls: [{ index: 0, id: "c0", type: "function", function: { name: "get_weather", arguments: "" } }] });
    stream.say({ tool_calls: [{ index: 0, function: { arguments: '{"city":' } }] });
    stream.say({ tool_calls: [{ index: 0, function: { arguments: ' "Lisbon"}' } }] });
    stream.end("tool_calls");
  },
  json(stream) {
    stream.say('{"sum": 42, ');
    stream.say('"terms": [17, 25]}');
    stream.end();
  },
  async thinking(stream) {
    stream.say({ reasoning: "Hm" });
    await new Promise((resolve) => (thought = resolve));
    stream.say("So it is.");
    stream.end();
  },
  async prose(stream) {
    const text = "# Title\n\nSome *soft* and **loud** words, `code`, ~~gone~~, snake_case_word, 2 * 3 * 4.\n\n1. one\n2. two\n   - inner\n\n| a | b |\n| - | -: |\n| 1 | `x` |\n\n> said\n\n```js\nlet x = '<b>';\n```\n\nSee [here](https://example.org/a_(b)) or https://example.org/x.";
    // Every piece of it must do while it is half there.
    for (let at = 0; at < text.length; at += 7) stream.say(text.slice(at, at + 7));
    stream.end();
  },
};
before(async () => {
  server = await serve("--model", demo);
  front = await scripted(server.url, async (request, response, body) => {
    if (request.url !== "/v1/chat/completions") return false;
    const sent = JSON.parse(body);
    asked.push(sent);
    const stream = chunks(response);
    const script = scripts[sent.messages.at(-1).content];
    if (script) await script(stream);
    else {
      stream.say("It is sunny.");
      stream.end();
    }
    return true;
  });
});
after(() => {
  front.close();
  server.stop();
});

test("thoughts are folded, and calls are shown and given results", async () => {
  const { open, checks } = await visitor();
  const page = await open(front.url);
  await type(page, "weather");
  await settled(page);
  const thoughts = page.locator(".thoughts");
  assert.equal(await thoughts.getAttribute("open"), null);
  await thoughts.locator("summary").click();
  assert.equal(await thoughts.locator(".prose strong").innerText(), "knows");
  assert.equal(await page.locator(".call h3 code").innerText(), "get_weather");
  assert.equal(await page.locator(".call pre").innerText(), '{\n  "city": "Lisbon"\n}');
  await page.getByLabel("Result of get_weather").fill('{"sky": "clear"}');
  await page.getByRole("button", { name: "Send the result" }).click();
  await settled(page);
  assert.equal(await page.locator(".written").last().innerText(), "It is sunny.");
  assert.deepEqual(asked.at(-1).messages, [
    { role: "user", content: "weather" },
    { role: "assistant", content: "", reasoning_content: "A tool **knows**.", tool_calls: [{ id: "c0", type: "function", function: { name: "get_weather", arguments: '{"city": "Lisbon"}' } }] },
    { role: "tool", tool_call_id: "c0", content: '{"sky": "clear"}' },
  ]);
  await reload(page);
  assert.deepEqual(await page.locator(".call pre").allInnerTexts(), ['{\n  "city": "Lisbon"\n}', '{\n  "sky": "clear"\n}']);
  await checks(front.url);
});

test("a thought is announced while it is thought", async () => {
  const { open, checks } = await visitor();
  const page = await open(front.url);
  await type(page, "thinking");
  await page.locator("summary", { hasText: "Thinking…" }).waitFor();
  thought();
  await page.locator("summary", { hasText: "Thoughts" }).waitFor();
  await settled(page);
  await checks(front.url);
});

test("JSON is shown as JSON", async () => {
  const { open, checks } = await visitor();
  const page = await open(front.url);
  await type(page, "json");
  await settled(page);
  assert.equal(await page.locator(".answer pre").innerText(), '{\n  "sum": 42,\n  "terms": [\n    17,\n    25\n  ]\n}');
  await checks(front.url);
});

test("Markdown is set, and code is copied", async () => {
  const { context, open, checks } = await visitor();
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: front.url });
  const page = await open(front.url);
  await ask(page, "prose");
  const prose = page.locator(".written");
  assert.equal(await prose.locator("h3").innerText(), "Title");
  assert.equal(await prose.locator("em").innerText(), "soft");
  assert.equal(await prose.locator("strong").innerText(), "loud");
  assert.equal(await prose.locator("del").innerText(), "gone");
  assert.match(await prose.locator("p").first().innerText(), /snake_case_word, 2 \* 3 \* 4\.$/);
  assert.deepEqual(await prose.locator("ol > li").allInnerTexts(), ["one", "two\ninner"]);
  assert.deepEqual(await prose.locator("tr").allInnerTexts(), ["a\tb", "1\tx"]);
  assert.equal(await prose.locator("blockquote").innerText(), "said");
  assert.equal(await prose.locator("pre").innerText(), "let x = '<b>';");
  assert.deepEqual(await prose.locator("a").evaluateAll((links) => links.map((link) => [link.href, link.rel])), [
    ["https://example.org/a_(b)", "noopener noreferrer nofollow"],
    ["https://example.org/x", "noopener noreferrer nofollow"],
  ]);
  await prose.getByLabel("Copy the code").click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "let x = '<b>';");
  assert.equal(await page.locator("#status").textContent(), "Copied.");
  await checks(front.url);
});
