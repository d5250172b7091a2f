// Draws a committed Grafana dashboard from what the daemon asked Prometheus.

import { theming } from "/static/draw.js";
import { renderers } from "/static/panels.js";

const PERIOD = 15000;
const dash = document.getElementById("dash");
const choice = document.getElementById("choice");
const uid = document.body.dataset.uid;
const shown = [];

function place(panel) {
  if (panel.type === "row") {
    const row = Object.assign(document.createElement("h2"), { className: "row", textContent: panel.title });
    row.style.gridRow = `${panel.grid.y + 1} / span 1`;
    return row;
  }
  const box = document.createElement("section");
  box.className = "panel";
  box.id = `p${panel.id}`;
  box.dataset.state = "waiting";
  box.style.gridArea = `${panel.grid.y + 1} / ${panel.grid.x + 1} / span ${panel.grid.h} / span ${panel.grid.w}`;
  const head = document.createElement("header");
  const title = Object.assign(document.createElement("h2"), { textContent: panel.title });
  const info = Object.assign(document.createElement("span"), { className: "info", textContent: "i", title: [panel.description, ...panel.queries].join("\n\n") });
  const body = Object.assign(document.createElement("div"), { className: "body" });
  head.append(title, info);
  box.append(head, body);
  shown.push({ panel, box, body, end: null });
  return box;
}

function note(body, text, kind = "") {
  body.replaceChildren(Object.assign(document.createElement("p"), { className: `no-data ${kind}`, textContent: text }));
}

async function fill(one) {
  const { panel, box, body } = one;
  try {
    const query = new URLSearchParams(new FormData(choice));
    const answer = await fetch(`/dashboards/${uid}/panels/${panel.id}.json?${query}`, { cache: "no-store", signal: AbortSignal.timeout(8000) });
    const data = await answer.json();
    if (!answer.ok) throw new Error(data.error ?? answer.status);
    one.end?.();
    one.end = null;
    body.replaceChildren();
    const render = renderers[panel.type];
    if (!render) { note(body, `This page cannot draw panels of type ${panel.type}.`); box.dataset.state = "unknown"; return; }
    const empty = data.targets.every((target) => target.series.length === 0);
    box.dataset.series = data.targets.reduce((sum, target) => sum + target.series.length, 0);
    if (empty) { note(body, panel.type === "table" ? "Nothing to list." : "No data in this span."); box.dataset.state = "empty"; return; }
    one.end = render(body, panel, data);
    box.dataset.state = "drawn";
  } catch (error) {
    one.end?.();
    one.end = null;
    note(body, error.message, "error");
    box.dataset.state = "error";
  }
}

async function refresh() {
  if (!document.hidden) await Promise.all(shown.filter((one) => one.panel.type !== "text").map(fill));
}

async function offer() {
  const query = new URLSearchParams(new FormData(choice));
  const answer = await fetch(`/dashboards/${uid}/values.json?${query}`, { cache: "no-store" });
  if (!answer.ok) return; // the panels say what is wrong
  for (const [name, values] of Object.entries(await answer.json())) {
    const select = choice.elements[name];
    const before = select.value;
    select.replaceChildren(new Option("all", ""), ...values.map((value) => new Option(value, value)));
    if (values.includes(before)) select.value = before;
  }
}

async function begin() {
  const answer = await fetch(`/dashboards/${uid}/plan.json`);
  const plan = await answer.json();
  dash.replaceChildren(...plan.panels.map(place));
  await offer();
  await refresh();
  document.body.dataset.ready = "yes";
  setInterval(refresh, PERIOD);
}

choice?.addEventListener("change", async () => { await offer(); await refresh(); });
theming(refresh);
if (dash) begin();
