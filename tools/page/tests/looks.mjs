// Light and dark, a phone's width, the keyboard, and names for a screen reader.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ask, demo, reload, serve, visitor } from "../harness.mjs";

let server;
before(async () => {
  server = await serve("--model", demo);
});
after(() => server.stop());

const paper = (page) => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

test("it is light and dark as the system, or as it was told", async () => {
  const { open, checks } = await visitor({ colorScheme: "dark" });
  const page = await open(server.url);
  const dark = await paper(page);
  await page.emulateMedia({ colorScheme: "light" });
  const light = await paper(page);
  assert.notEqual(dark, light);
  await page.keyboard.press("Alt+KeyT");
  await page.keyboard.press("Alt+KeyT");
  assert.equal(await paper(page), dark);
  await reload(page);
  assert.equal(await paper(page), dark);
  assert.equal(await page.locator("#theme").innerText(), "Dark");
  await page.click("#theme");
  assert.equal(await paper(page), light);
  await checks(server.url);
});

// WCAG's contrast of two colours as browsers write them.
function contrast(one, other) {
  const light = (colour) => {
    const parts = colour.match(/[\d.]+/g).slice(0, 3).map((part) => Number(part) / 255);
    const linear = parts.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

test("texts stand out from their ground in both", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const { open, checks } = await visitor({ colorScheme });
    const page = await open(server.url);
    const colours = await page.evaluate(() => {
      const probe = document.body.appendChild(document.createElement("p"));
      const read = (name) => {
        probe.style.color = `var(--${name})`;
        return getComputedStyle(probe).color;
      };
      return Object.fromEntries(["paper", "raised", "sunken", "ink", "soft", "accent", "accent-soft", "on-accent", "wrong", "wrong-soft"].map((name) => [name, read(name)]));
    });
    const pairs = [["ink", "paper"], ["ink", "accent-soft"], ["soft", "paper"], ["soft", "raised"], ["soft", "sunken"], ["accent", "paper"], ["accent", "sunken"], ["on-accent", "accent"], ["wrong", "wrong-soft"], ["wrong", "paper"]];
    for (const [text, ground] of pairs) {
      const ratio = contrast(colours[text], colours[ground]);
      assert.ok(ratio >= 4.5, `${colorScheme}: ${text} on ${ground}: ${ratio}`);
    }
    await checks(server.url);
  }
});

test("at a phone's width nothing is cut off, and the menu opens", async () => {
  const { open, checks } = await visitor({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  const page = await open(server.url);
  await ask(page, "What is 17 + 25?");
  const width = () => page.evaluate(() => Math.max(document.documentElement.scrollWidth, document.querySelector("#scroll").scrollWidth, document.querySelector("#operator").scrollWidth));
  assert.equal(await width(), 360);
  assert.equal(await page.locator("#sidebar").isVisible(), false);
  await page.getByLabel("Open the menu").tap();
  await page.getByRole("link", { name: "Operator" }).tap();
  await page.getByRole("heading", { name: "Operator" }).waitFor();
  assert.equal(await width(), 360);
  await page.locator("#sidebar").waitFor({ state: "hidden" });
  // A finger needs 40 pixels.
  await page.goBack();
  const buttons = await page.locator("button.icon:visible, button.round:visible").evaluateAll((all) => all.filter((button) => !button.closest("article")).map((button) => button.getBoundingClientRect().width));
  assert.ok(buttons.length > 2 && buttons.every((size) => size >= 40), String(buttons));
  await checks(server.url);
});

test("the keyboard does all, and the focus is seen", async () => {
  const { open, checks } = await visitor();
  const page = await open(server.url);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute("aria-label"));
  assert.equal(await focused(), "field");
  await page.keyboard.type("What is");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("17 + 25?");
  assert.equal(await page.locator("#field").inputValue(), "What is\n17 + 25?");
  await page.keyboard.press("Enter");
  await page.locator(".answer footer .tools").waitFor();
  assert.equal(await focused(), "field");
  await page.keyboard.press("Alt+KeyH");
  await page.getByRole("dialog", { name: "Shortcuts" }).waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("dialog[open]").count(), 0);
  await page.keyboard.press("Alt+KeyN");
  assert.equal(await page.locator("#log article").count(), 0);
  await page.keyboard.press("Alt+ArrowDown");
  await page.locator("#log article").first().waitFor();
  await page.keyboard.press("Alt+KeyO");
  await page.getByRole("heading", { name: "Operator" }).waitFor();
  await page.keyboard.press("Alt+KeyO");
  await page.locator("#log article").first().waitFor();
  // Once around by Tab: whatever has the focus shows it.
  const seen = new Set();
  await page.evaluate(() => document.activeElement.blur());
  for (let at = 0; at < 30; at += 1) {
    await page.keyboard.press("Tab");
    const one = await page.evaluate(() => {
      const element = document.activeElement;
      const box = element.closest(".box") ?? element;
      const style = getComputedStyle(box);
      return [element.id || element.textContent.trim() || element.getAttribute("aria-label"), style.outlineStyle !== "none" || style.boxShadow !== "none", element === document.body];
    });
    if (one[2]) continue;
    assert.ok(one[1], `${one[0]} does not show its focus`);
    seen.add(one[0]);
  }
  for (const name of ["new", "view-operator", "model", "settings", "field", "theme", "shortcuts"]) assert.ok(seen.has(name), `${name}: ${[...seen]}`);
  await checks(server.url);
});

test("whatever can be pressed or filled has a name", async () => {
  const { open, checks } = await visitor();
  const page = await open(server.url);
  await ask(page, "What is 17 + 25?");
  await page.keyboard.press("Alt+KeyS");
  const nameless = await page.locator("button, input, textarea, select, a, [role=img], progress:visible").evaluateAll((all) =>
    all
      .filter((element) => !(element.getAttribute("aria-label") || element.textContent.trim() || element.title || element.labels?.length || element.getAttribute("aria-labelledby")))
      .map((element) => element.outerHTML),
  );
  assert.deepEqual(nameless, []);
  await page.keyboard.press("Escape");
  assert.equal(await page.getByRole("log", { name: "Conversation" }).count(), 1);
  assert.equal(await page.getByRole("article", { name: "You" }).count(), 1);
  assert.equal(await page.getByRole("article", { name: "qwen3-demo" }).count(), 1);
  assert.equal(await page.getByRole("main").count(), 1);
  await checks(server.url);
});
