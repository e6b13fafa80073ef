// Markdown inside a block: emphasis, code, links. Gives nodes; text becomes text nodes and nothing else.

import { el } from "./dom.js";

const SAFE = /^(https?:\/\/|mailto:)/i;
const BARE = /^https?:\/\/[^\s<>"`]+/i;
const DEEPEST = 8;

/** Appends what a text of Markdown says to `parent`. */
export function inline(parent, text, depth = 0) {
  let plain = "";
  let at = 0;
  // Marks for which there is no end further on, so that none is looked for twice.
  const hopeless = new Set();
  const flush = () => {
    if (plain) parent.append(plain);
    plain = "";
  };
  const put = (node, end) => {
    flush();
    parent.append(node);
    at = end;
  };
  while (at < text.length) {
    const found = depth < DEEPEST && span(text, at, depth, hopeless);
    if (found) {
      put(...found);
    } else if (text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
    } else if (text[at] === "\n") {
      const hard = /(\\| {2,})$/.exec(plain);
      plain = hard ? plain.slice(0, hard.index) : plain;
      if (hard) put(el("br"), at + 1);
      else {
        plain += "\n";
        at += 1;
      }
    } else {
      // A run of one mark that opened nothing is text as a whole.
      const run = /^([*_~`])\1*/.exec(text.slice(at, at + 64));
      const length = run ? run[0].length : 1;
      plain += text.slice(at, at + length);
      at += length;
    }
  }
  flush();
}

// The element that begins at `at`, and where it ends; nothing where it is just a character.
function span(text, at, depth, hopeless) {
  switch (text[at]) {
    case "`":
      return code(text, at, hopeless);
    case "*":
    case "_":
    case "~":
      return emphasis(text, at, depth, hopeless);
    case "!":
      return text[at + 1] === "[" ? link(text, at + 1, depth, hopeless) : null;
    case "[":
      return link(text, at, depth, hopeless);
    case "<": {
      const end = text.indexOf(">", at);
      const address = end < 0 ? "" : text.slice(at + 1, end);
      return SAFE.test(address) && !/\s/.test(address) ? [anchor(address, address), end + 1] : null;
    }
    case "h":
    case "H": {
      if (at > 0 && /[\p{L}\p{N}]/u.test(text[at - 1])) return null;
      const bare = BARE.exec(text.slice(at, at + 2000));
      const address = bare?.[0].replace(/[.,:;!?'*_~)\]}]+$/, "");
      return address && address.length > 8 ? [anchor(address, address), at + address.length] : null;
    }
    default:
      return null;
  }
}

function code(text, at, hopeless) {
  const marks = /^`+/.exec(text.slice(at))[0];
  if (hopeless.has(marks)) return null;
  for (let end = at + marks.length; ; ) {
    end = text.indexOf(marks, end);
    if (end < 0) {
      hopeless.add(marks);
      return null;
    }
    const run = /^`+/.exec(text.slice(end))[0];
    if (run.length === marks.length) {
      const inner = text.slice(at + marks.length, end).replaceAll("\n", " ");
      const padded = inner.length > 2 && inner.startsWith(" ") && inner.endsWith(" ") && inner.trim() !== "";
      return [el("code", {}, padded ? inner.slice(1, -1) : inner), end + marks.length];
    }
    end += run.length;
  }
}

function emphasis(text, at, depth, hopeless) {
  const mark = text[at];
  const run = runAt(text, at);
  const strong = run >= 2;
  if (mark === "~" && run !== 2) return null;
  const before = text[at - 1] ?? " ";
  const after = text[at + run] ?? " ";
  if (/\s/.test(after) || (mark === "_" && /[\p{L}\p{N}]/u.test(before))) return null;
  // Three are both; what is more is text.
  if (run > 3) return null;
  const key = `${mark}${run}`;
  if (hopeless.has(key)) return null;
  for (let end = at + run; end < text.length; end += 1) {
    if (text[end] === "\\") end += 1;
    else if (text[end] === "`") {
      const skipped = code(text, end, hopeless);
      end = skipped ? skipped[1] - 1 : end + runAt(text, end) - 1;
    } else if (text[end] === mark) {
      const length = runAt(text, end);
      const closes = length === run || (length === 3 && run < 3 && end > at + run);
      const word = mark === "_" && /[\p{L}\p{N}]/u.test(text[end + length] ?? " ");
      if (closes && !word && !/\s/.test(text[end - 1]) && end > at + run) {
        const from = length === run ? end : end + length - run;
        const element = el(mark === "~" ? "del" : strong ? "strong" : "em");
        const inner = text.slice(at + run, from);
        inline(run === 3 ? element.appendChild(el("em")) : element, inner, depth + 1);
        return [element, from + run];
      }
      end += length - 1;
    }
  }
  hopeless.add(key);
  return null;
}

function runAt(text, at) {
  let end = at;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

// A picture is shown as a link to it: the page asks nobody but its server for anything.
function link(text, at, depth, hopeless) {
  if (hopeless.has("[")) return null;
  const middle = text.indexOf("](", at);
  if (middle < 0) {
    hopeless.add("[");
    return null;
  }
  const label = text.slice(at + 1, middle);
  if (label.length > 1000 || label.lastIndexOf("[") > label.lastIndexOf("]")) return null;
  const rest = /^\(\s*<?([^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?(?:\s+["'][^\n]*?["'])?\s*\)/.exec(text.slice(middle + 1, middle + 4000));
  if (!rest || !SAFE.test(rest[1])) return null;
  const element = anchor(rest[1], "");
  inline(element, label || rest[1], depth + 1);
  return [element, middle + 1 + rest[0].length];
}

function anchor(address, label) {
  return el("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow", title: label ? undefined : address }, label);
}
