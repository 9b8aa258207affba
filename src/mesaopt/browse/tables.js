// Tables of the page: claims and trained runs, each with a filter.

function table(attributes, names, rows) {
  const head = make("tr", {}, ...names.map(name => make("th", {}, name)));
  return make("table", attributes, make("thead", {}, head), make("tbody", {}, ...rows));
}

const cell = (text, attributes = {}) => make("td", attributes, String(text));

// --- claims
function claimTable(claims, withFigure = false) {
  const later = claim => claim.verdict === "not run";
  const names = [...withFigure ? ["figure"] : [], "claim", "ours (95 %)", "holds where", "paper", "seeds", "verdict"];
  const sorted = claims.toSorted((a, b) => later(a) - later(b));
  return table({class: "claims"}, names, sorted.map(claim => claimRow(claim, withFigure)));
}

function claimRow(claim, withFigure) {
  const here = page.figures.some(figure => figure.name === claim.figure);
  const place = here ? make("a", {href: `#${claim.figure}`}, claim.figure) : claim.figure;
  const note = claim.note ? [make("div", {class: "note"}, claim.note)] : [];
  const verdict = claim.verdict === claim.verdict_family ? claim.verdict : `${claim.verdict}*`;
  const corrected = `corrected for the number of claims: ${claim.verdict_family}`;
  return make("tr", {class: claim.verdict === "not run" ? "not-run" : "", "data-claim": claim.name},
    ...withFigure ? [make("td", {}, place)] : [],
    make("td", {class: "sentence"}, make("span", {title: claim.source}, claim.sentence), ...note),
    cell(claim.ours), cell(claim.bound), cell(claim.paper), cell(claim.seeds || ""),
    cell(verdict, {class: `verdict ${verdictClass(claim.verdict)}`, title: corrected}));
}

function showClaims() {
  begin();
  const on = new Set(page.verdicts), holder = make("div");
  const search = make("input", {type: "search", placeholder: "words of a claim, a topic, a figure", oninput: fill});
  const buttons = page.verdicts.map(verdict => {
    const button = make("button", {class: verdictClass(verdict), "aria-pressed": "true", onclick: () => {
      on.has(verdict) ? on.delete(verdict) : on.add(verdict);
      button.setAttribute("aria-pressed", String(on.has(verdict)));
      fill();
    }}, `${page.claims.filter(claim => claim.verdict === verdict).length} ${verdict}`);
    return button;
  });
  function fill() {
    const text = claim => [claim.name, claim.sentence, claim.topic, ...claim.figures].join(" ").toLowerCase();
    const words = search.value.toLowerCase().split(/\s+/);
    const found = page.claims.filter(claim => on.has(claim.verdict) && words.every(word => text(claim).includes(word)));
    const topics = [...new Set(found.map(claim => claim.topic))];
    const of = topic => claimTable(found.filter(claim => claim.topic === topic), true);
    holder.replaceChildren(...topics.flatMap(topic => [make("h3", {}, topic), of(topic)]));
  }
  main.append(
    make("header", {}, make("h2", {}, "Claims of the paper")),
    make("div", {class: "switches"}, make("div", {class: "group"}, ...buttons), search),
    make("p", {class: "note"}, "Each is one statistic per training seed; the verdict is that of its 95 % interval. "
      + "*: another verdict when corrected for the number of claims."),
    holder);
  fill();
}

// --- runs
// whether a run has a term of the filter: `depth=6`, `lr<1e-3`, or any word of its name, task, layers, figures and settings
function hasTerm(run, term) {
  const [, name, sign, value] = term.match(/^(\w+)([=<>])(.+)$/) || [];
  if (!name) return run.text.includes(term);
  const found = run.settings[name] ?? run[name];
  if (sign === "=") return isNaN(value) ? String(found).toLowerCase().includes(value) : Number(found) === Number(value);
  return typeof found === "number" && (sign === "<" ? found < Number(value) : found > Number(value));
}

function textOf(run) {
  const settings = Object.entries(run.settings).map(([name, value]) => `${name}=${value}`);
  return [run.run, run.task, run.layers, ...run.figures, ...settings].join(" ").toLowerCase();
}

function showRuns(filter = "") {
  begin();
  const {runs} = page.trainings;
  for (const run of runs) run.text ||= textOf(run);
  let found = runs, loss = "test_loss";
  const search = make("input", {type: "search", value: filter, placeholder: "softmax depth=7 lr<1e-3", oninput: fill});
  const count = make("span", {class: "name"}), rows = make("div", {class: "runs"});
  const plot = make("div", {class: "plot tall", "data-panel": "trainings"});
  const entry = card(plot, element => drawTrainings(element, found, loss));
  function fill() {
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = runs.filter(run => terms.every(term => hasTerm(run, term)));
    const curves = found.reduce((sum, run) => sum + run.curves.length, 0);
    count.textContent = `${found.length} of ${runs.length} runs, ${curves} training curves`;
    rows.replaceChildren(runTable(found));
    redraw([entry]);
  }
  const losses = toggle("training loss instead of test loss", false, on => {
    loss = on ? "train_loss" : "test_loss";
    redraw([entry]);
  });
  const seeds = [...new Set(runs.flatMap(run => run.curves.map(curve => curve.seed)))].sort((a, b) => a - b);
  const switches = seeds.length ? [seedSwitches(seeds), viewSwitches(["mean", "band", "seeds"]), losses] : [];
  main.append(make("header", {}, make("h2", {}, "Training runs")), make("div", {class: "switches"}, search, count, ...switches),
    ...missingHistories(runs), ...seeds.length ? [make("section", {class: "card"}, plot)] : [], rows);
  fill();
}

function missingHistories(runs) {
  const without = runs.filter(run => !run.curves.length).length;
  if (runs.length && !without) return [];
  const words = without === runs.length
    ? "No training's history is here: the loss along training is only in the figures that draw it."
    : `Of ${without} runs only the settings are here, not the loss along training (figures that draw it have it).`;
  return [make("p", {class: "note"}, words)];
}

// hues that stay apart; names tell the rest
const HUES = ["#3b6fb6", "#c8553d", "#3a8f6b", "#8a5fb0", "#b58a2a", "#4a4a4a", "#2a9db0", "#b5487f", "#7a8f2a", "#6b7fa8"];

function drawTrainings(element, found, loss) {
  const {runs, xs} = page.trainings, key = loss === "test_loss" ? {x: "x", y: "test_loss"} : {x: "train_x", y: "train_loss"};
  const traces = found.flatMap(run => {
    const place = runs.indexOf(run), colour = HUES[place % HUES.length];
    const look = {name: run.run, label: run.run, group: String(place), colour, dash: "solid"};
    return linesOf({...look, lines: run.curves}, xs, shown, key);
  });
  const axes = {x: "training step", y: loss.replace("_", " "), log: true};
  const few = found.filter(run => run.curves.length).length <= 24;
  drawPlot(element, traces, {...curveLayout({axes}, [], shown, traces), showlegend: few}, "trainings");
}

function runTable(runs) {
  const names = ["run", "layers", "task", "steps", "batch", "learning rate", "seeds", "hours", "last test loss", "figures"];
  return table({}, names, runs.map(runRow));
}

function runRow(run) {
  const {steps, batch, lr} = run.settings, hours = Object.values(run.hours).reduce((sum, hour) => sum + hour, 0);
  const last = run.curves.map(curve => curve.last).toSorted((a, b) => a - b);
  const range = last.length ? [...new Set([last[0], last.at(-1)].map(value => value.toPrecision(3)))].join(" to ") : "";
  const settings = Object.entries(run.settings).map(([name, value]) =>
    make("span", {class: "setting"}, `${name} `, make("b", {}, Array.isArray(value) ? value.join(" ") : String(value))));
  const about = make("details", {}, make("summary", {}, run.run), make("div", {class: "settings"}, ...settings));
  const links = run.figures.flatMap(name => [make("a", {href: `#${name}`}, name), " "]);
  const cells = [run.layers, run.task, steps, batch, lr, run.seeds.join(" "), hours ? hours.toFixed(2) : "", range];
  const first = make("td", {class: "sentence"}, about), figures = make("td", {}, ...links);
  return make("tr", {"data-run": run.run}, first, ...cells.map(text => cell(text)), figures);
}
