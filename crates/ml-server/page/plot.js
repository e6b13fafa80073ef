// A plot of the last minutes: lines over time, the first one filled, with a legend that tells the values.

import { el, svg } from "./dom.js";

const LEFT = 4;
const TOP = 10;
const BOTTOM = 22;
const HEIGHT = 168;

/**
 * A plot. `lines` are `{ label, of(sample) }`, whose values are numbers or null; `unit` writes a value; `least` is the
 * least upper end of the axis; `span` is how many seconds are shown.
 */
export function plot({ title, lines, unit, least, span }) {
  const values = lines.map(() => el("strong", {}, "–"));
  const legend = el("div", { class: "legend" }, ...lines.map((line, at) => el("span", { class: `series-${at}` }, el("i", { "aria-hidden": "true" }), line.label, " ", values[at])));
  const when = el("span", { class: "when" });
  const picture = svg("svg", { class: "plot", height: HEIGHT, "aria-hidden": "true" });
  const frame = el("div", { class: "picture", tabIndex: 0, role: "img" }, picture);
  const element = el("figure", { class: "panel" }, el("figcaption", {}, el("h2", {}, title), when), legend, frame);
  let samples = [];
  let width = 0;
  /** Seconds before now that are looked at; null for the newest. */
  let pointed = null;

  const draw = () => {
    if (width === 0) return;
    const now = samples.at(-1)?.time ?? 0;
    const most = Math.max(least, ...samples.flatMap((sample) => lines.map((line) => line.of(sample) ?? 0)));
    const top = ceiling(most);
    const x = (time) => LEFT + ((time - now + span) / span) * (width - 2 * LEFT);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const at = Math.round(y(top * share)) + 0.5;
      parts.push(svg("line", { class: "grid", x1: LEFT, x2: width - LEFT, y1: at, y2: at }));
      if (share > 0) parts.push(svg("text", { class: "scale", x: LEFT, y: at - 4 }, unit(top * share)));
    }
    const minutes = span / 60;
    for (const back of [minutes, minutes / 2, 0]) {
      const anchor = back === minutes ? "start" : back === 0 ? "end" : "middle";
      parts.push(svg("text", { class: "scale", x: x(now - back * 60), y: HEIGHT - 5, "text-anchor": anchor }, back === 0 ? "now" : `${back} min ago`));
    }
    for (const [at, line] of [...lines.entries()].reverse()) {
      for (const stretch of stretches(samples, line.of)) {
        const points = stretch.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`);
        if (at === 0) parts.push(svg("polygon", { class: "area", points: [`${x(stretch[0][0]).toFixed(1)},${y(0)}`, ...points, `${x(stretch.at(-1)[0]).toFixed(1)},${y(0)}`].join(" ") }));
        parts.push(svg("polyline", { class: `line series-${at}`, points: points.join(" ") }));
      }
    }
    const sample = pointed === null ? samples.at(-1) : nearest(samples, now - pointed);
    if (pointed !== null && sample) parts.push(svg("line", { class: "rule", x1: x(sample.time), x2: x(sample.time), y1: TOP, y2: HEIGHT - BOTTOM }));
    picture.replaceChildren(...parts);
    for (const [at, line] of lines.entries()) {
      const value = sample && line.of(sample);
      values[at].textContent = value === null || value === undefined ? "–" : unit(value);
    }
    const back = sample ? Math.round(now - sample.time) : 0;
    when.textContent = pointed === null || back === 0 ? "" : `${back} s ago`;
    frame.setAttribute("aria-label", `${title}: ${lines.map((line, at) => `${line.label} ${values[at].textContent}`).join(", ")}. Arrow keys look back.`);
  };
  const point = (back) => {
    pointed = back === null ? null : Math.min(Math.max(back, 0), span);
    draw();
  };
  frame.addEventListener("pointermove", (event) => {
    const box = frame.getBoundingClientRect();
    point(span * (1 - (event.clientX - box.left - LEFT) / (box.width - 2 * LEFT)));
  });
  frame.addEventListener("pointerleave", () => point(null));
  frame.addEventListener("blur", () => point(null));
  frame.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: 5, ArrowRight: -5 }[event.key];
    if (by === undefined || event.altKey) return;
    event.preventDefault();
    point((pointed ?? 0) + by);
  });
  new ResizeObserver(([entry]) => {
    width = Math.floor(entry.contentRect.width);
    picture.setAttribute("width", width);
    picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    draw();
  }).observe(frame);
  return {
    element,
    show(now) {
      samples = now;
      draw();
    },
  };
}

// Where a value is missing, as when the server was away, the line has a gap.
function stretches(samples, of) {
  const found = [[]];
  for (const sample of samples) {
    const value = of(sample);
    if (value === null || value === undefined) found.push([]);
    else found.at(-1).push([sample.time, value]);
  }
  return found.filter((stretch) => stretch.length > 0);
}

function nearest(samples, time) {
  return samples.reduce((best, sample) => (best && Math.abs(best.time - time) <= Math.abs(sample.time - time) ? best : sample), undefined);
}

// The next number of the form 1, 2, 4 or 5 times a power of ten, which halves well.
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 4, 5, 10].find((step) => step * power >= value * 0.999);
}
