// The live page: agents grid, one agent's reasons, curves, and the notice when the daemon is gone.

import { chart, colour, legend, SOURCES, theming } from "/static/draw.js";

const { domain, agents } = document.body.dataset;
const count = Number(agents);
const PERIOD = 1000; // one question a second
const PATIENCE = 1500; // and this long for an answer: a lost daemon shows within 2.5 s

const grid = document.getElementById("grid");
const cells = [];
let shown = { sources: "", causes: "", active: "" };
let only = null;
let selected = null;
let cursor = 0;

// Agents.

function build() {
  grid.classList.toggle("large", count <= 60);
  grid.classList.toggle("medium", count > 60 && count <= 320);
  for (let index = 0; index < count; index += 1) {
    const cell = document.createElement("i");
    cell.id = `a${index}`;
    cell.setAttribute("role", "gridcell");
    cell.dataset.index = index;
    cells.push(cell);
  }
  grid.replaceChildren(...cells);
  grid.addEventListener("click", (event) => { if (event.target.dataset.index) choose(Number(event.target.dataset.index)); });
  grid.addEventListener("keydown", keys);
}

function nameOf(digit) { return digit === "?" ? "none yet" : SOURCES[Number(digit)]; }

function paint(next) {
  const counts = new Map();
  for (let index = 0; index < count; index += 1) {
    const digit = next.sources[index];
    counts.set(digit, (counts.get(digit) ?? 0) + 1);
    const same = digit === shown.sources[index] && next.active[index] === shown.active[index];
    if (same && shown.only === only) continue;
    const cell = cells[index];
    const dim = only !== null && digit !== only ? " dim" : "";
    cell.className = (digit === "?" ? "" : `s-${nameOf(digit)}`) + (next.active[index] === "1" ? "" : " off") + dim;
    cell.setAttribute("aria-label", `agent ${index}: ${nameOf(digit)}${next.active[index] === "1" ? "" : ", idle"}`);
  }
  shown = { ...next, only };
  count_up(counts);
}

function count_up(counts) {
  const box = document.getElementById("legend");
  for (const digit of ["0", "1", "5", "2", "3", "4", "?"]) {
    let button = document.getElementById(`l${digit}`);
    const found = counts.get(digit) ?? 0;
    if (!button) {
      button = document.createElement("button");
      button.type = "button"; button.id = `l${digit}`;
      const mark = document.createElement("span");
      mark.className = `swatch ${digit === "?" ? "" : `s-${nameOf(digit)}`}`;
      button.append(mark, document.createElement("span"));
      button.addEventListener("click", () => { only = only === digit ? null : digit; paint(shown); });
      box.append(button);
    }
    button.setAttribute("aria-pressed", String(only === digit));
    button.classList.toggle("none", found === 0);
    const text = `${nameOf(digit)} ${found}`;
    if (button.lastChild.textContent !== text) button.lastChild.textContent = text;
  }
}

function keys(event) {
  const columns = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -cursor, End: count - 1 - cursor };
  if (event.key in moves) {
    move(Math.min(count - 1, Math.max(0, cursor + moves[event.key])));
  } else if (event.key === "Enter" || event.key === " ") {
    choose(cursor);
  } else if (event.key === "Escape") {
    forget();
  } else {
    return;
  }
  event.preventDefault();
}

function move(index) {
  cells[cursor]?.removeAttribute("aria-selected");
  cursor = index;
  cells[cursor].setAttribute("aria-selected", "true");
  grid.setAttribute("aria-activedescendant", cells[cursor].id);
}

function choose(index) {
  move(index);
  selected = index;
  history.replaceState(null, "", `#agent=${index}`);
  explain().catch((error) => say(`The daemon does not answer yet: ${error.message}`));
}

function say(text) {
  const box = document.getElementById("detail");
  box.replaceChildren(Object.assign(document.createElement("p"), { className: "empty", textContent: text }));
  delete box.dataset.text;
}

function forget() {
  selected = null;
  cells[cursor]?.removeAttribute("aria-selected");
  history.replaceState(null, "", location.pathname + location.search);
  say("Choose an agent to see what it saw, what it did, and why.");
}

async function explain() {
  if (selected === null) return;
  const wanted = selected;
  const answer = await ask(`/page/${domain}/agent/${wanted}`, { "HX-Request": "true" });
  const text = await answer.text();
  const box = document.getElementById("detail");
  // The fragment comes from our own server, which escapes everything in it.
  if (wanted === selected && box.dataset.text !== text) { box.innerHTML = text; box.dataset.text = text; }
}

// Curves.

const charts = new Map();

const CURVES = {
  "c-sources": (d) => [SOURCES.filter((name) => d.sources[name].some(Boolean)).map((name) => ({ name, color: colour(name), values: d.sources[name] })), { stacked: true }],
  "c-guidance": (d) => [[{ name: "mean", color: colour("policy"), values: d.deviation[0] }, { name: "90 % below", color: colour("previous"), values: d.deviation[1], dash: [4, 3] }, { name: "took the favourite", color: colour("baseline"), values: d.favourite }], { min: 0 }],
  "c-cost": (d) => [[{ name: "executed", color: colour("policy"), values: d.cost }, { name: "least possible", color: colour("muted"), values: d.least, dash: [4, 3] }], {}],
  "c-margin": (d) => [[{ name: "margin", color: colour("projected"), values: d.margin }], { fill: 12, lines: [{ value: 0, color: colour("bad") }] }],
  "c-latency": (d) => [[{ name: "decision", color: colour("policy"), values: d.latency }], { unit: "s", fill: 12, min: 0 }],
};

function draw(data) {
  for (const [id, make] of Object.entries(CURVES)) {
    const [series, options] = make(data);
    const box = document.getElementById(id);
    if (!box) continue;
    const key = series.map((one) => one.name).join();
    const old = charts.get(id);
    const known = series.some((one) => one.values.some((value) => value !== null));
    if (old && (old.key !== key || !known)) { old.destroy(); charts.delete(id); box.replaceChildren(); }
    if (!known) { if (!box.firstChild) box.append(Object.assign(document.createElement("p"), { className: "empty", textContent: "Nothing to draw yet." })); continue; }
    if (charts.has(id)) { charts.get(id).set(data.at, series); legend(charts.get(id).legend, series, options.unit); continue; }
    box.replaceChildren();
    const below = Object.assign(document.createElement("div"), { className: "small-legend" });
    const plot = document.createElement("div");
    box.append(plot, below);
    const made = chart(plot, data.at, series, { ...options, height: 150 });
    legend(below, series, options.unit);
    charts.set(id, { ...made, key, legend: below });
  }
}

// Heartbeat.

let last = Date.now();
let lost = null;

async function ask(path, headers = {}) {
  const answer = await fetch(path, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`the daemon answered ${answer.status}`);
  return answer;
}

async function beat() {
  const begin = performance.now();
  try {
    const next = await (await ask(`/page/${domain}/agents.json`)).json();
    const curves = window.uPlot && !document.hidden ? await (await ask(`/page/${domain}/series.json`)).json() : null;
    await explain();
    const arrived = performance.now();
    paint(next);
    if (curves) draw(curves);
    document.body.dataset.update = (performance.now() - arrived).toFixed(1);
    alive(arrived - begin, next.ticks);
  } catch (error) {
    gone(error);
  }
  setTimeout(beat, PERIOD);
}

function alive(waited, ticks) {
  const pulse = document.getElementById("pulse");
  pulse.className = "pulse live";
  pulse.lastElementChild.textContent = `live · ${ticks.toLocaleString("en").replaceAll(",", "\u202f")} decisions`;
  pulse.title = `The daemon answered in ${waited.toFixed(0)} ms`;
  last = Date.now();
  if (lost === null) return;
  lost = null;
  document.body.classList.remove("stale");
  document.getElementById("lost").hidden = true;
}

function gone(error) {
  if (lost === null) lost = last;
  const pulse = document.getElementById("pulse");
  pulse.className = "pulse gone";
  pulse.lastElementChild.textContent = "no connection";
  document.body.classList.add("stale");
  const notice = document.getElementById("lost");
  notice.hidden = false;
  notice.textContent = `Connection lost: the daemon has not answered since ${new Date(lost).toLocaleTimeString("en-GB")}. What you see is of then. (${error.message})`;
}

build();
theming(() => { for (const one of charts.values()) one.destroy(); charts.clear(); });
const linked = /^#agent=(\d+)$/.exec(location.hash);
if (linked && Number(linked[1]) < count) { move(Number(linked[1])); selected = cursor; }
beat();
