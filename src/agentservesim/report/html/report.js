"use strict";
// The page: puts the data into the document as text, draws the pictures, and listens to mouse and keys.
// Nothing of the data is ever treated as HTML.

const page = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const drawn = new Map(); // a card's id: { picture, card, chart, spec, state }

function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

// ---- the head ------------------------------------------------------------------------------------

function showHead() {
  const { verdict } = page;
  byId("name").textContent = page.name;
  byId("title").textContent = verdict.title;
  const tiles = verdict.numbers.map((one) => {
    const className = one.text.length > 9 ? "value words" : "value";
    const value = element("div", { className, textContent: one.text });
    value.dataset.metric = one.metric;
    value.dataset.value = one.value;
    return element("div", { className: "tile" },
      element("div", { className: "label", textContent: one.label }), value,
      element("div", { className: "detail", textContent: one.detail }));
  });
  const slos = verdict.slos.map((slo) =>
    element("li", { className: slo.met ? "met" : "missed", textContent: `${slo.text} (${slo.measured})` }));
  byId("verdict").append(
    ...verdict.warnings.map((text) => element("p", { className: "hint warning", textContent: text })),
    element("div", { className: "tiles" }, ...tiles),
    ...(slos.length ? [element("ul", { className: "slos" }, ...slos)] : []),
    element("p", { className: "hint", textContent: verdict.hint }));
  const facts = verdict.facts.flatMap(([label, text]) =>
    [element("dt", { textContent: label }), element("dd", { textContent: text })]);
  if (facts.length) byId("facts").append(element("h2", { textContent: "What was simulated" }), element("dl", {}, ...facts));
}

function showClasses() {
  const select = byId("class");
  page.classes.forEach(({ label, programs }, value) =>
    select.append(element("option", { value, textContent: `${label} (${programs.toLocaleString("en-US")})` })));
  byId("class-control").hidden = page.classes.length < 2;
  select.addEventListener("change", () => {
    for (const one of drawn.values()) if (one.picture.by_class) draw(one);
  });
}

// ---- the pictures --------------------------------------------------------------------------------

function showPicture(picture) {
  const chart = element("div", { className: "chart", tabIndex: 0, role: "img" });
  const choices = element("div", { className: "choices", role: "group", ariaLabel: "What is shown" });
  const below = element("div", { className: "below" });
  const card = element("section", { className: "card", id: picture.id },
    element("h2", { textContent: picture.question }),
    element("p", { className: "answer", textContent: picture.answer }), choices, chart, below);
  byId("pictures").append(card);
  const one = { picture, card, div: chart, choices, below, state: {}, at: -1 };
  drawn.set(picture.id, one);
  chart.addEventListener("keydown", (event) => onKey(one, event));
  draw(one);
}

function draw(one) {
  const { picture, div, state } = one;
  const look = theme(div);
  const data = picture.by_class ? picture.data[Number(byId("class").value || 0)] : picture.data;
  one.spec = charts[picture.id](data, look, state, page);
  one.chart?.dispose();
  one.chart = undefined;
  one.at = -1;
  div.replaceChildren();
  div.setAttribute("aria-label", label(one));
  showChoices(one);
  showBelow(one);
  if (one.spec.empty) {
    div.style.height = "";
    div.append(element("p", { className: "empty", textContent: one.spec.empty }));
    return;
  }
  div.style.height = `${one.spec.height}px`;
  one.chart = echarts.init(div, null, { renderer: "svg" });
  const { option } = one.spec;
  option.tooltip = {
    trigger: "item", confine: true, transitionDuration: 0, backgroundColor: look.card, borderColor: look.line,
    ...option.tooltip,
    formatter: (params) => tipNode(one.spec, [params].flat()[0]),
  };
  one.chart.setOption(option);
}

function label({ picture, spec }) {
  const keys = spec.empty ? "" : " Arrow keys read the values, plus and minus zoom, 0 shows all.";
  return `${picture.question} ${picture.answer}${keys}`;
}

function showChoices(one) {
  const entries = Object.entries(one.spec.choices ?? {});
  const chosen = one.state.choice ?? entries[0]?.[0];
  one.choices.hidden = entries.length < 2;
  const focused = one.choices.contains(document.activeElement);
  one.choices.replaceChildren(...(entries.length < 2 ? [] : entries).map(([value, textContent]) => {
    const button = element("button", { type: "button", textContent });
    button.setAttribute("aria-pressed", String(value === chosen));
    button.addEventListener("click", () => {
      one.state.choice = value;
      draw(one);
    });
    return button;
  }));
  if (focused) one.choices.querySelector("[aria-pressed=true]")?.focus();
}

function showBelow({ picture, spec, below }) {
  const sources = Object.entries(picture.sources).map(([file, columns]) =>
    element("span", {}, element("a", { href: `${file}.parquet`, textContent: `${file}.parquet` }), " ",
      element("code", { textContent: columns.join(", ") })));
  const notes = [spec.caption, picture.note].filter(Boolean).map((textContent) => element("span", { textContent }));
  below.replaceChildren(...notes, ...sources);
  if (!spec.table) return;
  const details = element("details", {}, element("summary", { textContent: "The numbers as a table" }));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) details.append(tableNode(spec.table, picture.question));
  });
  below.append(details);
}

function tableNode({ head, rows }, caption) {
  const row = (tag, cells) => element("tr", {}, ...cells.map((textContent) => element(tag, { textContent })));
  const table = element("table", {}, element("caption", { className: "hidden", textContent: caption }),
    element("thead", {}, row("th", head)), element("tbody", {}, ...rows.map((cells) => row("td", cells))));
  return element("div", { className: "scroll", tabIndex: 0 }, table);
}

function tipNode(spec, { seriesIndex, dataIndex }) {
  const { head, rows } = spec.tip(seriesIndex, dataIndex);
  const lines = rows.map(([colour, name, value]) => {
    const swatch = element("i");
    swatch.style.background = colour;
    return element("div", {}, swatch, element("span", { textContent: name }), element("strong", { textContent: value }));
  });
  return element("div", { className: "tip" }, element("b", { textContent: head }), ...lines);
}

// ---- keys ----------------------------------------------------------------------------------------

function onKey(one, event) {
  if (!one.chart || event.ctrlKey || event.metaKey || event.altKey) return;
  const { points } = one.spec;
  const last = points.length - 1;
  const moves = { ArrowRight: one.at + 1, ArrowLeft: one.at - 1, Home: 0, End: last };
  const zooms = { "+": 0.5, "=": 0.5, "-": 2, 0: Infinity };
  if (event.key in moves) {
    one.at = Math.max(0, Math.min(last, moves[event.key]));
    read(one, points[one.at]);
  } else if (event.key in zooms) {
    zoomBy(one, zooms[event.key]);
  } else if (event.key === "Escape") {
    one.chart.dispatchAction({ type: "hideTip" });
  } else return;
  event.preventDefault();
}

function read(one, [seriesIndex, dataIndex]) {
  one.chart.dispatchAction({ type: "showTip", seriesIndex, dataIndex });
  const { head, rows } = one.spec.tip(seriesIndex, dataIndex);
  byId("spoken").textContent = `${head}. ${rows.map(([, name, value]) => `${name}: ${value}`).join("; ")}`;
}

// Halve or double what is shown, around the middle, or around the value that was read last.
function zoomBy(one, factor) {
  const window = one.chart.getOption().dataZoom?.[0];
  if (!window) return;
  const middle = one.at >= 0 && factor < 1 ? (100 * one.at) / Math.max(1, one.spec.points.length - 1) : (window.start + window.end) / 2;
  const half = Math.min(50, ((window.end - window.start) * factor) / 2);
  const start = Math.max(0, Math.min(100 - 2 * half, middle - half));
  one.chart.dispatchAction({ type: "dataZoom", start, end: start + 2 * half });
}

// ---- light and dark ------------------------------------------------------------------------------

function theme(div) {
  const style = getComputedStyle(document.documentElement);
  const names = ["page", "card", "text", "soft", "line", "grid", "accent", "ink",
    "blue", "sky", "green", "orange", "red", "pink", "grey"];
  const look = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  const width = div.clientWidth;
  const dark = document.documentElement.dataset.theme === "dark";
  return { ...look, dark, faint: `${look.accent}33`, font: getComputedStyle(document.body).fontFamily, width, narrow: width < 560 };
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  byId("theme").textContent = name === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `Switch to ${name === "dark" ? "light" : "dark"} colours`);
}

function redraw() {
  for (const one of drawn.values()) draw(one);
}

function listen() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  setTheme(dark.matches ? "dark" : "light");
  const change = (name) => { setTheme(name); redraw(); };
  dark.addEventListener("change", () => change(dark.matches ? "dark" : "light"));
  byId("theme").addEventListener("click", () =>
    change(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
  let width = document.body.clientWidth;
  addEventListener("resize", () => {
    if (document.body.clientWidth === width) return;
    width = document.body.clientWidth;
    redraw();
  });
  let before;
  addEventListener("beforeprint", () => { before = document.documentElement.dataset.theme; change("light"); });
  addEventListener("afterprint", () => change(before));
}

setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
showHead();
showClasses();
page.pictures.forEach(showPicture);
listen();
