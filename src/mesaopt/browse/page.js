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

const verdictClass = verdict => verdict.replaceAll(" ", "-");

function countsOf(claims) {
  const counted = page.verdicts.map(verdict => [verdict, claims.filter(claim => claim.verdict === verdict).length]);
  return make("span", {class: "counts"}, ...counted.filter(([verdict, count]) => count && verdict !== "not run").map(([verdict, count]) =>
    make("span", {class: `count ${verdictClass(verdict)}`, title: `${count} ${verdict}`}, String(count))));
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
  const buttons = seeds.map(seed => make("button", {class: "seed", "data-seed": seed, "aria-pressed": String(!shown.off.has(seed)),
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
  return make("div", {class: "group"}, make("span", {class: "name"}, seeds.length === 1 ? "seed" : "seeds"), ...buttons, ...seeds.length > 1 ? [all] : []);
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
    const picked = controls.filter(control => on.has(control.name)), now = {...shown, series: chosen.series.get(key) || panel.series?.[0].name};
    const traces = panel.matrices ? pictureTraces(panel, now) : curveTraces(panel, picked, now);
    drawPlot(element, traces, panel.matrices ? pictureLayout(panel) : curveLayout(panel, picked, now, traces), key);
  });
  const head = make("h3", {}, ...panel.letter ? [make("b", {class: "letter"}, panel.letter)] : [], make("span", {html: panel.title}));
  if (panel.of === null && panel.part && panel.series.length > 1) head.append(seriesChoice(panel, key, entry));
  const switches = controls.map(control => toggle(control.what, on.has(control.name), yes => {
    yes ? on.add(control.name) : on.delete(control.name);
    redraw([entry]);
  }, {"data-control": control.name}));
  const body = make("section", {class: `card${panel.matrices ? " matrix" : ""}`, id: `panel-${panel.name}`}, head, plot);
  if (controls.length) body.append(make("div", {class: "controls"}, make("span", {class: "name"}, "in the table, not drawn in the PDF"), ...switches));
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
  const words = `In the table alone: ${panels.length} more panel${panels.length > 1 ? "s" : ""}, such as ${panels[0].name.replaceAll("_", " ")}`;
  return make("details", {class: "rest", ontoggle: () => {
    if (!holder.childElementCount) holder.append(...panels.map(panel => panelCard(figure, panel)));
    drawInSight();
  }}, make("summary", {}, words), holder);
}

// --- claims
function claimTable(claims, withFigure = false) {
  const order = claim => claim.verdict === "not run";
  const rows = claims.toSorted((a, b) => order(a) - order(b)).map(claim => {
    const place = page.figures.some(figure => figure.name === claim.figure) ? make("a", {href: `#${claim.figure}`}, claim.figure) : claim.figure;
    const note = claim.note ? [make("div", {class: "note"}, claim.note)] : [];
    const both = claim.verdict === claim.verdict_family ? claim.verdict : `${claim.verdict}*`;
    return make("tr", {class: claim.verdict === "not run" ? "not-run" : "", "data-claim": claim.name},
      ...withFigure ? [make("td", {}, place)] : [],
      make("td", {class: "sentence"}, make("span", {title: claim.source}, claim.sentence), ...note), make("td", {}, claim.ours),
      make("td", {}, claim.bound), make("td", {}, claim.paper), make("td", {}, claim.seeds ? String(claim.seeds) : ""),
      make("td", {class: `verdict ${verdictClass(claim.verdict)}`, title: `corrected for the number of claims: ${claim.verdict_family}`}, both));
  });
  const names = [...withFigure ? ["figure"] : [], "claim", "ours (95 %)", "holds where", "paper", "seeds", "verdict"];
  return make("table", {class: "claims"}, make("thead", {}, make("tr", {}, ...names.map(name => make("th", {}, name)))), make("tbody", {}, ...rows));
}

function showClaims() {
  begin();
  const on = new Set(page.verdicts), holder = make("div"), search = make("input", {type: "search", placeholder: "words of a claim, a topic, a figure", oninput: fill});
  const buttons = page.verdicts.map(verdict => make("button", {class: `seed ${verdictClass(verdict)}`, "aria-pressed": "true", onclick: event => {
    on.has(verdict) ? on.delete(verdict) : on.add(verdict);
    event.target.setAttribute("aria-pressed", String(on.has(verdict)));
    fill();
  }}, `${page.claims.filter(claim => claim.verdict === verdict).length} ${verdict}`));
  function fill() {
    const text = claim => `${claim.name} ${claim.sentence} ${claim.topic} ${claim.figures.join(" ")}`.toLowerCase();
    const words = search.value.toLowerCase().split(/\s+/);
    const found = page.claims.filter(claim => on.has(claim.verdict) && words.every(word => text(claim).includes(word)));
    const topics = [...new Set(found.map(claim => claim.topic))];
    holder.replaceChildren(...topics.flatMap(topic => [make("h3", {}, topic), claimTable(found.filter(claim => claim.topic === topic), true)]));
  }
  main.append(make("header", {}, make("h2", {}, "Claims of the paper")), make("div", {class: "switches"}, make("div", {class: "group"}, ...buttons), search),
    make("p", {class: "note"}, "Each is one statistic per training seed; the verdict is that of its 95 % interval. *: another verdict when corrected for the number of claims."), holder);
  fill();
}

// --- runs
// whether a run has a term of the filter: `depth=6`, `lr<1e-3`, or any word of its name, task, layers, figures and settings
function hasTerm(run, term) {
  const [, name, sign, value] = term.match(/^([\w ]+)([=<>])(.+)$/) || [];
  if (!name) return run.text.includes(term);
  const found = run.settings[name] ?? run[name];
  if (sign === "=") return String(found).toLowerCase().includes(value) && isNaN(value) || Number(found) === Number(value);
  return found !== null && found !== undefined && (sign === "<" ? found < Number(value) : found > Number(value));
}

function textOf(run) {
  const settings = Object.entries(run.settings).map(([name, value]) => `${name}=${value}`);
  return [run.run, run.task, run.layers, ...run.figures, ...settings].join(" ").toLowerCase();
}

function showRuns(filter = "") {
  begin();
  const {runs, xs} = page.trainings, which = {key: "test_loss"};
  for (const run of runs) run.text ||= textOf(run);
  const search = make("input", {type: "search", value: filter, placeholder: "softmax depth=7 lr<1e-3", oninput: fill}), count = make("span", {class: "name"});
  const plot = make("div", {class: "plot tall", "data-panel": "trainings"}), table = make("div", {class: "runs"});
  let found = runs;
  const entry = card(plot, element => {
    const key = which.key === "test_loss" ? {x: "x", y: "test_loss"} : {x: "train_x", y: "train_loss"};
    const traces = found.flatMap(run => linesOf({name: run.run, label: run.run, group: run.run + run.text, colour: colourOf(runs.indexOf(run)), dash: "solid", lines: run.curves}, xs, shown, key));
    const axes = {x: "training step", y: which.key.replace("_", " "), log: true};
    drawPlot(element, traces, {...curveLayout({axes}, [], shown, traces), showlegend: found.filter(run => run.curves.length).length <= 24}, "trainings");
  });
  function fill() {
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = runs.filter(run => terms.every(term => hasTerm(run, term)));
    count.textContent = `${found.length} of ${runs.length} runs, ${found.reduce((sum, run) => sum + run.curves.length, 0)} training curves`;
    table.replaceChildren(runTable(found));
    redraw([entry]);
  }
  const seeds = [...new Set(runs.flatMap(run => run.curves.map(curve => curve.seed)))].sort((a, b) => a - b);
  const losses = toggle("training loss instead of test loss", false, on => {
    which.key = on ? "train_loss" : "test_loss";
    redraw([entry]);
  });
  const without = runs.filter(run => !run.curves.length).length;
  const words = seeds.length ? `Of ${without} runs only the settings are here, not the loss along training (figures that draw it have it).` : "No training's history is here: the loss along training is only in the figures that draw it.";
  main.append(make("header", {}, make("h2", {}, "Training runs")),
    make("div", {class: "switches"}, search, count, ...seeds.length ? [seedSwitches(seeds), viewSwitches(["mean", "band", "seeds"]), losses] : []));
  if (without || !seeds.length) main.append(make("p", {class: "note", id: "without"}, words));
  if (seeds.length) main.append(make("section", {class: "card"}, plot));
  main.append(table);
  fill();
}

// hues that stay apart however many runs there are
function colourOf(place) {
  const palette = ["#3b6fb6", "#c8553d", "#3a8f6b", "#8a5fb0", "#b58a2a", "#4a4a4a", "#2a9db0", "#b5487f", "#7a8f2a", "#6b7fa8"];
  return palette[place % palette.length];
}

function runTable(runs) {
  const names = ["run", "layers", "task", "steps", "batch", "learning rate", "seeds", "hours", "last test loss", "figures"];
  const rows = runs.map(run => {
    const {steps, batch, lr} = run.settings, hours = Object.values(run.hours).reduce((sum, hour) => sum + hour, 0);
    const last = run.curves.map(curve => curve.last).toSorted((a, b) => a - b);
    const range = last.length ? [...new Set([last[0], last.at(-1)].map(value => value.toPrecision(3)))].join(" to ") : "";
    const settings = Object.entries(run.settings).map(([name, value]) => make("span", {class: "setting"}, `${name} `, make("b", {}, Array.isArray(value) ? value.join(" ") : String(value))));
    const about = make("details", {}, make("summary", {}, run.run), make("div", {class: "settings"}, ...settings));
    const links = run.figures.flatMap(name => [make("a", {href: `#${name}`}, name), " "]);
    const cells = [run.layers, run.task, steps, batch, lr, run.seeds.join(" "), hours ? hours.toFixed(2) : "", range];
    return make("tr", {"data-run": run.run}, make("td", {class: "sentence"}, about), ...cells.map(cell => make("td", {}, String(cell))), make("td", {}, ...links));
  });
  return make("table", {}, make("thead", {}, make("tr", {}, ...names.map(name => make("th", {}, name)))), make("tbody", {}, ...rows));
}

function runsOf(figure) {
  const links = figure.runs.flatMap(run => [make("a", {href: `#runs/${run}`}, run), " "]);
  return make("p", {class: "note"}, ...links.length ? ["Runs behind it: ", ...links] : [], `Its values: tables/${figure.name}.parquet; where they come from: records/${figure.name}.json.`);
}

// --- the list on the left
function list() {
  document.getElementById("scale").textContent = `scale ${page.scale}`;
  document.getElementById("tabs").append(make("a", {href: "#claims"}, "All claims ", countsOf(page.claims)), make("a", {href: "#runs"}, "Training runs"));
  document.getElementById("figures").append(...page.figures.map(figure => {
    const claims = page.claims.filter(claim => claim.figures.includes(figure.name));
    return make("a", {href: `#${figure.name}`}, make("span", {class: "head"}, figure.heading, countsOf(claims)), make("span", {class: "title"}, figure.title));
  }));
  const absent = page.absent.length ? `No table at this scale: ${page.absent.join(", ")}.` : "";
  document.getElementById("absent").textContent = [absent, page.commits.length ? `Trained by commit ${page.commits.join(", ")}.` : ""].join(" ");
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
