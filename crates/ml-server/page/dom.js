// Elements without markup: whatever a model or a user wrote becomes a text node and nothing else.

/** The element of an id that `index.html` has. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element. Properties that begin with `on` are listeners, `class` and names with a dash are attributes, and
 * the rest are properties; children are elements, or texts.
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class" || name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value === true ? "" : value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** A new element of SVG, all properties as attributes. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** One of the icons of `index.html`. */
export function icon(name) {
  return svg("svg", { "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));
}

/** A button with an icon and a name. */
export function iconButton(name, label, onclick, extra = {}) {
  return el("button", { class: "icon", type: "button", title: label, "aria-label": label, onclick, ...extra }, icon(name));
}

/** A button that copies what `text` gives, and says so. */
export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    if (!(await copy(text()))) return say("The browser does not let this page copy.");
    button.replaceChildren(icon("done"));
    say("Copied.");
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages that come over plain HTTP from another machine have no clipboard, but for this older way.
    const field = el("textarea", { value: text, class: "hidden", readOnly: true });
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

/** Has a screen reader say something, once it is quiet. */
export function say(text) {
  byId("status").textContent = text;
}

/** Bytes as people read them, in powers of ten. */
export function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (count >= 999.5 && at + 1 < units.length) {
    count /= 1000;
    at += 1;
  }
  return `${at === 0 ? Math.round(count) : digits(count)}\u00a0${units[at]}`;
}

/** A number with about three digits. */
export function digits(number) {
  if (number === 0) return "0";
  if (number >= 100) return Math.round(number).toLocaleString("en");
  return number >= 10 ? number.toFixed(1) : number.toFixed(2);
}

/** Seconds as people read them. */
export function seconds(time) {
  return time < 0.9995 ? `${Math.round(time * 1000)}\u00a0ms` : `${digits(time)}\u00a0s`;
}
