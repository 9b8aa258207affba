// From the page's data to what plotly draws: numbers, then lines of a panel, then its axes.

const CONTROL_DASHES = ["dot", "dashdot", "longdash", "longdashdot", "dash"];
const FONT = {family: "system-ui, -apple-system, 'Segoe UI', sans-serif", size: 12, color: "#333"};
const decoded = new WeakMap();

// the numbers of one array of the data, decoded once
function numbers(array) {
  if (Array.isArray(array)) return array;
  if (!decoded.has(array)) {
    const bytes = Uint8Array.from(atob(array.bdata), letter => letter.charCodeAt(0));
    decoded.set(array, new Float32Array(bytes.buffer));
  }
  return decoded.get(array);
}

function transparent(colour, share) {
  const part = place => parseInt(colour.slice(place, place + 2), 16);
  return `rgba(${part(1)},${part(3)},${part(5)},${share})`;
}

// mean of lines at every x, and one sample standard deviation around it (`low` not below `floor`); one line has no band
function meanAndBand(lines, xs, key, floor) {
  const at = new Map();
  for (const line of lines) {
    const x = numbers(xs[line[key.x]]), y = numbers(line[key.y]);
    x.forEach((place, index) => at.has(place) ? at.get(place).push(y[index]) : at.set(place, [y[index]]));
  }
  const found = {x: [...at.keys()].sort((a, b) => a - b), mean: [], low: [], high: [], several: false};
  for (const place of found.x) {
    const values = at.get(place), mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    const deviation = values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0;
    found.several ||= values.length > 1;
    found.mean.push(mean);
    found.low.push(Math.max(mean - deviation, floor));
    found.high.push(mean + deviation);
  }
  return found;
}

// plotly's traces of one series: a thin line per seed, a band, the mean; `shown` says which seeds and which of these
function linesOf(series, xs, shown, key = {x: "x", y: "y"}, floor = -Infinity) {
  const lines = series.lines.filter(line => !shown.off.has(line.seed));
  if (!lines.length) return [];
  const group = {legendgroup: series.group, x: [], y: []}, traces = [];
  const alone = !shown.mean || lines.length === 1;
  const style = {color: series.colour, dash: series.dash, width: 2};
  for (const line of shown.seeds || alone ? lines : []) {
    const who = `seed ${line.seed}${line.part ? ", " + line.part : ""}`;
    traces.push({...group, x: xs[line[key.x]], y: line[key.y], mode: "lines", name: series.label, opacity: alone ? 1 : 0.4,
      showlegend: alone && line === lines[0], meta: {series: series.name, seed: line.seed, part: line.part},
      line: alone ? style : {...style, width: 0.8}, hovertemplate: `${series.label}, ${who}<br>%{x}: %{y:.4g}<extra></extra>`});
  }
  const marked = series.marks ? {mode: "lines+markers", marker: series.marks} : {mode: "lines"};
  if (alone) return traces.map(trace => ({...trace, ...marked}));
  const {x, mean, low, high, several} = meanAndBand(lines, xs, key, floor);
  if (several && shown.band) {
    traces.push({...group, x: [...x, ...x.toReversed()], y: [...high, ...low.toReversed()], fill: "toself", mode: "lines",
      fillcolor: transparent(series.colour, 0.16), line: {width: 0}, hoverinfo: "skip", showlegend: false,
      meta: {series: series.name}});
  }
  const spread = high.map((value, index) => value - mean[index]);
  traces.push({...group, x, y: mean, customdata: spread, ...marked,
    line: style, name: series.label, meta: {series: series.name, mean: lines.length},
    hovertemplate: `${series.label}, mean of ${lines.length}<br>%{x}: %{y:.4g} ± %{customdata:.2g}<extra></extra>`});
  return traces;
}

// the panel's own series, or the one that is chosen where they are in different units
function chosenSeries(panel, shown) {
  return panel.of === null && panel.part ? panel.series.filter(series => series.name === shown.series) : panel.series;
}

function curveTraces(panel, controls, shown) {
  const floor = panel.axes.log && panel.axes.y_range ? panel.axes.y_range[0] : -Infinity;
  const marks = panel.kind === "descent" || panel.kind === "sweep" ? {marks: {size: 7}} : {};
  const own = chosenSeries(panel, shown).map(series => ({...series, ...marks, group: series.name}));
  const traces = own.flatMap(series => linesOf(series, panel.xs, shown, undefined, floor));
  controls.forEach((control, place) => {
    for (const series of control.series) {
      const named = {...series, ...marks, label: `${series.label} · ${control.what}`, group: `${series.name} ${control.name}`,
        dash: CONTROL_DASHES[place % CONTROL_DASHES.length]};
      const lines = linesOf(named, control.xs, shown, undefined, floor);
      traces.push(...lines.map(trace => ({...trace, meta: {...trace.meta, control: control.name}})));
    }
  });
  return shown.published ? [...traces, ...publishedTraces(panel)] : traces;
}

function publishedTraces(panel) {
  return panel.published.map(curve => {
    const series = panel.series.find(one => one.name === curve.series) || {label: curve.series, colour: "#333333"};
    const marker = {color: series.colour, size: 5, line: {color: "#222", width: 0.6}};
    const common = {name: `${series.label}, published`, legendgroup: "published", showlegend: false,
      meta: {published: curve.series},
      hovertemplate: `${series.label}, published<br>%{x}: %{y:.4g}<extra>${curve.source}</extra>`};
    if (!curve.flat) return {...common, x: curve.x, y: curve.y, mode: "markers", marker};
    const ends = panel.axes.x_range, value = numbers(curve.y)[0];
    return {...common, x: ends, y: [value, value], mode: "lines", line: {color: series.colour, width: 1, dash: "dot"}};
  });
}

// the union of the ranges that a panel and its controls have; undefined where one has none
function union(ranges) {
  if (ranges.some(range => !range)) return undefined;
  return [Math.min(...ranges.map(range => range[0])), Math.max(...ranges.map(range => range[1]))];
}

// the largest y of all traces
function highest(traces) {
  const values = traces.map(trace => numbers(trace.y));
  return values.reduce((top, y) => y.reduce((one, other) => Math.max(one, other), top), 0) || 1;
}

function curveLayout(panel, controls, shown, traces) {
  const {axes} = panel, log = axes.log || shown.log;
  const drawn = union([panel, ...controls].map(one => one.axes.y_range));
  const fromZero = panel.of === "" ? [0, 1.04 * highest(traces)] : undefined;
  const range = log === axes.log ? drawn || (log ? undefined : fromZero) : undefined;
  const layout = {
    xaxis: {title: {text: axes.x, standoff: 8}, zeroline: false, ...axes.x_range && {range: axes.x_range}},
    yaxis: {title: {text: axes.y, standoff: 8}, type: log ? "log" : "linear", zeroline: false,
      exponentformat: "power", minorloglabels: "complete",
      // left alone, few values can bring labels whose width changes how many there are, and so on
      ...log ? {tickformat: "~g"} : {nticks: 7},
      ...range && {range: log ? range.map(value => Math.log10(value)) : range}},
  };
  if (axes.ticks) Object.assign(layout.xaxis, {ticktext: axes.ticks[0], tickvals: axes.ticks[1]});
  return layout;
}

function pictureTraces(panel, shown) {
  const kept = panel.matrices.filter(matrix => !shown.off.has(matrix.seed));
  if (!kept.length) return [];
  const size = panel.matrices[0].z.shape.split(", ").map(Number), all = kept.map(matrix => numbers(matrix.z));
  const mean = Array.from({length: size[0]}, (_, row) =>
    Array.from({length: size[1]}, (_, col) => all.reduce((sum, z) => sum + z[row * size[1] + col], 0) / all.length));
  return [{type: "heatmap", z: kept.length === 1 ? kept[0].z : mean, x0: panel.first, y0: panel.first, colorscale: panel.colours,
    zmin: panel.limits[0], zmax: panel.limits[1], meta: {seeds: kept.map(matrix => matrix.seed)},
    colorbar: {thickness: 8, len: 0.72, xpad: 5, ypad: 4, y: 1, yanchor: "top", outlinewidth: 0, tickfont: {size: 10}, nticks: 5},
    hovertemplate: `${panel.axes.y.split(":")[0]} %{y}, ${panel.axes.x.split(":")[0]} %{x}<br>%{z:.4g}<extra></extra>`}];
}

function pictureLayout(panel) {
  const small = {tickfont: {size: 10}, showgrid: false, zeroline: false, constrain: "domain"}, line = {color: "#888", width: 0.7};
  const title = text => ({text, standoff: 4, font: {size: 11}});
  const layout = {
    margin: {l: 8, r: 4, t: 22, b: 8},
    xaxis: {...small, title: title(panel.axes.x)},
    yaxis: {...small, title: title(panel.axes.y), autorange: "reversed", scaleanchor: "x", constraintoward: "top"},
  };
  if (panel.slots) {
    const ticks = {ticktext: panel.slots.names, tickvals: panel.slots.at, ticks: ""};
    Object.assign(layout.xaxis, ticks);
    Object.assign(layout.yaxis, {...ticks, tickangle: -90});
    const edges = [-0.5, panel.slots.at[0] + panel.slots.at.at(-1) + 0.5];
    layout.shapes = panel.slots.ends.flatMap(end => [
      {type: "line", x0: edges[0], x1: edges[1], y0: end, y1: end, line},
      {type: "line", y0: edges[0], y1: edges[1], x0: end, x1: end, line}]);
  }
  return layout;
}

// what all plots have in common
function common(layout, key) {
  const axis = {gridcolor: "#eee", linecolor: "#999", ticks: "outside", tickcolor: "#999", ticklen: 3, automargin: true};
  return {font: FONT, margin: {l: 52, r: 12, t: 8, b: 44}, ...layout, hovermode: "closest", uirevision: key,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    hoverlabel: {bgcolor: "#fff", bordercolor: "#bbb", font: {color: "#222"}, align: "left"},
    legend: {orientation: "h", y: -0.22, yanchor: "top", x: 0, font: {size: 11}, tracegroupgap: 0, itemwidth: 30},
    modebar: {bgcolor: "rgba(0,0,0,0)", color: "#b4bac0", activecolor: "#444"},
    xaxis: {...axis, ...layout.xaxis}, yaxis: {...axis, ...layout.yaxis}};
}

function drawPlot(element, traces, layout, name) {
  // named one by one: by default there is one that would send the data to a server
  const buttons = {displaylogo: false, responsive: true, showSendToCloud: false, plotlyServerURL: "",
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]],
    toImageButtonOptions: {format: "svg", filename: name.replaceAll("/", "-")}};
  return Plotly.react(element, traces, common(layout, name), buttons);
}
