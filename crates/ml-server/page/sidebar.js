// The list of conversations: open, rename, delete.

import { byId, el, iconButton } from "./dom.js";
import { confirm } from "./dialogs.js";

/**
 * Shows the conversations. `actions` has `open(id)`, `rename(id, title)` and `remove(id)`; `isWriting(id)` tells
 * whether one is being written.
 */
export function showList(conversations, current, isWriting, actions) {
  const items = conversations.map((conversation) => item(conversation, conversation.id === current, isWriting(conversation.id), actions));
  byId("conversations").replaceChildren(...items);
}

function item(conversation, isCurrent, writing, actions) {
  const title = conversation.title || "Untitled";
  const link = el("a", { href: `#/c/${conversation.id}`, title, "aria-current": isCurrent ? "page" : null }, title);
  if (writing) link.prepend(el("span", { class: "dot", role: "img", "aria-label": "being written" }));
  const rename = () => {
    const field = el("input", { value: title, "aria-label": "Title", maxLength: 200 });
    let over = false;
    const end = (keep) => {
      if (over) return;
      over = true;
      const now = field.value.trim();
      if (keep && now && now !== title) actions.rename(conversation.id, now);
      else actions.redraw();
    };
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
      event.stopPropagation();
      end(event.key === "Enter");
    });
    field.addEventListener("blur", () => end(true));
    entry.replaceChildren(field);
    field.focus();
    field.select();
  };
  const remove = async () => {
    if (await confirm(`Delete “${title}”? It cannot be brought back.`, "Delete")) actions.remove(conversation.id);
  };
  const entry = el("li", {}, link, el("span", { class: "tools" }, iconButton("edit", `Rename ${title}`, rename), iconButton("delete", `Delete ${title}`, remove)));
  return entry;
}
