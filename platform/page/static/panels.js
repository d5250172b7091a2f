// One function per kind of panel: (element, panel, data) => function that ends it, or null.

import { chart, clock, colour, format, legend } from "/static/draw.js";

const NAMED = { green: "good", red: "bad", yellow: "warn", orange: "baseline", blue: "projected", purple: "previous", text: "muted", transparent: "muted" };
const PALETTE = ["#2a9d8f", "#4c8bf5", "#e9a23b", "#8b6fe8", "#e76f51", "#5aa84f", "#c2559d", "#7a8ba3", "#b58b00", "#3aa6c9", "#d1495b", "#6d7f3b"];
const SVG = "http://www.w3.org/2000/svg";

// Areas take fuller colours than text, which must stand out from its ground.
const AREAS = { green: "policy", red: "safe", yellow: "caution", orange: "hold" };

function paint(name, area = false) {
  if (!name) return colour("muted");
  if (name.startsWith("#")) return name;
  const plain = name.replace(/^(semi-|super-)?(dark|light)-/, "");
  return colour((area && AREAS[plain]) || NAMED[plain] || "muted");
}

function overrideOf(panel, name) {
  for (const { matcher, properties } of panel.overrides) {
    const hit = matcher.id === "byName" ? matcher.options === name : matcher.id === "byRegexp" && new RegExp(matcher.options).test(name);
    if (hit) return properties;
  }
  return {};
}

function colourOf(panel, name, index) {
  return paint(overrideOf(panel, name).color?.fixedColor ?? PALETTE[index % PALETTE.length]);
}

function stepOf(panel, value) {
  let found = null;
  for (const step of panel.thresholds) if (step.value === null || value >= step.value) found = step;
  return found;
}

// Text and colour that a value mapping gives, if one fits.
function mapped(panel, value) {
  for (const mapping of panel.mappings) {
    if (mapping.type === "value" && String(value) in mapping.options) return mapping.options[String(value)];
    if (mapping.type === "range" && value >= (mapping.options.from ?? -Infinity) && value <= (mapping.options.to ?? Infinity)) return mapping.options.result;
    if (mapping.type === "special" && value === null) return mapping.options.result;
  }
  return null;
}

function all(data) { return data.targets.flatMap((target) => target.series); }

// Series of one panel on the query's own steps, so that what is missing shows as a gap.
function aligned(panel, data) {
  const times = Array.from({ length: Math.round((data.end - data.start) / data.step) + 1 }, (_, k) => data.start + k * data.step);
  const series = all(data).map((one, position) => {
    const values = new Array(times.length).fill(null);
    one.at.forEach((at, k) => { values[Math.round((at - data.start) / data.step)] = one.values[k]; });
    const properties = overrideOf(panel, one.name);
    return { name: one.name, values, color: colourOf(panel, one.name, position), dash: properties["custom.lineStyle"]?.fill === "dash" ? [5, 4] : undefined };
  });
  return [times, series];
}

function timeseries(element, panel, data) {
  const [times, series] = aligned(panel, data);
  const plot = document.createElement("div");
  const below = Object.assign(document.createElement("div"), { className: "small-legend" });
  element.append(plot, below);
  legend(below, series, panel.unit, panel.decimals);
  const lines = panel.lines ? panel.thresholds.filter((step) => step.value !== null).map((step) => ({ value: step.value, color: paint(step.color) })) : [];
  plot.style.height = `${Math.max(70, element.clientHeight - below.offsetHeight - 4)}px`;
  const made = chart(plot, times, series, { unit: panel.unit, decimals: panel.decimals, stacked: panel.stacked, fill: panel.stacked || panel.min !== 0 ? 0 : panel.fill, min: panel.min, max: panel.max, lines, between: [data.start, data.end] });
  return () => made.destroy();
}

function stat(element, panel, data) {
  const series = all(data);
  const box = Object.assign(document.createElement("div"), { className: series.length > 3 ? "stats many" : "stats" });
  for (const one of series) {
    const value = one.values.at(-1) ?? null;
    const mapping = mapped(panel, value);
    const item = Object.assign(document.createElement("div"), { className: "stat" });
    const number = document.createElement("b");
    const named = panel.options.textMode === "name";
    number.textContent = named ? one.name : mapping?.text ?? format(value, panel.unit, panel.decimals);
    const step = mapping?.color ? null : value === null ? null : stepOf(panel, value);
    number.style.color = mapping?.color ? paint(mapping.color) : step && panel.thresholds.length > 1 ? paint(step.color) : colour("ink");
    item.append(number);
    if (!named && (series.length > 1 || panel.legends.some((text) => text && text !== "__auto"))) item.append(Object.assign(document.createElement("span"), { textContent: one.name }));
    box.append(item);
  }
  element.classList.add("scrolls");
  element.append(box);
  return null;
}

function table(element, panel, data) {
  const series = all(data);
  const organise = panel.transformations.find((one) => one.id === "organize")?.options ?? {};
  const hidden = new Set(Object.entries(organise.excludeByName ?? {}).filter(([, gone]) => gone).map(([name]) => name));
  const renamed = organise.renameByName ?? {};
  const labels = [...new Set(series.flatMap((one) => Object.keys(one.labels)))].filter((name) => !hidden.has(name) && name !== "__name__");
  const order = organise.indexByName ?? {};
  labels.sort((a, b) => (order[a] ?? 99) - (order[b] ?? 99) || a.localeCompare(b));
  const value = hidden.has("Value") ? [] : ["Value"];
  const built = document.createElement("table");
  built.className = "dense";
  const head = built.createTHead().insertRow();
  for (const name of [...labels, ...value]) head.append(Object.assign(document.createElement("th"), { textContent: renamed[name] ?? name, className: name === "Value" ? "right" : "" }));
  const body = built.createTBody();
  for (const one of series) {
    const row = body.insertRow();
    for (const name of labels) row.insertCell().textContent = one.labels[name] ?? "";
    if (value.length) {
      const properties = overrideOf(panel, renamed.Value ?? "Value");
      const cell = row.insertCell();
      cell.className = "right num";
      const number = one.values.at(-1);
      cell.textContent = mapped(panel, number)?.text ?? format(number, properties.unit ?? panel.unit, panel.decimals);
    }
  }
  element.classList.add("scrolls");
  element.append(built);
  return null;
}

function make(name, attributes, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

function timeAxis(svg, data, left, width, y) {
  for (let k = 0; k <= 4; k += 1) {
    const at = data.start + ((data.end - data.start) * k) / 4;
    svg.append(make("text", { class: "axis", x: left + (width * k) / 4, y, "text-anchor": k === 0 ? "start" : k === 4 ? "end" : "middle" }, clock(at, data.end - data.start)));
  }
}

// Rows of coloured stretches. Series that say 0 or 1 (one-hot) share a row per remaining labels.
function stateTimeline(element, panel, data) {
  const rows = all(data);
  const height = element.clientHeight;
  const wide = element.clientWidth;
  const left = Math.min(150, 14 + Math.max(...rows.map((one) => one.name.length)) * 6.4);
  const svg = make("svg", { class: "swim", viewBox: `0 0 ${wide} ${height}`, role: "img", "aria-label": panel.title });
  const lane = Math.min(44, (height - 22) / rows.length);
  const span = data.end - data.start;
  rows.forEach((one, row) => {
    const y = row * lane + 2;
    svg.append(make("text", { x: left - 8, y: y + lane / 2 + 3, "text-anchor": "end" }, one.name));
    let from = 0;
    for (let k = 1; k <= one.at.length; k += 1) {
      const broken = k === one.at.length || one.values[k] !== one.values[from] || one.at[k] - one.at[k - 1] > data.step * 1.5;
      if (!broken) continue;
      const mapping = mapped(panel, one.values[from]);
      const x = left + ((one.at[from] - data.start) / span) * (wide - left);
      const until = k < one.at.length && one.at[k] - one.at[k - 1] <= data.step * 1.5 ? one.at[k] : one.at[k - 1] + data.step;
      const length = Math.max(1, ((Math.min(until, data.end) - one.at[from]) / span) * (wide - left));
      const piece = make("rect", { x, y, width: length, height: Math.max(3, lane - 4), rx: 2, fill: paint(mapping?.color ?? stepOf(panel, one.values[from] ?? 0)?.color, true) });
      const text = mapping?.text ?? format(one.values[from], panel.unit);
      piece.append(make("title", {}, `${one.name}: ${text}, from ${clock(one.at[from], 0)}`));
      svg.append(piece);
      if (length > text.length * 7 + 8 && lane > 15) svg.append(make("text", { x: x + 6, y: y + lane / 2 + 2, fill: "#fff", class: "in-lane" }, text));
      from = k;
    }
  });
  timeAxis(svg, data, left, wide - left, height - 4);
  element.append(svg);
  return null;
}

// Buckets of a classic histogram (le labels, cumulative) as cells; darker is more.
function heatmap(element, panel, data) {
  const buckets = all(data).filter((one) => "le" in one.labels).sort((a, b) => bound(a) - bound(b));
  const [times] = aligned(panel, data);
  const grid = buckets.map((one) => { const row = new Array(times.length).fill(0); one.at.forEach((at, k) => { row[Math.round((at - data.start) / data.step)] = one.values[k] ?? 0; }); return row; });
  for (let row = grid.length - 1; row > 0; row -= 1) grid[row] = grid[row].map((value, k) => Math.max(0, value - grid[row - 1][k]));
  const top = Math.max(1e-12, ...grid.flat());
  const wide = element.clientWidth;
  const height = element.clientHeight;
  const left = 58;
  const lane = (height - 20) / grid.length;
  const svg = make("svg", { class: "swim", viewBox: `0 0 ${wide} ${height}`, role: "img", "aria-label": panel.title });
  const step = (wide - left) / ((data.end - data.start) / data.step + 1);
  const ink = colour("policy");
  grid.forEach((row, k) => {
    const y = height - 20 - (k + 1) * lane;
    const every = Math.ceil(13 / lane);
    if (k % every === 0) svg.append(make("text", { x: left - 6, y: y + lane / 2 + 4, "text-anchor": "end" }, buckets[k].labels.le === "+Inf" ? "more" : format(bound(buckets[k]), panel.unit)));
    row.forEach((value, column) => {
      if (value <= 0) return;
      const x = left + ((times[column] - data.start) / data.step) * step;
      svg.append(make("rect", { x, y, width: step + 0.3, height: Math.max(1, lane - 1), fill: ink, "fill-opacity": (0.12 + 0.88 * Math.sqrt(value / top)).toFixed(2) }));
    });
  });
  timeAxis(svg, data, left, wide - left, height - 4);
  element.append(svg);
  return null;
}

function bound(one) { return one.labels.le === "+Inf" ? Infinity : Number(one.labels.le); }

export const renderers = { timeseries, stat, table, heatmap, "state-timeline": stateTimeline };
