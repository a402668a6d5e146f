"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const LENGTH = data.sequence_length;
const LANGUAGES = { zh: "Chinese 中文", hant: "Chinese, traditional 繁體", en: "English", other: "other" };
const byNumber = new Map(data.documents.map((item, place) => [item.number, { ...item, label: place + 1 }]));
const rowElements = [];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

function shape(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const count = (value) => Number(value).toLocaleString("en");
const many = (value, one, more) => `${count(value)} ${value === 1 ? one : more}`;

function group(lang) {
  const code = lang || "";
  if (code === "zh-Hant" || code === "yue") return "hant";
  if (code.startsWith("zh")) return "zh";
  return code === "en" ? "en" : "other";
}

// Neighbours of one language differ in shade.
function fill(block, place) {
  return `var(--${group(byNumber.get(block.document).lang)}${place % 2 ? "-2" : ""})`;
}

function tip(block) {
  const item = byNumber.get(block.document);
  const part = block.length + 1 >= item.tokens ? `${count(item.tokens)} tokens, whole`
    : `tokens ${count(block.first)} to ${count(block.first + block.length)} of ${count(item.tokens)}`;
  return [`${item.label}. ${item.id || `document ${count(block.document)}`}`, item.lang, item.source, `columns ${count(block.column)} to ${count(block.column + block.length)}, ${part}`, item.text]
    .filter(Boolean).join("\n");
}

function bar(row, number) {
  const made = element("div", { class: "bar", "aria-label": `row ${number}` });
  const percent = (columns) => `${100 * columns / LENGTH}%`;
  row.blocks.forEach((block, place) => {
    const label = String(byNumber.get(block.document).label);
    const edges = (block.cut_before ? " before" : "") + (block.cut_after ? " after" : "");
    made.append(element("div", { class: `block${edges}`, title: tip(block), style: `left: ${percent(block.column)}; width: ${percent(block.length)}; background: ${fill(block, place)}` },
      block.length / LENGTH > 0.009 * label.length + 0.006 ? label : ""));
  });
  return made;
}

function axis(image, left, top, size, height) {
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const x = left + size * share;
    image.append(shape("text", { x, y: top + height + 16 }, count(Math.round(LENGTH * share))));
  }
}

// Who may look at whom: a token sees itself and what stands before it in its own stretch.
function mask(row) {
  const SIZE = 520, LEFT = 46, TOP = 8, scale = SIZE / LENGTH;
  const image = shape("svg", { viewBox: `0 0 ${SIZE + LEFT + 14} ${SIZE + TOP + 42}`, role: "img", "aria-label": "attention mask" });
  image.append(shape("rect", { x: LEFT, y: TOP, width: SIZE, height: SIZE, class: "frame" }));
  row.spans.forEach(([start, end]) => {
    const block = row.blocks.findLast((item) => item.column <= start);
    const [a, b] = [start * scale, end * scale];
    image.append(shape("polygon", { points: `${LEFT + a},${TOP + a} ${LEFT + b},${TOP + b} ${LEFT + a},${TOP + b}`, fill: fill(block, row.blocks.indexOf(block)) },
      shape("title", {}, `columns ${count(start)} to ${count(end)} see one another\n${tip(block)}`)));
  });
  axis(image, LEFT, TOP, SIZE, SIZE);
  image.append(shape("text", { x: LEFT + SIZE / 2, y: TOP + SIZE + 34 }, "key (the token looked at)"));
  image.append(shape("text", { x: 0, y: 0, transform: `translate(${LEFT - 14} ${TOP + SIZE / 2}) rotate(-90)` }, "query (the token that looks)"));
  return image;
}

function positions(row) {
  const SIZE = 520, LEFT = 46, TOP = 8, HEIGHT = 220;
  const image = shape("svg", { viewBox: `0 0 ${SIZE + LEFT + 14} ${HEIGHT + TOP + 42}`, role: "img", "aria-label": "positions" });
  image.append(shape("rect", { x: LEFT, y: TOP, width: SIZE, height: HEIGHT, class: "frame" }));
  const top = Math.max(1, ...row.positions.map(([start, end, first]) => first + end - start - 1));
  const x = (column) => LEFT + SIZE * column / LENGTH, y = (value) => TOP + HEIGHT - (HEIGHT - 12) * value / top;
  row.positions.forEach(([start, end, first]) =>
    image.append(shape("line", { x1: x(start), x2: x(end), y1: y(first), y2: y(first + end - start - 1), class: "line" })));
  axis(image, LEFT, TOP, SIZE, HEIGHT);
  image.append(shape("text", { x: LEFT + SIZE / 2, y: TOP + HEIGHT + 34 }, "column"));
  for (const value of [0, top]) image.append(shape("text", { x: LEFT - 6, y: y(value) + 4, style: "text-anchor: end" }, count(value)));
  return image;
}

function rowDocuments(row) {
  const lines = row.blocks.map((block, place) => {
    const item = byNumber.get(block.document);
    const cut = (block.cut_before ? "‹ " : "") + `${count(block.length)}` + (block.cut_after ? " ›" : "");
    return element("tr", {}, element("td", {}, element("span", { class: "swatch", style: `background: ${fill(block, place)}` }, String(item.label))),
      element("td", { class: "n" }, count(block.column)), element("td", { class: "n" }, cut), element("td", { class: "n" }, count(block.position)),
      element("td", { class: "text", lang: item.lang || "" }, (item.text || item.id || "").slice(0, 34)));
  });
  return element("table", {}, element("thead", {}, element("tr", {}, ...[["", ""], ["column", "n"], ["tokens", "n"], ["first position", "n"], ["begins", ""]].map(([name, kind]) => element("th", { class: kind }, name)))),
    element("tbody", {}, ...lines));
}

function choose(number) {
  const row = data.rows[number];
  rowElements.forEach((item, place) => item.setAttribute("aria-pressed", String(place === number)));
  const inside = new Set(row.blocks.map((block) => block.document));
  for (const line of document.querySelectorAll("#documents tbody tr")) line.classList.toggle("here", inside.has(Number(line.dataset.number)));
  document.getElementById("chosen").replaceChildren(
    element("h2", {}, `Row ${number} `, element("span", { lang: "zh" }, `第 ${number} 行`)),
    element("p", { class: "quiet" }, `${many(row.blocks.length, "document", "documents")}, ${many(row.spans.length, "stretch that sees only itself", "stretches that see only themselves")}, ${many(row.predicted, "column", "columns")} with a target, ${count(row.padding)} of padding.`),
    element("div", { class: "two" },
      element("div", {}, element("h3", {}, "Attention mask ", element("span", { class: "quiet", lang: "zh" }, "注意力掩码")), mask(row)),
      element("div", {}, element("h3", {}, "Positions ", element("span", { class: "quiet", lang: "zh" }, "位置编号")), positions(row),
        element("div", { class: "tall" }, rowDocuments(row)))));
}

function listDocuments() {
  const rows = new Map();
  data.rows.forEach((row, number) => row.blocks.forEach((block) => {
    if (!rows.has(block.document)) rows.set(block.document, []);
    rows.get(block.document).push([number, block]);
  }));
  const head = [["", ""], ["row", "n"], ["tokens", "n"], ["language", ""], ["document", ""], ["begins", ""]];
  const lines = data.documents.map((item) => {
    const uses = rows.get(item.number);
    const cut = uses.some(([, block]) => block.cut_before || block.cut_after);
    const swatch = element("span", { class: "swatch", style: `background: var(--${group(item.lang)})` }, String(byNumber.get(item.number).label));
    const address = item.url ? element("div", {}, item.url) : null;
    return element("tr", { "data-number": item.number }, element("td", {}, swatch),
      element("td", { class: "n" }, uses.map(([number]) => number).join(", ")),
      element("td", { class: "n" }, count(item.tokens), cut ? " ✂" : ""),
      element("td", {}, item.lang || "", item.domain ? ` · ${item.domain}` : ""),
      element("td", { class: "source" }, item.source || `number ${count(item.number)}`, address, element("div", {}, element("code", {}, item.id || ""))),
      element("td", { class: "text", lang: item.lang || "" }, (item.text || "").slice(0, 120)));
  });
  document.getElementById("documents").append(
    element("thead", {}, element("tr", {}, ...head.map(([name, kind]) => element("th", { class: kind }, name)))),
    element("tbody", {}, ...lines));
}

const used = new Set(data.documents.map((item) => group(item.lang)));
for (const [key, name] of Object.entries(LANGUAGES))
  if (used.has(key)) document.getElementById("legend").append(element("span", {}, element("i", { style: `background: var(--${key})` }), name));
for (const [name, value] of [["documents", count(data.documents.length)], ["padding", `${(100 * data.padding).toFixed(2)} %`], ["cut documents", count(data.cut_documents)]])
  document.getElementById("totals").append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
data.rows.forEach((row, number) => {
  const button = element("button", { class: "row", type: "button", "aria-pressed": "false" }, element("span", {}, String(number)), bar(row, number),
    element("span", {}, row.padding ? `+${count(row.padding)}` : ""));
  button.addEventListener("click", () => choose(number));
  rowElements.push(button);
  document.getElementById("rows").append(button);
});
listDocuments();
// The row with most documents shows most of how packing works.
const fullest = data.rows.reduce((best, row, number) => row.blocks.length > data.rows[best].blocks.length ? number : best, 0);
if (data.rows.length) choose(fullest);
