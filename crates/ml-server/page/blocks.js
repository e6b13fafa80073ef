// Markdown's blocks: from lines to a tree of plain objects. A part of CommonMark, and GitHub's tables.
//
// Markup of HTML is text here. Whatever is half there, as in an answer that is still being written, is shown as far
// as it goes.

const FENCE = /^( {0,3})(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s+(.*?))?(?:\s+#+)?\s*$/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(\s+|$)/;
const DIVIDER = /^ {0,3}\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const DEEPEST = 12;

const isBlank = (line) => line.trim() === "";
const indent = (line) => line.length - line.trimStart().length;
const begins = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);

/** The blocks of a text. Each has `type`, what it is made of, and `raw`, the lines that it came from. */
export function blocks(text) {
  return parse(text.replaceAll("\r\n", "\n").replaceAll("\t", "    ").split("\n"), 0);
}

function parse(lines, depth) {
  const found = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at])) {
      at += 1;
      continue;
    }
    const [block, end] = one(lines, at, depth);
    block.raw = lines.slice(at, end).join("\n");
    found.push(block);
    at = end;
  }
  return found;
}

// The block that begins at a line, and the line behind it.
function one(lines, at, depth) {
  const line = lines[at];
  if (FENCE.test(line)) return fence(lines, at);
  const heading = HEADING.exec(line);
  if (heading) return [{ type: "heading", level: heading[1].length, text: heading[2] ?? "" }, at + 1];
  if (RULE.test(line)) return [{ type: "rule" }, at + 1];
  if (depth < DEEPEST && QUOTE.test(line)) return quote(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return list(lines, at, depth);
  if (indent(line) >= 4) return indented(lines, at);
  if (line.includes("|") && at + 1 < lines.length && lines[at + 1].includes("-") && DIVIDER.test(lines[at + 1])) {
    const table = tableAt(lines, at);
    if (table) return table;
  }
  let end = at + 1;
  while (end < lines.length && !isBlank(lines[end]) && !begins(lines[end])) end += 1;
  return [{ type: "paragraph", text: lines.slice(at, end).map((text) => text.trimStart()).join("\n") }, end];
}

function fence(lines, at) {
  const [, space, marks, info] = FENCE.exec(lines[at]);
  const closes = (line) => indent(line) < 4 && line.trim().length >= marks.length && line.trim().replaceAll(marks[0], "") === "";
  let end = at + 1;
  while (end < lines.length && !closes(lines[end])) end += 1;
  const inner = lines.slice(at + 1, end).map((line) => line.slice(Math.min(indent(line), space.length)));
  const language = info.trim().split(/\s+/)[0] ?? "";
  return [{ type: "code", language, text: inner.join("\n") }, Math.min(end + 1, lines.length)];
}

function indented(lines, at) {
  let end = at;
  while (end < lines.length && (isBlank(lines[end]) || indent(lines[end]) >= 4)) end += 1;
  while (isBlank(lines[end - 1])) end -= 1;
  return [{ type: "code", language: "", text: lines.slice(at, end).map((line) => line.slice(4)).join("\n") }, end];
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && !isBlank(lines[end]) && (QUOTE.test(lines[end]) || !begins(lines[end]))) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [{ type: "quote", children: parse(inner, depth + 1) }, end];
}

function list(lines, at, depth) {
  const first = ITEM.exec(lines[at])[2];
  const ordered = /\d/.test(first);
  const same = (mark) => mark.at(-1) === first.at(-1) && /\d/.test(mark) === ordered;
  const items = [];
  let loose = false;
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || !same(item[2]) || RULE.test(lines[end])) break;
    const width = item[0].length > item[1].length + item[2].length + 4 ? item[1].length + item[2].length + 1 : item[0].length;
    const inner = [lines[end].slice(width)];
    let next = end + 1;
    // What is indented belongs to the item; so does a line that goes on with its paragraph.
    while (next < lines.length) {
      const line = lines[next];
      if (isBlank(line)) {
        const after = behindBlanks(lines, next);
        if (after === lines.length || indent(lines[after]) < Math.min(width, 2)) break;
        inner.push("");
        next = after - 1;
      } else if (indent(line) >= Math.min(width, 2)) inner.push(line.slice(Math.min(indent(line), width)));
      else if (!begins(line) && !isBlank(lines[next - 1])) inner.push(line);
      else break;
      next += 1;
    }
    const blank = behindBlanks(lines, next);
    const more = blank < lines.length && ITEM.exec(lines[blank]);
    if (more && same(more[2])) {
      loose ||= blank > next;
      next = blank;
    }
    items.push(parse(inner, depth + 1));
    end = next;
  }
  return [{ type: "list", ordered, start: ordered ? Number.parseInt(first, 10) : 1, loose, items }, end];
}

function behindBlanks(lines, at) {
  while (at < lines.length && isBlank(lines[at])) at += 1;
  return at;
}

function tableAt(lines, at) {
  const head = cells(lines[at]);
  const marks = cells(lines[at + 1]);
  if (head.length !== marks.length) return null;
  const sides = marks.map((mark) => (mark.endsWith(":") ? (mark.startsWith(":") ? "center" : "right") : "left"));
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|") && !isBlank(lines[end])) end += 1;
  const rows = lines.slice(at + 2, end).map((line) => {
    const texts = cells(line);
    return head.map((_, column) => texts[column] ?? "");
  });
  return [{ type: "table", head, sides, rows }, end];
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}
