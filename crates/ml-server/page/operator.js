// The operator's view: what the server does, from `/metrics` and `/health`, once a second.

import { request } from "./api.js";
import { byId, bytes, digits, el, seconds } from "./dom.js";
import { health } from "./models.js";
import { plot } from "./plot.js";
import { parse, quantile } from "./prometheus.js";

/** Seconds that the plots show. */
const SPAN = 300;
const EVERY = 1000;

const count = (number) => (Number.isInteger(number) ? number.toLocaleString("en") : digits(number));
const percent = (share) => `${Math.round(share * 100)}%`;

const plots = [
  plot({ title: "Requests", span: SPAN, least: 4, unit: count, lines: [{ label: "running", of: (sample) => sample.running }, { label: "waiting", of: (sample) => sample.waiting }] }),
  plot({ title: "Tokens a second", span: SPAN, least: 10, unit: count, lines: [{ label: "written", of: (sample) => sample.written }, { label: "read", of: (sample) => sample.read }] }),
  plot({ title: "Prompt tokens from the cache", span: SPAN, least: 1, unit: percent, lines: [{ label: "share of the last minute", of: (sample) => sample.hits }] }),
  plot({ title: "Memory", span: SPAN, least: 1e6, unit: bytes, lines: [{ label: "weights and caches", of: (sample) => sample.models }, { label: "in all", of: (sample) => sample.held }] }),
];

let samples = [];
/** The counters of the last minute, for rates. */
let counters = [];
let timer = 0;
let asking = false;
let built = false;

/** Shows the view, or stops looking. */
export function show(visible) {
  clearInterval(timer);
  if (!visible) return;
  if (!built) {
    built = true;
    byId("plots").append(...plots.map(({ element }) => element));
  }
  look();
  timer = setInterval(look, EVERY);
}

async function look() {
  // A slow answer is waited for; a page that nobody sees asks nothing.
  if (asking || document.hidden) return;
  asking = true;
  try {
    const [response, told] = await Promise.all([request("/metrics"), health()]);
    const figures = parse(await response.text());
    add(figures);
    tables(figures, told);
    pulse(told?.status === "shutting_down" ? "The server is ending." : "", false);
  } catch (error) {
    add(null);
    counters = [];
    pulse(error.message, true);
  } finally {
    asking = false;
  }
  for (const one of plots) one.show(samples);
}

function pulse(text, isError) {
  const place = byId("pulse");
  if (place.textContent !== text) place.textContent = text;
  place.classList.toggle("wrong", isError);
}

function add(figures) {
  const time = performance.now() / 1000;
  const sample = { time, running: null, waiting: null, written: null, read: null, hits: null, models: null, held: null };
  if (figures) {
    sample.running = figures.get("llamacpp:requests_processing") ?? null;
    sample.waiting = figures.get("llamacpp:requests_deferred") ?? null;
    sample.models = figures.get("ml:memory_models_bytes") ?? null;
    // A GPU's memory is MLX's to tell, a processor's the system's.
    const mlx = (figures.get("ml:memory_active_bytes") ?? 0) + (figures.get("ml:memory_cache_bytes") ?? 0);
    sample.held = Math.max(mlx, figures.get("process_resident_memory_bytes") ?? 0) || null;
    const now = { time, written: figures.get("llamacpp:tokens_predicted_total") ?? 0, read: figures.get("llamacpp:prompt_tokens_total") ?? 0, cached: figures.get("vllm:prompt_tokens_cached_total") ?? 0 };
    // A server that was started anew counts from nothing.
    if (counters.length > 0 && now.written < counters.at(-1).written) counters = [];
    counters = [...counters.filter((one) => one.time > time - 60), now];
    const before = counters.findLast((one) => one.time <= time - 4) ?? counters[0];
    if (time > before.time) {
      sample.written = (now.written - before.written) / (time - before.time);
      sample.read = (now.read - before.read) / (time - before.time);
    }
    const prompts = now.read + now.cached - counters[0].read - counters[0].cached;
    sample.hits = prompts > 0 ? (now.cached - counters[0].cached) / prompts : null;
  }
  samples = [...samples.filter((one) => one.time > time - SPAN - 2), sample];
}

function tables(figures, told) {
  const figure = (name) => count(figures.get(name) ?? 0);
  const time = (name) => {
    const [half, most] = [quantile(figures, name, 0.5), quantile(figures, name, 0.95)];
    return half === null ? "–" : `${seconds(half)}, ${seconds(most)}`;
  };
  const rows = [
    ["Answers", figure("vllm:request_success_total")],
    ["Broken off", figure("ml:requests_broken_off_total")],
    ["Refused", figure("ml:requests_refused_total")],
    ["Failed", figure("ml:requests_failed_total")],
    ["Tokens written", figure("llamacpp:tokens_predicted_total")],
    ["Prompt tokens read", figure("llamacpp:prompt_tokens_total")],
    ["Prompt tokens known", figure("vllm:prompt_tokens_cached_total")],
    ["First token after (half, 95%)", time("vllm:time_to_first_token_seconds")],
    ["Answer after (half, 95%)", time("vllm:e2e_request_latency_seconds")],
  ];
  const since = panel("Since the start", el("dl", {}, ...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
  const models = told?.models ?? [];
  const state = (model) => (model.state === "loading" && model.fraction !== undefined ? `loading ${percent(model.fraction)}` : model.in_use ? "in use" : model.state);
  const line = (model) => el("tr", {}, el("th", { scope: "row" }, model.name), el("td", {}, state(model)), el("td", { class: "to-right" }, model.bytes ? bytes(model.bytes) : "–"));
  const head = el("tr", {}, ...["Model", "State", "Memory"].map((name, at) => el("th", { scope: "col", class: at === 2 ? "to-right" : null }, name)));
  const room = told?.model_memory?.room;
  const foot = room ? el("p", { class: "note" }, `Models take ${bytes(told.model_memory.taken)} of ${bytes(room)}.`) : null;
  const shown = models.length > 0 ? [panel("Models", el("table", {}, el("thead", {}, head), el("tbody", {}, ...models.map(line))), foot)] : [];
  byId("tables").replaceChildren(since, ...shown);
}

function panel(title, ...children) {
  return el("section", { class: "panel" }, el("h2", {}, title), ...children.filter(Boolean));
}
