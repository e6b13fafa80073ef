// The page: what is shown, by the address's fragment, and what the keyboard does.

import { onKeyWanted } from "./api.js";
import * as chat from "./chat.js";
import { askForKey, showSettings, showShortcuts } from "./dialogs.js";
import { byId, icon, say } from "./dom.js";
import * as models from "./models.js";
import * as operator from "./operator.js";
import { showList } from "./sidebar.js";
import * as store from "./store.js";

let conversations = [];
const field = byId("field");
/** Fragments that no element has for its id, or the browser would scroll to it. */
const OPERATOR = "#/operator";

function redraw() {
  document.title = `${isChat() ? chat.current()?.title || "New conversation" : "Operator"} · ml`;
  showList(conversations, isChat() ? chat.current()?.id : null, chat.isWriting, { rename, remove, redraw });
}

// What is shown or being written here stays the object that it is, but for `changedId`, which another tab has changed.
async function reload(changedId) {
  const kept = await store.all();
  conversations = kept.map((one) => (one.id === changedId ? one : (chat.live(one.id) ?? one)));
  redraw();
}

// Puts a conversation in its place among the others.
function changed(conversation) {
  conversations = [conversation, ...conversations.filter(({ id }) => id !== conversation.id)].sort((a, b) => b.updated - a.updated);
  if (conversation === chat.current()) {
    byId("view-chat").href = `#/c/${conversation.id}`;
    if (location.hash !== OPERATOR) history.replaceState(null, "", `#/c/${conversation.id}`);
  }
  redraw();
}

async function rename(id, title) {
  const one = conversations.find((conversation) => conversation.id === id);
  if (!one) return redraw();
  one.title = title;
  await store.keep(structuredClone(one));
  redraw();
}

async function remove(id) {
  chat.abandon(id);
  await store.forget(id);
  conversations = conversations.filter((conversation) => conversation.id !== id);
  if (chat.current().id === id) start();
  redraw();
  say("Deleted.");
}

function start() {
  closeMenu();
  if (location.hash !== "" && location.hash !== "#") history.pushState(null, "", location.pathname);
  route();
}

function route() {
  const wanted = location.hash;
  const isOperator = wanted === OPERATOR;
  if (!chat.current()) chat.show(chat.fresh());
  byId("chat").hidden = isOperator;
  byId("operator").hidden = !isOperator;
  byId("settings").hidden = isOperator;
  document.body.classList.toggle("operating", isOperator);
  byId("view-chat").ariaCurrent = isOperator ? null : "page";
  byId("view-operator").ariaCurrent = isOperator ? "page" : null;
  operator.show(isOperator);
  if (!isOperator) {
    const found = conversations.find((conversation) => wanted === `#/c/${conversation.id}`);
    if (found && found.id !== chat.current().id) chat.show(found);
    else if (!found && chat.current().messages.length > 0) chat.show(chat.fresh());
    if (matchMedia("(pointer: fine)").matches) field.focus();
  }
  const { id, messages } = chat.current();
  byId("view-chat").href = messages.length > 0 ? `#/c/${id}` : "#";
  closeMenu();
  redraw();
}

function step(by) {
  const at = conversations.findIndex(({ id }) => id === chat.current().id);
  const next = conversations[at < 0 ? 0 : at + by];
  if (next) location.hash = `#/c/${next.id}`;
}

const THEMES = ["system", "light", "dark"];
let theme = document.documentElement.dataset.theme ?? "system";

function showTheme() {
  const button = byId("theme");
  button.replaceChildren(icon(theme), { system: "As the system", light: "Light", dark: "Dark" }[theme]);
  button.setAttribute("aria-label", `Colours: ${button.textContent}`);
}

function nextTheme() {
  theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("ml-theme", theme);
  } catch {
    // It lasts as long as the page.
  }
  showTheme();
}

function openMenu() {
  document.body.classList.add("menu");
  byId("menu").setAttribute("aria-expanded", "true");
  byId("close-menu").focus();
}

function closeMenu() {
  if (!document.body.classList.contains("menu")) return;
  document.body.classList.remove("menu");
  byId("menu").setAttribute("aria-expanded", "false");
}

const settings = () => showSettings(chat.current().settings, chat.keepCurrent);
const isChat = () => !byId("chat").hidden;
const toggleOperator = () => {
  location.hash = location.hash === OPERATOR ? byId("view-chat").hash : OPERATOR;
};

const ALT = { KeyN: start, KeyR: () => isChat() && chat.answerAgain(), KeyS: () => isChat() && settings(), KeyO: toggleOperator, KeyT: nextTheme, KeyH: showShortcuts, ArrowUp: () => step(-1), ArrowDown: () => step(1) };

addEventListener("keydown", (event) => {
  if (event.isComposing || event.defaultPrevented) return;
  if (event.altKey && !event.ctrlKey && !event.metaKey && ALT[event.code]) {
    event.preventDefault();
    if (!document.querySelector("dialog[open]")) ALT[event.code]();
  } else if (event.key === "Escape" && !document.querySelector("dialog[open]")) {
    if (document.body.classList.contains("menu")) {
      closeMenu();
      byId("menu").focus();
    } else if (isChat()) chat.stop();
  }
});

field.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
    event.preventDefault();
    chat.send();
  } else if (event.key === "ArrowUp" && !event.altKey && field.value === "" && chat.editLast()) event.preventDefault();
});

byId("new").addEventListener("click", start);
byId("theme").addEventListener("click", nextTheme);
byId("shortcuts").addEventListener("click", showShortcuts);
byId("settings").addEventListener("click", settings);
byId("menu").addEventListener("click", openMenu);
byId("close-menu").addEventListener("click", closeMenu);
byId("shade").addEventListener("click", closeMenu);
addEventListener("hashchange", route);
addEventListener("popstate", route);

onKeyWanted(askForKey);
chat.onChange(changed);
models.onChoice(() => {});
store.onChange(async (id) => {
  // Another tab's conversation; one that is shown here and not being written is read again.
  if (chat.isWriting(id)) return;
  await reload(id);
  const found = conversations.find((conversation) => conversation.id === id);
  if (found && chat.current().id === id) chat.show(found, true);
});
showTheme();

const keeps = await store.open();
await reload();
route();
if (!keeps) {
  byId("notice").textContent = "This browser keeps nothing for this page: conversations last until it is closed.";
  byId("notice").hidden = false;
}
document.body.classList.add("ready");
async function connect() {
  try {
    await models.list();
    await models.look();
    byId("notice").hidden ||= keeps;
  } catch (error) {
    const again = document.createElement("button");
    again.textContent = "Try again";
    again.addEventListener("click", () => {
      byId("notice").hidden = true;
      connect();
    });
    byId("notice").replaceChildren(error.message, " ", again);
    byId("notice").hidden = false;
  }
}
await connect();
