// What both pages draw with: theme colours, number formats, and one way to make a time chart.

export const SOURCES = ["policy", "projected", "baseline", "hold", "safe", "previous"];

export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function theming(redraw) {
  const order = ["", "light", "dark"];
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const say = () => { button.textContent = { light: "Light", dark: "Dark" }[root.dataset.theme] ?? "Auto"; };
  button.addEventListener("click", () => {
    const next = order[(order.indexOf(root.dataset.theme ?? "") + 1) % order.length];
    if (next) { root.dataset.theme = next; localStorage.setItem("theme", next); } else { delete root.dataset.theme; localStorage.removeItem("theme"); }
    say();
    redraw();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  say();
}

const DOUBLES = Array.from({ length: 44 }, (_, power) => 2 ** power);
const SCALES = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];

function plain(value, decimals) {
  const size = Math.abs(value);
  for (const [scale, letter] of SCALES) if (size >= scale) return `${trim(value / scale, decimals ?? 1)}${letter}`;
  return trim(value, decimals ?? (size >= 100 ? 0 : size >= 1 ? 2 : size === 0 ? 0 : 3));
}

function trim(value, decimals) {
  const text = value.toFixed(decimals);
  return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
}

function seconds(value) {
  const size = Math.abs(value);
  if (size === 0) return "0 s";
  if (size < 1e-3) return `${trim(value * 1e6, size < 1e-5 ? 1 : 0)} µs`;
  if (size < 1) return `${trim(value * 1e3, size < 0.1 ? 2 : 0)} ms`;
  if (size < 120) return `${trim(value, 1)} s`;
  if (size < 7200) return `${trim(value / 60, 0)} min`;
  return size < 172800 ? `${trim(value / 3600, 1)} h` : `${trim(value / 86400, 1)} d`;
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let step = 0;
  while (Math.abs(value) >= 1024 && step < units.length - 1) { value /= 1024; step += 1; }
  return `${trim(value, step ? 1 : 0)} ${units[step]}`;
}

function si(value, unit) {
  const size = Math.abs(value);
  const [scale, letter] = SCALES.find(([step]) => size >= step) ?? [1, ""];
  return `${trim(value / scale, size / scale >= 100 ? 0 : size / scale >= 10 ? 1 : 2)} ${letter}${unit}`;
}

// Formats by Grafana's unit ids; an id that is not here shows the plain number.
const UNITS = {
  s: seconds, bytes,
  decbytes: bytes, Bps: (v) => `${bytes(v)}/s`,
  percentunit: (v, d) => `${trim(v * 100, d ?? (Math.abs(v) < 0.1 && v !== 0 ? 2 : 1))} %`,
  percent: (v, d) => `${trim(v, d ?? 1)} %`,
  reqps: (v) => `${plain(v)}/s`, ops: (v) => `${plain(v)}/s`, cps: (v) => `${plain(v)}/s`, eps: (v) => `${plain(v)}/s`,
  watt: (v) => si(v, "W"), watth: (v) => si(v, "Wh"),
  currencyUSD: (v, d) => `${v < 0 ? "-" : ""}$${plain(Math.abs(v), d)}`,
  dateTimeFromNow: (v) => (v > 0 ? `${seconds((Date.now() - v) / 1000)} ago` : "never"),
  dateTimeAsIso: (v) => (v > 0 ? new Date(v).toLocaleString() : "never"),
};

export function format(value, unit = "short", decimals = undefined) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  return (UNITS[unit] ?? plain)(value, decimals ?? undefined);
}

// Time of day, with seconds where the span is short and as a date where it is long.
export function clock(at, span) {
  const date = new Date(at * 1000);
  if (span > 129600) return date.toLocaleDateString("en-GB", { day: "numeric", month: "short" });
  return date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: span < 600 ? "2-digit" : undefined });
}

// options: {unit, decimals, stacked, fill, min, max, lines: [{value, color}], legend, height}
// series: [{name, values, color, dash}], at: [seconds]. Returns the chart; call destroy() to end it.
export function chart(element, at, series, options = {}) {
  const muted = colour("muted");
  const line = colour("line");
  const shown = options.stacked ? cumulate(series) : series.map((one) => one.values);
  const axis = { stroke: muted, font: "11px system-ui", grid: { stroke: line, width: 1 }, ticks: { show: false } };
  const text = (v) => format(v, options.unit, options.decimals);
  const order = series.map((_, index) => index);
  if (options.stacked) order.reverse(); // the tallest sum is painted first, the others over it
  const plot = new uPlot({
    width: Math.max(120, element.clientWidth), height: Math.max(60, options.height ?? element.clientHeight),
    legend: { show: false }, cursor: { y: false, points: { size: 6 } }, padding: [8, 22, 0, 0],
    scales: { x: options.between ? { range: () => options.between } : {}, y: { range: (_, low, high) => limits(low, high, options) } },
    axes: [{ ...axis, grid: { show: false }, space: 64, size: 24, values: (_, ticks) => ticks.map((at) => clock(at, ticks.at(-1) - ticks[0])) }, { ...axis, size: (u, values) => width(values), values: (_, ticks) => ticks.map(text), space: 28, ...(/^(bytes|Bps)$/.test(options.unit) ? { incrs: DOUBLES } : {}) }],
    series: [{}, ...order.map((index) => ({
      label: series[index].name, stroke: series[index].color, width: options.stacked ? 1 : 1.6, dash: series[index].dash,
      fill: options.stacked ? `${series[index].color}` : options.fill ? `${series[index].color}${alpha(options.fill)}` : undefined,
      points: { show: at.length < 2 }, spanGaps: false,
    }))],
    hooks: { draw: [(u) => rules(u, options.lines ?? [])] },
    plugins: [tooltip(series, order, text)],
  }, [at, ...order.map((index) => shown[index])], element);
  const watch = new ResizeObserver(() => plot.setSize({ width: Math.max(120, element.clientWidth), height: Math.max(60, options.height ?? element.clientHeight) }));
  watch.observe(element);
  return {
    set(newAt, newSeries) { const values = options.stacked ? cumulate(newSeries) : newSeries.map((one) => one.values); series.splice(0, series.length, ...newSeries); plot.setData([newAt, ...order.map((index) => values[index])]); },
    destroy() { watch.disconnect(); plot.destroy(); },
  };
}

function alpha(percent) { return Math.round(Math.min(100, percent) * 2.55).toString(16).padStart(2, "0"); }

function width(values) {
  const longest = Math.max(0, ...(values ?? []).map((value) => value.length));
  return Math.max(30, 14 + longest * 6.2);
}

function limits(low, high, options) {
  if (low === null || high === null || low === undefined || high === undefined) return [options.min ?? 0, options.max ?? 1];
  let bottom = options.min ?? Math.min(low, options.zero === false ? low : 0);
  let top = options.max ?? high;
  if (top <= bottom) top = bottom + (Math.abs(bottom) || 1);
  const room = (top - bottom) * 0.06;
  if (options.max === undefined || options.max === null) top += room;
  if (bottom < 0 && (options.min === undefined || options.min === null)) bottom -= room;
  return [bottom, top];
}

function cumulate(series) {
  const sums = [];
  let last = null;
  for (const one of series) {
    last = one.values.map((value, index) => (value ?? 0) + (last ? last[index] : 0));
    sums.push(last);
  }
  return sums;
}

function rules(u, lines) {
  for (const { value, color } of lines) {
    if (value === null || value < u.scales.y.min || value > u.scales.y.max) continue;
    const y = u.valToPos(value, "y", true);
    u.ctx.save();
    u.ctx.strokeStyle = color; u.ctx.lineWidth = devicePixelRatio; u.ctx.setLineDash([5, 4]);
    u.ctx.beginPath(); u.ctx.moveTo(u.bbox.left, y); u.ctx.lineTo(u.bbox.left + u.bbox.width, y); u.ctx.stroke();
    u.ctx.restore();
  }
}

// The values under the pointer, as text in the chart's title attribute: no overlay to keep in place.
function tooltip(series, order, text) {
  return { hooks: { setCursor: (u) => {
    const index = u.cursor.idx;
    u.root.title = index === null || index === undefined ? "" : [new Date(u.data[0][index] * 1000).toLocaleTimeString(), ...series.map((one) => `${one.name}: ${text(one.values[index])}`)].join("\n");
  } } };
}

export function legend(element, series, unit, decimals) {
  element.replaceChildren(...series.map((one) => {
    const item = document.createElement("span");
    const mark = document.createElement("i");
    mark.style.background = one.color;
    const last = one.values.findLast((value) => value !== null && value !== undefined);
    const value = document.createElement("b");
    value.textContent = format(last, unit, decimals);
    item.append(mark, `${one.name} `, value);
    return item;
  }));
}
