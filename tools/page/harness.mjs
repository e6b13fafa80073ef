// What the tests share: `ml serve`, a browser, and a page that is watched.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "../..");
const ml = process.env.ML ?? path.join(root, "target/debug/ml");
export const demo = path.join(root, "assets/models/qwen3-demo");

const servers = new Set();
let browser;
let folder;

/** Starts `ml serve` with these arguments; gives its address, and what ends it. */
export async function serve(...args) {
  const child = spawn(ml, ["serve", "--port", "0", "--device", "cpu", ...args], { stdio: ["ignore", "ignore", "pipe"] });
  servers.add(child);
  const said = [];
  for await (const line of createInterface({ input: child.stderr })) {
    said.push(line);
    const found = /^talk to it at (http:\/\/\S+)\/$/.exec(line);
    if (found) {
      child.stderr.resume();
      return { url: found[1], stop: () => (servers.delete(child), child.kill("SIGKILL")) };
    }
  }
  throw new Error(`ml serve ended: ${said.join("\n")}`);
}

/** The demo model with a context in which an answer takes as long as a test wants. */
export function endless() {
  folder = mkdtempSync(path.join(tmpdir(), "page-"));
  const dir = path.join(folder, "endless");
  cpSync(demo, dir, { recursive: true });
  const config = JSON.parse(readFileSync(path.join(dir, "config.json"), "utf8"));
  writeFileSync(path.join(dir, "config.json"), JSON.stringify({ ...config, max_position_embeddings: 1 << 18 }));
  return dir;
}

export async function launch() {
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
}

export async function close() {
  await browser?.close();
  for (const child of servers) child.kill("SIGKILL");
  if (folder) rmSync(folder, { recursive: true, force: true });
}

/** A browser of its own, without a past. `checks()` must hold at the end of a test. */
export async function visitor(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 760 }, ...options });
  const wrong = [];
  const origins = new Set();
  await context.addInitScript(() => {
    globalThis.violations = [];
    addEventListener("securitypolicyviolation", (event) => globalThis.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
  });
  const open = async (url) => {
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    page.on("pageerror", (error) => wrong.push(String(error.stack)));
    page.on("console", (message) => {
      // A status that a test has asked for is no error of the page.
      if (message.type() === "error" && !/Failed to load resource/.test(message.text())) wrong.push(message.text());
    });
    page.on("request", (request) => origins.add(new URL(request.url()).origin));
    await page.goto(url);
    await page.waitForSelector("body.ready");
    return page;
  };
  const checks = async (...allowed) => {
    for (const page of context.pages()) wrong.push(...(await page.evaluate(() => globalThis.violations)));
    assert.deepEqual(wrong, []);
    assert.deepEqual([...origins].filter((origin) => !allowed.includes(origin) && origin !== "null"), []);
    await context.close();
  };
  return { context, open, checks };
}

/** Loads the page again, until it is there. */
export async function reload(page) {
  await page.reload();
  await page.waitForSelector("body.ready");
}

/** Types a message and sends it. */
export async function type(page, text) {
  await page.fill("#field", text);
  await page.press("#field", "Enter");
}

/** Waits until nothing is being written. */
export async function settled(page) {
  await page.waitForSelector("#stop", { state: "hidden" });
}

/** Types a message, and gives the answer's text. */
export async function ask(page, text) {
  await type(page, text);
  await settled(page);
  return page.locator(".written").last().innerText();
}

/** What JSON of a path says, asked from here. */
export async function json(url, headers = {}) {
  return (await fetch(url, { headers })).json();
}

/** Waits until something is so. */
export async function until(what, so) {
  const since = Date.now();
  while (!(await so())) {
    if (Date.now() - since > 60_000) throw new Error(`${what} does not come`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
