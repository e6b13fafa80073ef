// The dialogs: settings of a conversation, shortcuts, the key, and questions before something goes.

import { furtherFields } from "./answer.js";
import { byId, el } from "./dom.js";
import { remember } from "./store.js";

for (const dialog of document.querySelectorAll("dialog")) {
  for (const button of dialog.querySelectorAll("[data-close]")) button.addEventListener("click", () => dialog.close());
  // A click beside it closes it.
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

/** Asks whether something shall be done. */
export function confirm(text, yes) {
  const dialog = byId("confirm-dialog");
  byId("confirm-text").textContent = text;
  byId("confirm-yes").textContent = yes;
  return new Promise((resolve) => {
    let answer = false;
    byId("confirm-yes").onclick = () => {
      answer = true;
      dialog.close();
    };
    dialog.addEventListener("close", () => resolve(answer), { once: true });
    dialog.showModal();
  });
}

/** Asks for the key; null where the user has none. */
export function askForKey(wrong) {
  const dialog = byId("key-dialog");
  const field = byId("key-field");
  field.value = "";
  byId("key-wrong").hidden = !wrong;
  return new Promise((resolve) => {
    let given = null;
    byId("key-form").onsubmit = (event) => {
      event.preventDefault();
      given = field.value.trim() || null;
      dialog.close();
    };
    dialog.addEventListener("close", () => resolve(given), { once: true });
    dialog.showModal();
    field.focus();
  });
}

const SHORTCUTS = [
  ["Enter", "Send"],
  ["Shift Enter", "Begin a line"],
  ["Esc", "Stop the answer"],
  ["↑", "Edit the last message, in an empty field"],
  ["Alt N", "New conversation"],
  ["Alt R", "Answer again"],
  ["Alt ↑ / Alt ↓", "Conversation before, after"],
  ["Alt S", "Settings"],
  ["Alt O", "Operator, and back"],
  ["Alt T", "Light, dark, or as the system"],
  ["Alt H", "These shortcuts"],
];

/** Shows which shortcuts there are. */
export function showShortcuts() {
  const keys = (text) => text.split(" ").flatMap((part) => (part === "/" ? [" / "] : [el("kbd", {}, part), " "]));
  byId("shortcut-list").replaceChildren(...SHORTCUTS.flatMap(([key, what]) => [el("dt", {}, ...keys(key)), el("dd", {}, what)]));
  byId("shortcuts-dialog").showModal();
}

const NUMBERS = [
  { name: "temperature", label: "Temperature", min: 0, step: 0.1, note: "0: always the likeliest" },
  { name: "top_p", label: "Top p", min: 0, max: 1, step: 0.05, note: "of this share together" },
  { name: "top_k", label: "Top k", min: 0, step: 1, note: "the likeliest so many" },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: 0.01, note: "of the likeliest’s share" },
  { name: "repetition_penalty", label: "Repetition penalty", min: 0, step: 0.05, note: "1 is none" },
  { name: "seed", label: "Seed", step: 1, note: "same seed, same answer" },
  { name: "max_tokens", label: "Most tokens", min: 1, step: 1, note: "else what is left" },
];

/** Shows the settings of a conversation; `changed` is called when one has been changed. */
export function showSettings(settings, changed) {
  const set = (name, value) => {
    if (value === undefined || value === "") delete settings[name];
    else settings[name] = value;
    // A conversation begins with the settings of the last one, but for what its system prompt says.
    const { system, ...rest } = settings;
    remember("ml-settings", rest);
    changed();
  };
  const system = el("textarea", { id: "s-system", rows: 4, autofocus: true, value: settings.system ?? "", placeholder: "How the model shall answer" });
  system.addEventListener("input", () => set("system", system.value));
  const numbers = NUMBERS.map((number) => numberField(number, settings, set));
  const reasoning = el("select", { id: "s-reasoning" }, ...[["", "the model’s own"], ["none", "none"], ["low", "low"], ["medium", "medium"], ["high", "high"]].map(([value, label]) => el("option", { value, selected: (settings.reasoning ?? "") === value }, label)));
  reasoning.addEventListener("change", () => set("reasoning", reasoning.value));
  const further = el("textarea", { id: "s-further", class: "mono", rows: 5, spellcheck: false, value: settings.further ?? "", placeholder: '{"tools": [...]}', "aria-describedby": "s-further-wrong" });
  const wrong = el("p", { id: "s-further-wrong", class: "wrong", role: "alert" });
  const check = () => {
    try {
      furtherFields(settings);
      wrong.textContent = "";
    } catch (error) {
      wrong.textContent = error.message;
    }
  };
  further.addEventListener("input", () => {
    set("further", further.value);
    check();
  });
  const reset = el("button", { class: "quiet", type: "button", onclick: () => {
    for (const name of Object.keys(settings)) set(name, undefined);
    showSettings(settings, changed);
  } }, "As the model advises");
  byId("settings-fields").replaceChildren(
    labelled("System prompt", system),
    el("h3", {}, "Sampling"),
    el("p", { class: "note" }, "What is left empty is as the model advises."),
    el("div", { class: "numbers" }, ...numbers),
    labelled("Reasoning", reasoning),
    labelled("Further fields", further, "Of /v1/chat/completions, as JSON: tools, response_format, stop, …"),
    wrong,
    reset,
  );
  check();
  if (!byId("settings-dialog").open) byId("settings-dialog").showModal();
}

function labelled(label, field, note) {
  return el("div", { class: "labelled" }, el("label", { for: field.id }, label), note ? el("p", { class: "note" }, note) : null, field);
}

function numberField({ name, label, note, ...bounds }, settings, set) {
  const field = el("input", { id: `s-${name}`, type: "number", inputMode: "decimal", value: settings[name] ?? "", ...bounds });
  field.addEventListener("input", () => set(name, field.value === "" ? undefined : field.valueAsNumber));
  return labelled(label, field, note);
}
