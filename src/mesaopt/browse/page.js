"use strict";
// The page around the plots: lists, switches, tables of claims and runs. State is in `shown` and in the address (#fig3, #runs).

const page = JSON.parse(document.getElementById("data").textContent);
const main = document.querySelector("main");
const shown = {off: new Set(), mean: true, band: true, seeds: true, published: true, log: false};
const chosen = {controls: new Map(), series: new Map()};
let cards = [];

// an element with attributes, listeners (on...) and children; text is text
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "html") element.innerHTML = value;
    else if (typeof value === "boolean") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const verdictClass = verdict => verdict.split(":")[0].replaceAll(" ", "-");

function countsOf(claims) {
  const number = verdict => claims.filter(claim => claim.verdict === verdict).length;
  const given = page.verdicts.filter(verdict => verdict !== "not run" && number(verdict));
  return make("span", {class: "counts"}, ...given.map(verdict =>
    make("span", {class: `count ${verdictClass(verdict)}`, title: `${number(verdict)} ${verdict}`}, String(number(verdict)))));
}

function toggle(text, on, change, attributes = {}) {
  const box = make("input", {type: "checkbox", checked: on, onchange: () => change(box.checked)});
  return make("label", {class: "toggle", ...attributes}, box, text);
}

// --- plots: each is drawn when it comes into sight, and again when what is shown has changed
function card(plot, draw) {
  const entry = {plot, draw, stale: true};
  cards.push(entry);
  return entry;
}

function inSight(plot) {
  const {top, bottom, width} = plot.getBoundingClientRect();
  return width > 0 && top < innerHeight + 300 && bottom > -300;
}

function drawInSight() {
  for (const entry of cards.filter(entry => entry.stale && inSight(entry.plot))) {
    entry.stale = false;
    entry.draw(entry.plot);
  }
}

function redraw(entries = cards) {
  for (const entry of entries) entry.stale = true;
  drawInSight();
}

function begin() {
  for (const entry of cards) Plotly.purge(entry.plot);
  cards = [];
  main.replaceChildren();
  main.scrollTop = 0;
}

// --- switches
function seedSwitches(seeds) {
  const buttons = seeds.map(seed => make("button", {"data-seed": seed, "aria-pressed": String(!shown.off.has(seed)),
    onclick: () => set(seed, shown.off.has(seed))}, String(seed)));
  const set = (seed, on) => {
    on ? shown.off.delete(seed) : shown.off.add(seed);
    buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(!shown.off.has(seeds[place]))));
    redraw();
  };
  const all = make("button", {class: "all", onclick: () => {
    const on = seeds.some(seed => shown.off.has(seed));
    seeds.forEach((seed, place) => on ? shown.off.delete(seed) : place && shown.off.add(seed));
    set(seeds[0], true);
  }}, "all / first");
  const name = make("span", {class: "name"}, seeds.length === 1 ? "seed" : "seeds");
  return make("div", {class: "group"}, name, ...buttons, ...seeds.length > 1 ? [all] : []);
}

function viewSwitches(which) {
  const names = {mean: "mean", band: "± 1 s.d.", seeds: "each seed", published: "published points", log: "logarithmic y"};
  return make("div", {class: "group"}, ...which.map(name => toggle(names[name], shown[name], on => {
    shown[name] = on;
    redraw();
  }, {"data-show": name})));
}

// --- figures
function showFigure(figure) {
  begin();
  const claims = page.claims.filter(claim => claim.figures.includes(figure.name));
  const several = figure.panels.some(panel => panel.series && panel.seeds !== 1) && figure.seeds.length > 1;
  const published = figure.panels.some(panel => panel.published.length);
  const curves = figure.panels.some(panel => panel.series);
  const views = [...several ? ["mean", "band", "seeds"] : [], ...published ? ["published"] : [], ...curves ? ["log"] : []];
  const drawn = figure.panels.filter(panel => panel.of === ""), rest = figure.panels.filter(panel => panel.of === null);
  main.append(
    make("header", {}, make("h2", {}, `${figure.heading}. `, make("span", {class: "title"}, figure.title)), countsOf(claims)),
    make("div", {class: "switches"}, seedSwitches(figure.seeds), viewSwitches(views)),
    ...grids(figure, drawn),
  );
  if (rest.length) main.append(restOf(figure, rest));
  main.append(make("h3", {}, claims.length ? "Claims on this figure" : "No claim is about this figure"));
  if (claims.length) main.append(claimTable(claims));
  main.append(runsOf(figure));
}

// panels of curves in one grid, pictures in another with narrower places, in the order of the figure
function grids(figure, panels) {
  const kinds = [...new Set(panels.map(panel => Boolean(panel.matrices)))];
  return kinds.map(pictures => make("div", {class: pictures ? "panels pictures" : "panels"},
    ...panels.filter(panel => Boolean(panel.matrices) === pictures).map(panel => panelCard(figure, panel))));
}

function panelCard(figure, panel) {
  const controls = figure.panels.filter(other => other.of === panel.name), key = `${figure.name}/${panel.name}`;
  const on = chosen.controls.get(key) || new Set();
  chosen.controls.set(key, on);
  const plot = make("div", {class: panel.matrices ? "plot picture" : "plot", "data-panel": panel.name});
  const entry = card(plot, element => {
    const picked = controls.filter(control => on.has(control.name));
    const now = {...shown, series: chosen.series.get(key) || panel.series?.[0].name};
    const traces = panel.matrices ? pictureTraces(panel, now) : curveTraces(panel, picked, now);
    drawPlot(element, traces, panel.matrices ? pictureLayout(panel) : curveLayout(panel, picked, now, traces), key);
  });
  const letter = panel.letter ? [make("b", {class: "letter"}, panel.letter)] : [];
  const head = make("h3", {}, ...letter, make("span", {html: panel.title}));
  if (panel.of === null && panel.part && panel.series.length > 1) head.append(seriesChoice(panel, key, entry));
  const switches = controls.map(control => toggle(control.what, on.has(control.name), yes => {
    yes ? on.add(control.name) : on.delete(control.name);
    redraw([entry]);
  }, {"data-control": control.name}));
  const body = make("section", {class: `card${panel.matrices ? " matrix" : ""}`, id: `panel-${panel.name}`}, head, plot);
  const name = make("span", {class: "name"}, "in the table, not drawn in the PDF");
  if (controls.length) body.append(make("div", {class: "controls"}, name, ...switches));
  return body;
}

function seriesChoice(panel, key, entry) {
  const options = panel.series.map(series => make("option", {value: series.name}, series.name));
  const select = make("select", {onchange: () => {
    chosen.series.set(key, select.value);
    redraw([entry]);
  }}, ...options);
  return select;
}

function restOf(figure, panels) {
  const holder = make("div", {class: "panels small"});
  const names = panels.map(panel => panel.name.replaceAll("_", " "));
  const words = `In the table alone: ${names.slice(0, 3).join(", ")}${names.length > 3 ? `, and ${names.length - 3} more` : ""}`;
  return make("details", {class: "rest", ontoggle: () => {
    if (!holder.childElementCount) holder.append(...panels.map(panel => panelCard(figure, panel)));
    drawInSight();
  }}, make("summary", {}, words), holder);
}

function runsOf(figure) {
  const links = figure.runs.flatMap(run => [make("a", {href: `#runs/${run}`}, run), " "]);
  const files = `Its values: tables/${figure.name}.parquet; where they come from: records/${figure.name}.json.`;
  return make("p", {class: "note"}, ...links.length ? ["Runs behind it: ", ...links] : [], files);
}

// --- the list on the left
function list() {
  document.getElementById("scale").textContent = `scale ${page.scale}`;
  const all = make("a", {href: "#claims"}, "All claims ", countsOf(page.claims));
  document.getElementById("tabs").append(all, make("a", {href: "#runs"}, "Training runs"));
  document.getElementById("figures").append(...page.figures.map(figure => {
    const claims = page.claims.filter(claim => claim.figures.includes(figure.name));
    const head = make("span", {class: "head"}, figure.heading, countsOf(claims));
    return make("a", {href: `#${figure.name}`}, head, make("span", {class: "title"}, figure.title));
  }));
  const absent = page.absent.length ? `No table at this scale: ${page.absent.join(", ")}.` : "";
  const commits = page.commits.length ? `Trained by commit ${page.commits.join(", ")}.` : "";
  document.getElementById("absent").textContent = `${absent} ${commits}`;
}

function follow() {
  const [where, ...rest] = decodeURIComponent(location.hash.slice(1)).split("/"), name = [where, ...rest].join("/");
  const figure = page.figures.find(figure => figure.name === name) || page.figures[0];
  if (where === "runs") showRuns(rest.join("/"));
  else if (where === "claims") showClaims();
  else showFigure(figure);
  drawInSight();
  const current = where === "runs" || where === "claims" ? where : figure.name;
  document.querySelectorAll("nav a").forEach(link => link.classList.toggle("here", link.getAttribute("href") === `#${current}`));
}

list();
window.addEventListener("hashchange", follow);
window.addEventListener("resize", drawInSight);
main.addEventListener("scroll", drawInSight);
follow();
