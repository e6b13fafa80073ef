// How a message looks: a question, or an answer with its reasoning, its calls of tools, its figures or its error.

import { bytes, copyButton, digits, el, icon, iconButton, seconds } from "./dom.js";
import { codeBlock, markdown, prettyJson } from "./markdown.js";

/** The view of a question. `actions.edit(text)` is called with its new text. */
export function questionView(message, actions) {
  const text = el("div", { class: "said" }, message.text);
  const tools = el("div", { class: "tools" }, iconButton("edit", "Edit and send again", () => edit()), copyButton("Copy the message", () => message.text));
  const article = el("article", { class: "question", "aria-label": "You" }, text, tools);
  const edit = () => {
    const field = el("textarea", { value: message.text, "aria-label": "Your message" });
    const fit = () => {
      field.style.height = "auto";
      field.style.height = `${field.scrollHeight + 2}px`;
    };
    const send = () => {
      if (field.value.trim()) actions.edit(field.value.trim());
    };
    const close = () => {
      article.replaceChildren(text, tools);
      tools.firstChild.focus();
    };
    field.addEventListener("input", fit);
    field.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && !event.shiftKey) send();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    const buttons = el("div", { class: "buttons" }, el("span", { class: "note" }, "What came after it goes."), el("button", { class: "quiet", type: "button", onclick: close }, "Cancel"), el("button", { class: "solid", type: "button", onclick: send }, "Send"));
    article.replaceChildren(el("div", { class: "editing" }, field, buttons));
    fit();
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  };
  return { element: article, update: () => {}, edit };
}

/** The view of an answer. `actions` has `again()` and `results()`, which sends the results of calls. */
export function answerView(message, actions) {
  const reasoning = el("div", { class: "prose small" });
  const summary = el("span");
  const thoughts = el("details", { class: "thoughts", hidden: true }, el("summary", {}, summary), reasoning);
  const prose = el("div", { class: "prose written" });
  const calls = el("div", { class: "calls" });
  const waiting = el("p", { class: "waiting" }, el("span", { class: "dot", "aria-hidden": "true" }), el("span"));
  const error = el("div", { class: "error", hidden: true });
  const figures = el("p", { class: "figures" });
  const tools = el("div", { class: "tools" }, copyButton("Copy the answer", () => message.text), iconButton("again", "Answer again", () => actions.again()));
  const foot = el("footer", {}, figures, tools);
  const article = el("article", { class: "answer", "aria-label": message.model }, thoughts, prose, calls, waiting, error, foot);

  let told = "";
  const update = () => {
    const running = isRunning(message);
    article.classList.toggle("running", running);
    article.setAttribute("aria-busy", String(running));
    thoughts.hidden = !message.reasoning;
    if (message.reasoning) {
      const thinking = running && !message.text && message.calls.length === 0;
      summary.textContent = thinking ? "Thinking…" : "Thoughts";
      thoughts.classList.toggle("now", thinking);
      markdown(reasoning, message.reasoning.trim());
    }
    markdown(prose, message.text);
    showCalls(calls, message, actions);
    waiting.hidden = !running || Boolean(message.text || message.reasoning || message.calls.length > 0);
    waiting.lastChild.textContent = message.progress ?? (message.state === "reading" ? "Reading" : "Waiting");
    foot.hidden = running && !message.rate;
    tools.hidden = running;
    const now = figuresOf(message);
    if (now !== told) figures.textContent = told = now;
    error.hidden = message.state !== "failed";
    if (message.state === "failed" && error.childNodes.length === 0) error.append(...errorOf(message.error, actions));
  };
  update();
  return { element: article, update };
}

/** Whether more of an answer is to come. */
export function isRunning(message) {
  return message.state === "waiting" || message.state === "reading" || message.state === "writing";
}

function figuresOf(message) {
  const parts = [];
  if (message.state === "stopped") parts.push("stopped");
  if (message.state === "lost") parts.push("the page was closed while this was written");
  if (message.finish === "length") parts.push("cut off at the most tokens");
  const { usage, rate, first } = message;
  if (usage) parts.push(usage.generated === 1 ? "1\u00a0token" : `${usage.generated.toLocaleString("en")}\u00a0tokens`);
  if (rate) parts.push(`${isRunning(message) ? "about " : ""}${digits(rate)}\u00a0tokens/s`);
  if (first !== undefined && !isRunning(message)) parts.push(`first after ${seconds(first)}`);
  if (usage?.cached) parts.push(`${usage.cached.toLocaleString("en")} of ${usage.prompt.toLocaleString("en")} known`);
  return parts.join(" · ");
}

function errorOf(error, actions) {
  const again = el("button", { class: "quiet", type: "button", onclick: () => actions.again() }, icon("again"), "Try again");
  const titles = { queue_full: "The server is full", unreachable: "No connection", shutting_down: "The server is ending", context_length_exceeded: "The conversation is too long", settings: "The settings", model_does_not_fit: "The model does not fit" };
  return [el("p", {}, el("strong", {}, `${titles[error.code] ?? "That did not work"}.`), " ", error.text), again];
}

function showCalls(container, message, actions) {
  for (const [at, call] of message.calls.entries()) {
    if (!call) continue;
    const key = `${call.name}\n${call.args}\n${call.result ?? ""}\n${isRunning(message)}\n${message.answered}`;
    const known = container.children[at];
    if (known?.dataset.key === key) continue;
    const view = callView(call, message, actions);
    view.dataset.key = key;
    if (known) known.replaceWith(view);
    else container.append(view);
  }
}

// A call as what it is: a name, its arguments, and the result, which the user gives where there is none.
function callView(call, message, actions) {
  const view = el("section", { class: "call", "aria-label": `Call of ${call.name}` }, el("h3", {}, el("span", {}, "Call"), el("code", {}, call.name)), codeBlock(prettyJson(call.args) ?? call.args, "json"));
  if (message.answered) view.append(el("p", { class: "label" }, "Result"), codeBlock(prettyJson(call.result ?? "") ?? call.result ?? "", prettyJson(call.result ?? "") ? "json" : ""));
  else if (!isRunning(message)) {
    const field = el("textarea", { rows: 2, value: call.draft ?? "", placeholder: "What the tool gives", "aria-label": `Result of ${call.name}` });
    field.addEventListener("input", () => {
      call.draft = field.value;
    });
    const send = el("button", { class: "quiet", type: "button", onclick: () => actions.results() }, message.calls.length > 1 ? "Send the results" : "Send the result");
    view.append(field, el("div", { class: "buttons" }, send));
  }
  return view;
}

/** What a loading model has come to, in words. */
export function progressOf(model) {
  if (model.state !== "loading") return null;
  const share = model.fraction === undefined ? "" : ` ${Math.floor(model.fraction * 100)}%`;
  return `Loading ${model.name}${share}${model.bytes ? ` of ${bytes(model.bytes)}` : ""}`;
}
