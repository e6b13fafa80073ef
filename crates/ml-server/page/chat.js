// The conversation that is shown: its messages, and sending, stopping, editing and answering again.

import { emptyAnswer, write } from "./answer.js";
import { byId, say } from "./dom.js";
import { answerView, isRunning, progressOf, questionView } from "./message.js";
import * as models from "./models.js";
import * as store from "./store.js";

const log = byId("log");
const scroll = byId("scroll");
const field = byId("field");

/** The conversation that is shown. */
let shown = null;
let views = [];
/** Answers that are being written, by their conversation, which need not be the one that is shown. */
const running = new Map();
let changed = () => {};
/** Whether the end of the log is kept in sight. */
let following = true;

/** `listener` is called when conversations have changed. */
export function onChange(listener) {
  changed = listener;
}

/** The conversation that is shown. */
export const current = () => shown;

/** Whether an answer of this conversation is being written. */
export const isWriting = (id) => running.has(id);

/** A conversation that nothing has been said in. */
export function fresh() {
  return { id: store.newId(), title: "", created: Date.now(), updated: Date.now(), settings: store.recall("ml-settings", {}), messages: [] };
}

/** The conversation of this id, if it is shown or being written. */
export const live = (id) => running.get(id)?.conversation ?? (shown?.id === id ? shown : undefined);

/** Shows a conversation; `elsewhere` is whether another tab may be writing it. */
export function show(conversation, elsewhere = false) {
  // One that is being written is here already, and younger than what was kept.
  shown = running.get(conversation.id)?.conversation ?? conversation;
  if (!running.has(shown.id) && !elsewhere) {
    for (const message of shown.messages) if (message.role === "assistant" && isRunning(message)) message.state = "lost";
  }
  const last = shown.messages.findLast((message) => message.role === "assistant");
  if (last) models.choose(last.model);
  draw();
  toEnd();
}

function draw() {
  views = [];
  log.replaceChildren();
  byId("empty").hidden = shown.messages.length > 0;
  for (const message of shown.messages) append(message);
  buttons();
}

function append(message) {
  const conversation = shown;
  const view =
    message.role === "user"
      ? questionView(message, { edit: (text) => edit(conversation, message, text) })
      : answerView(message, { again: () => again(conversation, message), results: () => results(conversation, message) });
  views.push(view);
  log.append(view.element);
}

function buttons() {
  const writing = running.has(shown.id);
  // The focus is not to be lost with the button that has it.
  const had = document.activeElement === byId("send") || document.activeElement === byId("stop");
  byId("send").hidden = writing;
  byId("stop").hidden = !writing;
  byId("send").disabled = field.value.trim() === "";
  log.setAttribute("aria-busy", String(writing));
  if (had) field.focus();
}

/** Sends what is in the field. */
export function send() {
  const text = field.value.trim();
  if (!text || running.has(shown.id)) return;
  field.value = "";
  fit();
  shown.messages.push({ role: "user", text });
  shown.title ||= text.replace(/\s+/g, " ").slice(0, 80);
  answer(shown);
}

/** Stops the answer of the conversation that is shown; gives whether there was one. */
export function stop() {
  const one = running.get(shown.id);
  one?.abort.abort();
  return Boolean(one);
}

/** Stops the answer of a conversation that goes. */
export function abandon(id) {
  running.get(id)?.abort.abort();
  running.delete(id);
}

/** Begins to edit the last question. */
export function editLast() {
  const at = shown.messages.findLastIndex(({ role }) => role === "user");
  if (at < 0 || running.has(shown.id)) return false;
  views[at].edit();
  return true;
}

/** Answers the last question again. */
export function answerAgain() {
  const last = shown.messages.at(-1);
  if (last?.role === "assistant") again(shown, last);
}

async function edit(conversation, message, text) {
  await halt(conversation);
  conversation.messages.length = conversation.messages.indexOf(message);
  if (conversation.messages.length === 0) conversation.title = text.replace(/\s+/g, " ").slice(0, 80);
  conversation.messages.push({ role: "user", text });
  answer(conversation);
}

async function again(conversation, message) {
  await halt(conversation);
  const at = conversation.messages.indexOf(message);
  if (at < 0) return;
  conversation.messages.length = at;
  answer(conversation);
}

function results(conversation, message) {
  if (running.has(conversation.id)) return;
  for (const call of message.calls) call.result = call.draft ?? "";
  message.answered = true;
  answer(conversation);
}

async function halt(conversation) {
  const one = running.get(conversation.id);
  one?.abort.abort();
  await one?.over;
}

// Has the model answer, and shows what comes.
function answer(conversation) {
  const message = emptyAnswer(models.chosen());
  conversation.messages.push(message);
  const one = { conversation, abort: new AbortController() };
  running.set(conversation.id, one);
  one.over = follow(one, message);
}

async function follow(one, message) {
  const { conversation } = one;
  if (shown === conversation) draw();
  toEnd();
  say("Answering.");
  conversation.updated = Date.now();
  keep(conversation);
  const view = () => (shown === conversation ? views[conversation.messages.indexOf(message)] : undefined);
  let frame = 0;
  let keeping = 0;
  const paint = () => {
    frame = 0;
    view()?.update();
  };
  const watching = watchLoading(message, paint);
  await write(message, conversation, one.abort.signal, () => {
    // A page that is not seen is painted when it is.
    if (!frame) frame = requestAnimationFrame(paint);
    keeping ||= setTimeout(() => {
      keeping = 0;
      if (running.get(conversation.id) === one) keep(conversation);
    }, 500);
  });
  clearInterval(watching);
  clearTimeout(keeping);
  cancelAnimationFrame(frame);
  if (running.get(conversation.id) === one) {
    running.delete(conversation.id);
    conversation.updated = Date.now();
    keep(conversation);
  }
  paint();
  if (shown === conversation) buttons();
  say(ending(message));
  models.look();
  models.list().catch(() => {});
}

function ending(message) {
  if (message.state === "failed") return `That did not work. ${message.error.text}`;
  if (message.state === "stopped") return "Stopped.";
  return message.text.length > 600 ? "The answer is there." : `The answer is there: ${message.text}`;
}

// While nothing has come, tells what the server does.
function watchLoading(message, paint) {
  return setInterval(async () => {
    if (message.state !== "waiting" && message.state !== "reading") return;
    const told = await models.health();
    const model = told?.models?.find(({ name }) => name === message.model);
    const loading = model && progressOf(model);
    const before = message.state === "waiting" && told?.waiting > 1 ? `Waiting among ${told.waiting}` : undefined;
    message.progress = loading ?? before;
    if (loading) models.look();
    paint();
  }, 500);
}

function keep(conversation) {
  if (!conversation.messages.length) return;
  store.keep(structuredClone(conversation)).catch(() => {
    byId("notice").textContent = "This browser has no room left for conversations: the newest messages last as long as the page.";
    byId("notice").hidden = false;
  });
  changed(conversation);
}

/** Keeps what was changed in a conversation, such as its settings. */
export const keepCurrent = () => keep(shown);

function toEnd() {
  following = true;
  byId("newest").hidden = true;
  scroll.scrollTop = scroll.scrollHeight;
}

/** As high as its text, up to what the style allows. */
export function fit() {
  field.style.height = "auto";
  field.style.height = `${field.scrollHeight}px`;
  buttons();
}

scroll.addEventListener("scroll", () => {
  following = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 48;
  byId("newest").hidden = following;
});
byId("newest").addEventListener("click", toEnd);
new ResizeObserver(() => following && toEnd()).observe(log);
field.addEventListener("input", fit);
byId("send").addEventListener("click", send);
byId("stop").addEventListener("click", stop);
// What was written by then is there after a reload.
addEventListener("pagehide", () => {
  for (const { conversation } of running.values()) keep(conversation);
});
