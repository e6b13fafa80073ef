// The models: which there are, which is chosen, what it takes, and how far it is loaded.

import { get } from "./api.js";
import { byId, bytes, el } from "./dom.js";
import { recall, remember } from "./store.js";

let known = [];
/** How the models are, where the server has told. */
let states = [];
let timer = 0;

/** The model that is asked. */
export function chosen() {
  return byId("model").value;
}

/** Asks for the list of models, and shows it. */
export async function list() {
  const { data } = await get("/v1/models");
  known = data;
  const select = byId("model");
  const before = select.disabled ? recall("ml-model", "") : select.value;
  select.replaceChildren(...data.map(({ id }) => el("option", { value: id }, id)));
  select.disabled = false;
  choose(before);
}

/** Chooses a model by its name, where there is one of that name. */
export function choose(name) {
  const select = byId("model");
  if (!select.disabled && known.some(({ id }) => id === name)) select.value = name;
  show();
}

/** Has the choice remembered, and tells of it. */
export function onChoice(changed) {
  byId("model").addEventListener("change", () => {
    remember("ml-model", chosen());
    show();
    look();
    changed(chosen());
  });
}

/** What the server says of itself and its models; null where it says nothing. */
export async function health() {
  try {
    return await get("/health", { quiet: true });
  } catch {
    return null;
  }
}

/** How the chosen model is, shown beside it. Looks again while one is being loaded. */
export async function look() {
  clearTimeout(timer);
  states = (await health())?.models ?? [];
  const model = show();
  if (model?.state === "loading") timer = setTimeout(look, 400);
  return model;
}

function show() {
  const model = states.find(({ name }) => name === chosen());
  const listed = known.find(({ id }) => id === chosen());
  const parts = [];
  byId("memory").textContent = model?.bytes ? bytes(model.bytes) : "";
  if (listed?.max_model_len) parts.push(`${listed.max_model_len.toLocaleString("en")} tokens of context`);
  if (model ? model.state === "unloaded" : listed?.loaded === false) parts.push("not loaded yet");
  const loading = model?.state === "loading";
  byId("about-model").textContent = parts.join(" · ");
  byId("about-model").parentElement.hidden = loading;
  const shown = byId("loading");
  shown.hidden = !loading;
  if (!loading) return model;
  const bar = shown.firstElementChild;
  if (model.fraction === undefined) bar.removeAttribute("value");
  else bar.value = model.fraction;
  bar.setAttribute("aria-label", `Loading ${model.name}`);
  shown.lastElementChild.textContent = model.fraction === undefined ? "Loading" : `${Math.floor(model.fraction * 100)}%`;
  return model;
}
