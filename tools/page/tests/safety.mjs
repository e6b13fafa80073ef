// What a model or a user writes stays text, and a key is asked for and kept to this tab.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, demo, reload, serve, settled, type, visitor } from "../harness.mjs";
import { chunks, scripted } from "../scripted.mjs";

let server;
before(async () => {
  server = await serve("--model", demo, "--api-key", "k1");
});
after(() => server.stop());

const EVIL = [
  "<img src=x onerror=globalThis.hit=1>",
  "<script>globalThis.hit=1</script>",
  "<svg/onload=globalThis.hit=1>",
  "<iframe src=javascript:parent.hit=1></iframe>",
  "[press](javascript:globalThis.hit=1)",
  "[press](JaVaScRiPt:globalThis.hit=1)",
  "[press](data:text/html,<script>globalThis.hit=1</script>)",
  "[press](&#106;avascript:globalThis.hit=1)",
  "![picture](https://evil.example/x.png)",
  "<https://evil.example/\" onclick=globalThis.hit=1>",
  "[<img src=x onerror=globalThis.hit=1>](https://evil.example/)",
  "`<img src=x onerror=globalThis.hit=1>`",
  "```<img/src=x/onerror=globalThis.hit=1>\n<img src=x onerror=globalThis.hit=1>\n```",
  "| <img src=x onerror=globalThis.hit=1> | b |\n| - | - |\n| <b>x</b> | c |",
  "> - <img src=x onerror=globalThis.hit=1>",
].join("\n\n");

test("markup of a model, of a user and of a tool stays text", async () => {
  const front = await scripted(server.url, async (request, response) => {
    if (request.url !== "/v1/chat/completions") return false;
    const stream = chunks(response);
    stream.say({ reasoning_content: EVIL });
    stream.say(EVIL);
    const evil = "<img src=x onerror=globalThis.hit=1>";
    stream.say({ tool_calls: [{ index: 0, id: evil, type: "function", function: { name: evil, arguments: JSON.stringify({ evil }) } }] });
    stream.end("tool_calls");
    return true;
  });
  const { context, open, checks } = await visitor();
  await context.addInitScript(() => sessionStorage.setItem("ml-key", "k1"));
  const page = await open(front.url);
  await type(page, EVIL);
  await settled(page);
  const look = async () => {
    await page.locator("summary").click();
    await page.waitForTimeout(200);
    assert.equal(await page.evaluate(() => globalThis.hit), undefined);
    assert.equal(await page.locator("#log :is(img, script, iframe, object, embed, style, link, form, svg:not([aria-hidden]))").count(), 0);
    const links = await page.locator("#log a").evaluateAll((all) => all.map((link) => link.protocol));
    assert.deepEqual([...new Set(links)], ["https:"]);
    const handlers = await page.locator("#log *").evaluateAll((all) => all.filter((element) => [...element.attributes].some(({ name }) => name.startsWith("on"))).length);
    assert.equal(handlers, 0);
    assert.match(await page.locator(".said").innerText(), /<img src=x onerror=globalThis.hit=1>/);
    assert.match(await page.locator(".written").innerText(), /<script>globalThis.hit=1<\/script>/);
    assert.match(await page.locator("#conversations").innerText(), /<img src=x/);
  };
  await look();
  await reload(page);
  await look();
  await checks(front.url);
  front.close();
});

test("strings that could take a parser long do not", async () => {
  const texts = ["*".repeat(50_000), "[".repeat(50_000), "`".repeat(50_000), "*a ".repeat(20_000), "_a*b~~".repeat(5_000), "> ".repeat(5_000), "- ".repeat(5_000), "![](".repeat(10_000), "<https://".repeat(10_000), "| ".repeat(20_000) + "\n" + "|-".repeat(20_000), `${"[".repeat(900)}](`.repeat(50), `- a\n${"\n".repeat(50_000)}b`, "a\n- ".repeat(10_000), `${"|a".repeat(300)}\n${"|-".repeat(300)}\n${`${"|".repeat(300)}\n`.repeat(100)}`];
  const { open, checks } = await visitor();
  const page = await open(server.url);
  await page.getByRole("button", { name: "Not now" }).click();
  const times = await page.evaluate(async (all) => {
    const { markdown } = await import("/page/markdown.js");
    return all.map((text) => {
      const since = performance.now();
      markdown(document.createElement("div"), text);
      return performance.now() - since;
    });
  }, texts);
  times.forEach((time, at) => assert.ok(time < 5000, `${texts[at].slice(0, 8)}: ${time} ms`));
  await checks(server.url);
});

test("a key is asked for, and kept to this tab", async () => {
  const { context, open, checks } = await visitor();
  const page = await open(server.url);
  await page.getByRole("dialog", { name: "This server asks for a key" }).waitFor();
  await page.getByLabel("Key", { exact: true }).fill("wrong");
  await page.keyboard.press("Enter");
  await page.getByText("The server does not know this key.").waitFor();
  await page.getByLabel("Key", { exact: true }).fill("k1");
  await page.getByRole("button", { name: "Use it" }).click();
  assert.equal(await ask(page, "What is 17 + 25?"), "42");
  await reload(page);
  await page.waitForFunction(() => !document.querySelector("#model").disabled);
  assert.equal(await page.locator("dialog[open]").count(), 0);
  const kept = await page.evaluate(() => JSON.stringify({ ...localStorage }));
  assert.ok(!kept.includes("k1"), kept);
  // Another tab has its own.
  const other = await open(server.url);
  await other.getByRole("button", { name: "Not now" }).click();
  await other.locator("#notice", { hasText: "asks for a key" }).waitFor();
  await type(other, "hello");
  await other.getByRole("button", { name: "Not now" }).click();
  await other.locator(".error:visible", { hasText: "asks for a key" }).waitFor();
  assert.ok(context.pages().length === 2);
  await checks(server.url);
});

test("scripts that are not the page's, eval, and markup from a text are refused", async () => {
  const { context, open } = await visitor();
  const page = await open(server.url);
  // What a debugger evaluates may do all that; what a timer calls is the page's own.
  const did = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const name = (work) => {
          try {
            return String(work());
          } catch (error) {
            return error.name;
          }
        };
        setTimeout(() => {
          const markup = name(() => (document.createElement("div").innerHTML = "<b>x</b>"));
          const evil = name(() => new Function("return 1")());
          const script = name(() => document.body.append(Object.assign(document.createElement("script"), { text: "globalThis.hit = 1" })));
          setTimeout(() => resolve({ markup, evil, script, hit: globalThis.hit }), 100);
        });
      }),
  );
  assert.equal(did.markup, "TypeError");
  assert.equal(did.evil, "EvalError");
  assert.equal(did.hit, undefined);
  assert.ok((await page.evaluate(() => globalThis.violations)).length > 0);
  await context.close();
});

test("no other page can frame this one", async () => {
  const { context } = await visitor();
  const page = await context.newPage();
  await page.route("http://other.example/", (route) => route.fulfill({ contentType: "text/html", body: `<iframe src="${server.url}/"></iframe>` }));
  await page.goto("http://other.example/");
  await page.waitForTimeout(300);
  const inside = await page.frames()[1].evaluate(() => document.querySelector("#field") !== null).catch(() => false);
  assert.equal(inside, false);
  await context.close();
});
