// Shows a text of Markdown. No markup is ever parsed: elements are made one by one, and their texts are text nodes.

import { blocks } from "./blocks.js";
import { copyButton, el } from "./dom.js";
import { inline } from "./inline.js";

/** What was shown in a container, so that an answer that grows changes its last blocks only. */
const shown = new WeakMap();

/** Shows `text` in `container`, which nobody else changes. */
export function markdown(container, text) {
  const before = shown.get(container) ?? [];
  const now = asJson(text) ?? blocks(text);
  let same = 0;
  while (same < before.length && same < now.length && equal(before[same], now[same])) same += 1;
  while (container.childNodes.length > same) container.lastChild.remove();
  for (const block of now.slice(same)) container.append(render(block));
  shown.set(container, now);
}

const equal = (a, b) => a.raw === b.raw && a.type === b.type;

// An answer that is JSON is shown as that.
function asJson(text) {
  const trimmed = text.trim();
  if (!/^[{[]/.test(trimmed) || !/[}\]]$/.test(trimmed)) return null;
  const pretty = prettyJson(trimmed);
  return pretty === null ? null : [{ type: "code", language: "json", text: pretty, raw: text }];
}

/** JSON with line breaks; null for what is none. */
export function prettyJson(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

/** A block of code with a button that copies it. */
export function codeBlock(text, language) {
  const name = /^[\w+#.-]{1,24}$/.test(language) ? language : "";
  const head = el("div", { class: "code-head" }, el("span", {}, name || "text"), copyButton("Copy the code", () => text));
  const code = el("code", {}, text);
  return el("figure", { class: "code" }, head, el("pre", { tabIndex: 0, role: "region", "aria-label": name ? `Code, ${name}` : "Code" }, code));
}

function render(block) {
  switch (block.type) {
    case "heading":
      // A page has its own first headings.
      return inlined(`h${Math.min(block.level + 2, 6)}`, block.text);
    case "code":
      return codeBlock(block.text, block.language);
    case "rule":
      return el("hr");
    case "quote":
      return el("blockquote", {}, ...block.children.map(render));
    case "list":
      return list(block);
    case "table":
      return table(block);
    default:
      return inlined("p", block.text);
  }
}

function inlined(tag, text, properties = {}) {
  const element = el(tag, properties);
  inline(element, text);
  return element;
}

function list(block) {
  const items = block.items.map((children) => {
    const item = el("li");
    for (const [at, child] of children.entries()) {
      if (child.type === "paragraph" && !block.loose) {
        if (at > 0) item.append(" ");
        inline(item, task(item, child.text));
      } else item.append(render(child));
    }
    return item;
  });
  return block.ordered ? el("ol", { start: block.start }, ...items) : el("ul", {}, ...items);
}

// GitHub's lists of tasks.
function task(item, text) {
  const found = /^\[([ xX])\]\s+/.exec(text);
  if (!found) return text;
  item.classList.add("task");
  item.append(el("span", { class: "box", role: "img", "aria-label": found[1] === " " ? "open" : "done" }, found[1] === " " ? "☐ " : "☑ "));
  return text.slice(found[0].length);
}

function table(block) {
  const cell = (tag, text, column) => inlined(tag, text, { class: `to-${block.sides[column]}` });
  const head = el("tr", {}, ...block.head.map((text, column) => cell("th", text, column)));
  const rows = block.rows.map((row) => el("tr", {}, ...row.map((text, column) => cell("td", text, column))));
  const whole = el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows));
  return el("div", { class: "table", tabIndex: 0, role: "region", "aria-label": "Table" }, whole);
}
