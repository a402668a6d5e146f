"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const NEAR = 6;
const state = { group: 0, spread: 0 };

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function number(value) {
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(value.toPrecision(4)));
}

// Share of documents below a value, from the percentiles.
function shareBelow(spread, value) {
  const marks = spread.quantiles;
  if (value <= marks[0]) return 0;
  if (value > marks[100]) return 1;
  let at = marks.findIndex((mark) => mark >= value);
  const width = marks[at] - marks[at - 1];
  return (at - 1 + (width > 0 ? (value - marks[at - 1]) / width : 0)) / 100;
}

function card(sample, name, value) {
  const facts = sample.facts;
  const head = element("header", {}, element("b", {}, facts.title || sample.id || "untitled"));
  const line = [facts.lang, facts.kind, facts.url || facts.source].filter(Boolean).join(" · ");
  if (line) head.append(element("div", {}, line));
  if (facts.reason) head.append(element("div", {}, `dropped: ${facts.stage} · ${facts.reason} · ${facts.evidence || ""}`));
  if (name) head.append(element("div", {}, `${name} = ${number(value)}`));
  const text = element("div", { class: "text", tabindex: "0" });
  for (const [piece, reason] of sample.pieces)
    text.append(reason ? element("del", { "data-why": reason, title: reason }, piece) : piece);
  const rows = Object.entries(sample.measured).map(([key, measured]) =>
    element("div", {}, element("dt", {}, key), element("dd", {}, number(measured))));
  return element("div", { class: "document" }, head, text,
    element("details", {}, element("summary", {}, "all measures"), element("dl", {}, ...rows)));
}

function sides(spread, at) {
  const below = spread.shown.filter(([, value]) => value < at).slice(-NEAR).reverse();
  const above = spread.shown.filter(([, value]) => value >= at).slice(0, NEAR);
  const column = (title, zh, rows) => element("div", {}, element("h3", {}, title, " ", element("span", { lang: "zh" }, zh)),
    ...rows.map(([key, value]) => card(data.samples[key], spread.name, value)));
  return element("div", { class: "sides" },
    column(`Just below ${number(at)}`, "略低", below), column(`At or just above ${number(at)}`, "略高", above));
}

// A measure's place on its axis, 0 to 1, and back.
function axis(spread) {
  const to = spread.logarithmic ? Math.log1p : (value) => value;
  const from = spread.logarithmic ? Math.expm1 : (value) => value;
  const first = to(spread.edges[0]), span = to(spread.edges.at(-1)) - first;
  return {
    place: (value) => Math.max(0, Math.min(1, (to(value) - first) / span)),
    value: (place) => from(first + place * span),
  };
}

function histogram(spread) {
  const image = shape("svg", { viewBox: "0 0 1000 170", preserveAspectRatio: "none", role: "img", "aria-label": `histogram of ${spread.name}` });
  const scale = axis(spread);
  const place = (value) => 1000 * scale.place(value);
  const tallest = Math.max(...spread.counts, 1);
  spread.counts.forEach((count, index) => {
    const middle = (spread.edges[index] + spread.edges[index + 1]) / 2;
    const lost = (spread.low !== null && middle < spread.low) || (spread.high !== null && middle > spread.high);
    // Square roots keep the tails, where thresholds lie, visible.
    const height = 160 * Math.sqrt(count / tallest);
    const left = place(spread.edges[index]), right = place(spread.edges[index + 1]);
    image.append(shape("rect", { class: lost ? "bar lost" : "bar", x: left, width: Math.max(0, right - left - 1), y: 165 - height, height }));
  });
  for (const bound of [spread.low, spread.high])
    if (bound !== null) image.append(shape("line", { class: "bound", x1: place(bound), x2: place(bound), y1: 0, y2: 170 }));
  const here = shape("line", { class: "here", y1: 0, y2: 170 });
  image.append(here);
  return { image, move: (value) => { here.setAttribute("x1", place(value)); here.setAttribute("x2", place(value)); } };
}

function showMeasure() {
  const group = data.groups[state.group], spread = group.spreads[state.spread];
  const target = document.getElementById("measure");
  const start = spread.low ?? spread.high ?? spread.quantiles[50];
  const scale = axis(spread);
  const slider = element("input", { type: "range", min: 0, max: 1, step: 0.001, value: scale.place(start), "aria-label": "bound" });
  const verdict = element("p", { class: "verdict" });
  const reading = element("div");
  const drawn = histogram(spread);
  const update = (exact) => {
    const at = exact ?? scale.value(Number(slider.value));
    drawn.move(at);
    const share = shareBelow(spread, at);
    verdict.textContent = `A lower bound of ${number(at)} would take ${(100 * share).toFixed(1)} % of ${group.documents.toLocaleString("en")} documents; an upper bound ${(100 * (1 - share)).toFixed(1)} %.`;
    reading.replaceChildren(sides(spread, at));
  };
  slider.addEventListener("input", () => update());
  const bounds = [];
  if (spread.low !== null) bounds.push(`lower bound ${number(spread.low)}: ${spread.below.toLocaleString("en")} documents below`);
  if (spread.high !== null) bounds.push(`upper bound ${number(spread.high)}: ${spread.above.toLocaleString("en")} documents above`);
  target.replaceChildren(element("h2", {}, spread.name), element("div", { class: "quiet" }, spread.meaning),
    element("div", {}, bounds.length ? `In force: ${bounds.join("; ")}.` : "No bound in force."), drawn.image, slider,
    element("div", { class: "scale" }, element("span", {}, number(spread.edges[0])), element("span", {}, `median ${number(spread.quantiles[50])}`), element("span", {}, number(spread.edges.at(-1)))),
    verdict, reading);
  update(start);
}

function showList() {
  const wanted = document.getElementById("filter").value.trim().toLowerCase();
  const items = data.groups[state.group].spreads.map((spread, index) => {
    if (!spread.name.includes(wanted)) return null;
    const taken = spread.below + spread.above;
    const button = element("button", { type: "button", "aria-current": String(index === state.spread) }, spread.name,
      spread.low !== null || spread.high !== null ? element("em", {}, taken.toLocaleString("en")) : null);
    button.addEventListener("click", () => { state.spread = index; showList(); showMeasure(); });
    return element("li", {}, button);
  });
  document.getElementById("measures").replaceChildren(...items.filter(Boolean));
}

function showCuts() {
  if (!data.cuts.length) return;
  const rows = data.cuts.map((row) => element("tr", {}, element("td", {}, row.reason), element("td", {}, row.unit), element("td", {}, row.count.toLocaleString("en"))));
  document.getElementById("cuts").append(
    element("h2", {}, "Cut out of documents ", element("span", { lang: "zh" }, "文内删除")),
    element("table", {}, element("thead", {}, element("tr", {}, element("th", {}, "reason"), element("th", {}, "unit"), element("th", {}, "times"))), element("tbody", {}, ...rows)),
    ...data.cut_samples.map((sample) => card(sample)));
}

const chooser = document.getElementById("group");
data.groups.forEach((group, index) => chooser.append(element("option", { value: index }, `${group.name} (${group.documents.toLocaleString("en")})`)));
function firstBounded() {
  const found = data.groups[state.group].spreads.findIndex((spread) => spread.low !== null || spread.high !== null);
  return Math.max(0, found);
}
chooser.addEventListener("change", () => { state.group = Number(chooser.value); state.spread = firstBounded(); showList(); showMeasure(); });
document.getElementById("filter").addEventListener("input", showList);
if (data.groups.length) { state.spread = firstBounded(); showList(); showMeasure(); }
showCuts();
