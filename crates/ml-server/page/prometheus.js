// Figures as Prometheus reads them: a line each, `name{labels} value`.

/** The figures of a text by their names, labels included. */
export function parse(text) {
  const figures = new Map();
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const at = line.lastIndexOf(" ");
    const value = Number(line.slice(at + 1));
    if (at > 0 && !Number.isNaN(value)) figures.set(line.slice(0, at), value);
  }
  return figures;
}

/**
 * The time below which a share of what a histogram counted lies, in seconds, as Prometheus' `histogram_quantile`
 * reckons it; null where it counted nothing.
 */
export function quantile(figures, name, share) {
  const all = figures.get(`${name}_count`) ?? 0;
  if (all === 0) return null;
  const wanted = share * all;
  let [from, below] = [0, 0];
  for (const [key, count] of figures) {
    const bound = key.startsWith(`${name}_bucket{le="`) ? key.slice(name.length + 12, -2) : null;
    if (bound === null) continue;
    if (count >= wanted) return bound === "+Inf" ? from : from + ((Number(bound) - from) * (wanted - below)) / (count - below || 1);
    [from, below] = [Number(bound), count];
  }
  return from;
}
