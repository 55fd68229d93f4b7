"use strict";
// What each plot shows: functions from colours (and what a control chose) to plotly's data and layout.
// plotly reads some markup in the texts it is given, so whatever comes from a file goes through plain().

const data = JSON.parse(document.getElementById("data").textContent);
const SANS = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif';
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down"];
// Okabe and Ito's colours, told apart without red or green, and lighter ones for a dark page.
const LINES = {
  light: ["#0072b2", "#c2410c", "#00785a", "#a2478a", "#8a6500", "#2b8cc4", "#16191d", "#59626e"],
  dark: ["#5cb8f0", "#ff9257", "#35c9a0", "#e79ccb", "#e8c04a", "#9bd3f5", "#e7eaee", "#a0aab6"],
};
// The ends of a heat map: figures must be readable on them.
const HEAT = { light: ["#0072b2", "#c2410c"], dark: ["#2178b8", "#bb4f17"] };

const plain = (text) =>
  String(text)
    .replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, (one) => `⟨U+${one.codePointAt(0).toString(16).toUpperCase()}⟩`)
    .replace(/&/g, "&amp;")
    .replace(/</g, "&lt;")
    .replace(/>/g, "&gt;");
const wrapped = (text) => {
  const short = text.length > 320 ? text.slice(0, 320) + "…" : text;
  const lines = short.replace(/\s+/g, " ").match(/.{1,56}(?:\s|$)|.{56}/gu) || [""];
  return lines.map(plain).join("<br>");
};
const minus = (value) => String(value).replace("-", "−");
const percent = (value) => (value === null ? "–" : value === 0 || value === 1 ? `${100 * value}%` : `${(100 * value).toFixed(1)}%`);
const number = (value) => {
  if (value === null || value === undefined) return "–";
  if (value === 0 || (Math.abs(value) >= 1e-4 && Math.abs(value) < 1e6)) return minus(Number(value.toPrecision(3)));
  const [digits, exponent] = value.toExponential(2).split("e");
  const raised = [...String(Number(exponent))].map((one) => (one === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[one])).join("");
  return `${minus(Number(digits))} × 10${raised}`;
};
const span = (one) => `${percent(one.rate)} [${percent(one.low)}, ${percent(one.high)}]`;

const axis = (colours, title, more = {}) => ({
  title: { text: title, standoff: 12, font: { size: 13, color: colours.muted } },
  gridcolor: colours.rule, linecolor: colours.muted, tickcolor: colours.muted, tickfont: { color: colours.muted },
  zeroline: false, showline: true, ticks: "outside", ticklen: 4, automargin: true, ...more,
});
// Ticks of a logarithmic axis as plain numbers: powers of ten, and 2 and 5 between them where there is room.
const decades = (values) => {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const steps = Math.log10(high / low) > 2 ? [1] : [1, 2, 5];
  const powers = Array.from({ length: 14 }, (_, place) => place - 10);
  const tickvals = powers.flatMap((power) => steps.map((step) => Number(`${step}e${power}`)));
  return { tickvals, ticktext: tickvals.map(number) };
};
const layout = (colours, xaxis, yaxis, more = {}) => ({
  font: { family: SANS, size: 13, color: colours.ink },
  paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 48, r: 18, t: 34, b: 46 },
  hoverlabel: { bgcolor: colours.raised, bordercolor: colours.muted, align: "left", font: { color: colours.ink, family: SANS } },
  legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { color: colours.ink } },
  // Dragging over a plot must scroll the page on a touch screen.
  dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", hovermode: "closest", xaxis, yaxis, ...more,
});
const line = (colours, at, along, dash = "dash") => ({
  type: "line", layer: "below", line: { color: colours.muted, width: 1.5, dash },
  ...(along === "x" ? { xref: "paper", x0: 0, x1: 1, y0: at, y1: at } : { yref: "paper", y0: 0, y1: 1, x0: at, x1: at }),
});
const note = (colours, text, y, logarithmic) => ({
  text, xref: "paper", x: 1, xanchor: "right", y: logarithmic ? Math.log10(y) : y, yanchor: "bottom", showarrow: false,
  font: { size: 12, color: colours.muted },
});
const ring = (colours, x, y, name = "chosen") => ({
  x: [x], y: [y], name, mode: "markers", type: "scatter", hoverinfo: "skip",
  marker: { symbol: "circle-open", size: 20, color: colours.ink, line: { width: 2.5, color: colours.ink } },
});
const bars = (colour, ones, centre) => ({
  type: "data", symmetric: false, color: colour, thickness: 1.8, width: 5,
  array: ones.map((one) => one.high - one[centre]), arrayminus: ones.map((one) => one[centre] - one.low),
});
const rows = (titles, more = {}) => ({
  tickvals: titles.map((_, place) => -place), ticktext: titles, range: [0.5 - titles.length, 0.5], showgrid: false, ticks: "", ...more,
});

// One tick of so many, where there is room for 32 pixels each.
const every = (count, width) => [1, 2, 5, 10, 20, 50].find((step) => (32 * count) / step < width - 90) || 100;
const beside = (share) => (share < 0.1 ? "top right" : share > 0.9 ? "top left" : "top center");

// A rate of each model at each row, with its interval.
function dots(colours, named, texts) {
  return named.map(({ name, colour, symbol, shift, ones }) => ({
    type: "scatter", mode: texts ? "markers+text" : "markers", name: plain(name),
    x: ones.map((one) => one.rate.rate), y: ones.map((one) => one.row + shift), error_x: bars(colour, ones.map((one) => one.rate), "rate"),
    text: ones.map((one) => percent(one.rate.rate)), textposition: ones.map((one) => beside(one.rate.rate)), textfont: { color: colour }, cliponaxis: false,
    customdata: ones.map((one) => `${one.rate.count}/${one.rate.total} = ${span(one.rate)}`), hovertemplate: "%{customdata}",
    marker: { color: colour, symbol, size: 11, line: { width: 1, color: colours.paper } },
  }));
}

function refusals(colours) {
  const sides = ["harmful", "harmless"];
  const of = (model) => sides.map((side, place) => ({ row: -place, rate: data.figures[model][`${side}_refusals`] }));
  const named = [
    { name: "original", colour: colours.original, symbol: "circle", shift: 0.14, ones: of("original") },
    { name: "edited", colour: colours.edited, symbol: "diamond", shift: -0.14, ones: of("edited") },
  ];
  const across = axis(colours, "refused", { range: [-0.03, 1.03], tickformat: ".0%", dtick: 0.25 });
  return { data: dots(colours, named, true), layout: layout(colours, across, axis(colours, "", rows(sides))) };
}

function damage(colours) {
  const kinds = Object.keys(data.kinds);
  const ones = kinds.map((kind) => data.figures.kl[kind]);
  const titled = (kind) => data.kinds[kind].replace("KL, ", "").replace(", ", ",<br>");
  const shown = {
    type: "scatter", mode: "markers+text", x: ones.map((one) => one.mean), y: ones.map((_, place) => -place),
    error_x: bars(colours.edited, ones, "mean"), marker: { color: colours.edited, symbol: "diamond", size: 11 },
    text: ones.map((one) => number(one.mean)), textposition: "top right", textfont: { color: colours.edited }, cliponaxis: false,
    customdata: ones.map((one, place) => `${data.kinds[kinds[place]]}<br>${number(one.mean)} [${number(one.low)}, ${number(one.high)}] nats`),
    hovertemplate: "%{customdata}<extra></extra>",
  };
  const across = axis(colours, "nats", { rangemode: "tozero" });
  return { data: [shown], layout: layout(colours, across, axis(colours, "", rows(kinds.map(titled)))) };
}

function separation(colours, measure) {
  const { positions, layers, instruction_end: end } = data.separation;
  const named = (position) => `position ${minus(position)}${position === end ? ", end of the instruction" : ""}`;
  const palette = LINES[colours.name];
  const shown = positions.map((position, place) => {
    const colour = palette[place % palette.length];
    const chosen = position === data.chosen.position;
    return {
      type: "scatter", mode: "lines+markers", name: named(position), x: layers, y: data.separation[measure][place],
      line: { color: colour, dash: DASHES[place % DASHES.length], width: chosen ? 3.2 : 1.7 },
      marker: { color: colour, symbol: SYMBOLS[place % SYMBOLS.length], size: chosen ? 8 : 6 }, zorder: chosen ? 1 : 0,
      hovertemplate: `layer %{x}, ${named(position)}<br>%{y:.3f}<extra></extra>`,
    };
  });
  const { layer, position } = data.chosen;
  const row = data.separation[measure][positions.indexOf(position)];
  const height = row ? row[layers.indexOf(layer)] : null;
  if (height !== null && height !== undefined) shown.push(ring(colours, layer, height));
  const up = axis(colours, measure === "auc" ? "AUC" : "Cohen's d");
  const level = line(colours, measure === "auc" ? 0.5 : 0, "x");
  return { data: shown, layout: layout(colours, axis(colours, "layer"), up, { shapes: [level] }) };
}

function pca(colours, place) {
  const plane = data.pca.layers[place];
  const side = (name, symbol) => ({
    type: "scatter", mode: "markers", name, x: plane[name].map((one) => one[0]), y: plane[name].map((one) => one[1]),
    text: data.pca.prompts[name].map(wrapped), hovertemplate: "%{text}",
    marker: { color: colours[name], symbol, size: name === "harmful" ? 10 : 8, opacity: 0.78, line: { width: 0.8, color: colours.paper } },
  });
  const titles = plane.explained.map((one, component) => `component ${component + 1} (${percent(one)} of variance)`);
  return {
    data: [side("harmful", "triangle-up"), side("harmless", "circle")],
    layout: layout(colours, axis(colours, titles[0]), axis(colours, titles[1])),
  };
}

function selection(colours, score, width) {
  const unique = (name) => [...new Set(data.candidates.map((one) => one[name]))].sort((a, b) => a - b);
  const layers = unique("layer"), positions = unique("position");
  const at = new Map(data.candidates.map((one) => [`${one.layer},${one.position}`, one[score]]));
  const values = positions.map((position) => layers.map((layer) => at.get(`${layer},${position}`) ?? null));
  const found = values.flat().filter((one) => one !== null);
  // KL spans orders of magnitude: its colours are those of the logarithm.
  const logarithmic = score === "kl" && found.every((one) => one > 0);
  const bound = Math.max(...found.map(Math.abs), 1e-9);
  const [cold, warm] = HEAT[colours.name];
  const colourbar = { thickness: 12, outlinewidth: 0, tickfont: { color: colours.muted }, title: { text: "", side: "right" } };
  if (logarithmic) {
    const powers = [-6, -5, -4, -3, -2, -1, 0, 1, 2];
    Object.assign(colourbar, { tickvals: powers, ticktext: powers.map((power) => String(Number(`1e${power}`))) });
  }
  const map = {
    type: "heatmap", x: layers.map(String), y: positions.map(minus), z: logarithmic ? values.map((row) => row.map((one) => one && Math.log10(one))) : values,
    xgap: 2, ygap: 2, hoverongaps: false, colorbar: colourbar,
    ...(score === "kl" ? { colorscale: [[0, colours.raised], [1, warm]] } : { colorscale: [[0, cold], [0.5, colours.raised], [1, warm]], zmin: -bound, zmax: bound }),
    text: values.map((row) => row.map((one) => (one === null ? "" : number(one)))), hovertemplate: `layer %{x}, position %{y}<br>${score} %{text}<extra></extra>`,
    ...(layers.length * 52 < width ? { texttemplate: "%{text}" } : {}),
  };
  const column = layers.indexOf(data.chosen.layer), row = positions.indexOf(data.chosen.position);
  const cell = { type: "rect", x0: column - 0.5, x1: column + 0.5, y0: row - 0.5, y1: row + 0.5, line: { color: colours.ink, width: 3 } };
  const across = axis(colours, "layer", { showgrid: false, type: "category", tickangle: 0, dtick: every(layers.length, width) });
  const up = axis(colours, "position", { showgrid: false, type: "category" });
  const marked = column < 0 || row < 0 ? [] : [cell];
  return { data: [map], layout: layout(colours, across, up, { shapes: marked, margin: { l: 48, r: 8, t: 12, b: 46 } }) };
}

function strengths(colours, width) {
  const depth = Math.max(...Object.values(data.strengths).map((one) => one.length || 0), 0);
  const look = {
    embed: { offset: -0.4, width: 0.8, colour: colours.muted, shape: "" },
    attn: { offset: -0.42, width: 0.4, colour: colours.harmless, shape: "" },
    mlp: { offset: 0.02, width: 0.4, colour: colours.harmful, shape: "/" },
  };
  // Of several directions each has its share of a bar's width.
  const count = Math.max(...Object.keys(data.strengths).map((name) => Number(name.split(" ")[1] || 1)), 1);
  const shown = Object.entries(data.strengths).map(([name, value]) => {
    const [site, place = 1] = name.split(" ");
    const { offset, width: thick, colour, shape } = look[site];
    return {
      type: "bar", name, offset: offset + (thick * (place - 1)) / count, width: thick / count, x: site === "embed" ? [-1] : value.map((_, layer) => layer), y: site === "embed" ? [value] : value,
      marker: { color: colour, pattern: { shape, fillmode: "overlay", fgcolor: colours.paper, size: 6, solidity: 0.25 } },
      hovertemplate: site === "embed" ? `${name} %{y:.3f}<extra></extra>` : `${name}, layer %{x}: %{y:.3f}<extra></extra>`,
    };
  });
  const layers = [...Array(depth).keys()].filter((layer) => layer % every(depth, width) === 0);
  // Where bars are narrow the legend alone names the embedding's.
  const named = width > 60 * depth ? "embed" : "";
  const ticks = { tickvals: [-1, ...layers], ticktext: [named, ...layers.map(String)], tickangle: 0, showgrid: false, range: [-1.6, depth - 0.4] };
  const more = { barmode: "overlay", shapes: [{ ...line(colours, 1, "x"), layer: "above" }], showlegend: true };
  return { data: shown, layout: layout(colours, axis(colours, "block", ticks), axis(colours, "strength", { rangemode: "tozero" }), more) };
}

function front(colours) {
  const { points, original } = data.front;
  const best = points.filter((one) => one.best).sort((a, b) => a.kl - b.kl);
  const group = (name, ones, symbol) => ({
    type: "scatter", mode: "markers", name, x: ones.map((one) => one.kl), y: ones.map((one) => one.rate.rate),
    error_y: { ...bars(colours.edited, ones.map((one) => one.rate), "rate"), thickness: 1.2 },
    marker: { symbol, size: 10, color: colours.edited, line: { width: 1.5, color: colours.edited } },
    customdata: ones.map((one) => `KL ${number(one.kl)} nats<br>refused ${one.rate.count}/${one.rate.total} = ${span(one.rate)}<br>incoherent ${one.incoherent}`),
    hovertemplate: "%{customdata}<extra></extra>",
  });
  const steps = {
    type: "scatter", mode: "lines", x: best.map((one) => one.kl), y: best.map((one) => one.rate.rate), hoverinfo: "skip", showlegend: false,
    line: { shape: "hv", color: colours.edited, width: 1.6 },
  };
  const chosen = points.find((one) => one.chosen);
  const others = points.filter((one) => !one.best);
  const shown = [steps, group("on the front", best, "diamond"), ...(others.length ? [group("beaten", others, "diamond-open")] : [])];
  const type = points.every((one) => one.kl > 0) ? "log" : "linear";
  const across = axis(colours, "KL(original ‖ edited), nats", { type, ...(type === "log" ? decades(points.map((one) => one.kl)) : {}) });
  const up = axis(colours, "harmful prompts refused", { tickformat: ".0%", range: [-0.04, 1.08] });
  const more = { shapes: [line(colours, original.rate, "x")], annotations: [note(colours, `original ${percent(original.rate)}`, original.rate)] };
  return { data: [...shown, ring(colours, chosen.kl, chosen.rate.rate)], layout: layout(colours, across, up, more) };
}

function proof(colours) {
  const { per_layer: found, limit, before } = data.proof;
  const shown = {
    type: "scatter", mode: "lines+markers", x: found.map((_, layer) => layer), y: found.map((one) => (one > 0 ? one : null)),
    customdata: found.map(number), hovertemplate: "layer %{x}: %{customdata}<extra></extra>", line: { color: colours.edited, width: 2 },
    marker: { color: colours.edited, symbol: "diamond", size: 7 },
  };
  const levels = [["allowed", limit, "dash"], ["original", before, "dot"]].filter((one) => one[1] > 0);
  const shownLevels = [...found.filter((one) => one > 0), ...levels.map((one) => one[1])];
  const range = [Math.log10(Math.min(...shownLevels)) - 0.3, Math.log10(Math.max(...shownLevels)) + 0.5];
  const more = {
    shapes: levels.map(([, at, dash]) => line(colours, at, "x", dash)), margin: { l: 48, r: 18, t: 12, b: 46 },
    annotations: levels.map(([name, at]) => note(colours, `${name}, ${number(at)}`, at, true)),
  };
  const up = axis(colours, "relative to the stream", { type: "log", range, ...decades(shownLevels) });
  return { data: [shown], layout: layout(colours, axis(colours, "layer"), up, more) };
}

const models = (colours) =>
  [
    { name: "against", colour: colours.original, symbol: "circle", shift: 0.16 },
    { name: "model", colour: colours.edited, symbol: "diamond", shift: -0.16 },
  ];

function evaluation(colours) {
  const labels = ["refused", "complied", "hedged", "incoherent"];
  const sets = Object.entries(data.evaluation.sets);
  const titles = sets.flatMap(([name]) => [`<b>${plain(name)}</b>`, ...labels]);
  const of = (model) =>
    sets.flatMap(([, set], place) =>
      labels.flatMap((label, row) => (set[model] && set[model][label].rate !== null ? [{ row: -(place * 5 + row + 1), rate: set[model][label] }] : [])),
    );
  const named = models(colours).map((one) => ({ ...one, ones: of(one.name) })).filter((one) => one.ones.length);
  const across = axis(colours, "share of replies", { range: [-0.02, 1.02], tickformat: ".0%", dtick: 0.25 });
  return { data: dots(colours, named, false), layout: layout(colours, across, axis(colours, "", rows(titles))) };
}

function byLength(colours) {
  const sides = [...new Set(data.by_length.flatMap((row) => Object.keys(row)))].filter((name) => name !== "tokens");
  // Bars at the same length stand beside each other: a few per cent apart on a logarithmic axis.
  const apart = (place, model) => 1 + 0.025 * (2 * place + model - sides.length + 0.5);
  const shown = sides.flatMap((side, place) =>
    models(colours).map(({ name, colour, symbol }, model) => {
      const ones = data.by_length.filter((row) => row[side] && row[side][name]).map((row) => ({ tokens: row.tokens, ...row[side][name] }));
      return {
        type: "scatter", mode: "lines+markers", name: plain(`${side}, ${name}`), x: ones.map((one) => one.tokens * apart(place, model)), y: ones.map((one) => one.rate),
        error_y: bars(colour, ones, "rate"), line: { color: colour, dash: DASHES[place % DASHES.length], width: 2 }, marker: { color: colour, symbol, size: 8 },
        customdata: ones.map((one) => `${one.tokens} tokens: ${one.count}/${one.total} = ${span(one)}`), hovertemplate: "%{customdata}",
      };
    }),
  ).filter((one) => one.x.length);
  const lengths = data.by_length.map((row) => row.tokens);
  const across = axis(colours, "tokens of the reply", { type: "log", tickvals: lengths, ticktext: lengths.map(String) });
  const up = axis(colours, "refused", { tickformat: ".0%", range: [-0.04, 1.04] });
  return { data: shown, layout: layout(colours, across, up, { showlegend: true }) };
}

// Where each form is refused: a bar for each, its parts by location.
function starts(colours) {
  const ones = data.positions.starts;
  const palette = LINES[colours.name];
  const kinds = [["1", "from 1", palette[1]], ["2", "from 2", palette[3]], ["3", "from 3", palette[4]], ["never", "never", palette[5]]];
  const shown = kinds.map(([name, title, colour]) => ({
    type: "bar", orientation: "h", name: title, x: ones.map((one) => one.starts[name].rate), y: ones.map((_, place) => -place), marker: { color: colour },
    customdata: ones.map((one) => `${plain(one.form)}, ${title}: ${one.starts[name].count}/${one.starts[name].total} = ${span(one.starts[name])}`),
    hovertemplate: "%{customdata}<extra></extra>",
  }));
  const across = axis(colours, "share of harmful prompts", { range: [0, 1], tickformat: ".0%" });
  const up = axis(colours, "", rows(ones.map((one) => plain(one.form))));
  return { data: shown, layout: layout(colours, across, up, { barmode: "stack", showlegend: true }) };
}

function similarity(colours, place, width) {
  const { names, pairs, tree } = data.positions.similarity[place];
  const [cold, warm] = HEAT[colours.name];
  const titles = names.map(plain);
  const told = (one) =>
    one ? `${number(one.value)} [${number(one.low)}, ${number(one.high)}]<br>floor ${number(one.floor)}, ceiling ${number(one.ceiling)}<br>${plain(one.verdict)}` : "";
  const map = {
    type: "heatmap", x: titles, y: titles, z: pairs.map((row) => row.map((one) => one && one.value)), zmin: -1, zmax: 1, xgap: 1, ygap: 1, hoverongaps: false,
    colorscale: [[0, cold], [0.5, colours.raised], [1, warm]], colorbar: { thickness: 12, outlinewidth: 0, tickfont: { color: colours.muted } },
    text: pairs.map((row) => row.map(told)), hovertemplate: "%{y}, %{x}<br>%{text}<extra></extra>",
  };
  const level = { showgrid: false, type: "category", tickmode: names.length * 18 < width ? "linear" : "auto" };
  const joined = {
    type: "scatter", mode: "lines", xaxis: "x2", yaxis: "y2", hoverinfo: "skip", showlegend: false, line: { color: colours.muted, width: 1.4 },
    x: tree.flatMap((one) => [...one.map((point) => point[0]), null]), y: tree.flatMap((one) => [...one.map((point) => point[1]), null]),
  };
  const across = axis(colours, "", { ...level, tickangle: -60, domain: tree.length ? [0, 0.8] : [0, 1] });
  const beside = {
    xaxis2: axis(colours, "1 − cosine", { domain: [0.82, 1], anchor: "y2", rangemode: "tozero" }),
    yaxis2: { anchor: "x2", range: [-0.5, names.length - 0.5], visible: false },
  };
  return { data: tree.length ? [map, joined] : [map], layout: layout(colours, across, axis(colours, "", level), { margin: { l: 48, r: 8, t: 12, b: 46 }, ...(tree.length ? beside : {}) }) };
}

// Half the difference of adding a vector and taking it away, at the largest alpha up to 1 that has both signs.
const slope = (found) => {
  const gains = new Map(found.alphas.map((one, place) => [one, found.gains[place].mean]));
  const both = found.alphas.filter((one) => one > 0 && gains.has(-one));
  const small = both.filter((one) => one <= 1);
  const chosen = small.length ? Math.max(...small) : Math.min(...both);
  return both.length ? (gains.get(chosen) - gains.get(-chosen)) / 2 : null;
};

function effects(colours) {
  const ones = data.positions.sweeps, forms = data.positions.starts.map((one) => one.form);
  const [cold, warm] = HEAT[colours.name];
  const curves = ones.map((one) => ({ ...one.others, [one.form]: one.own }));
  const values = curves.map((found) => forms.map((form) => (found[form] ? slope(found[form]) : null)));
  const most = Math.max(1e-9, ...values.flat().map((one) => Math.abs(one ?? 0)));
  const map = {
    type: "heatmap", x: forms.map(plain), y: ones.map((one) => plain(one.vector)), z: values, zmin: -most, zmax: most, xgap: 1, ygap: 1, hoverongaps: false,
    colorscale: [[0, cold], [0.5, colours.raised], [1, warm]], colorbar: { thickness: 12, outlinewidth: 0, tickfont: { color: colours.muted } },
    text: ones.map((one) => forms.map((form) => plain(one.verdicts[form] ?? ""))), hovertemplate: "%{y} on %{x}: %{z:.2f}<br>%{text}<extra></extra>",
  };
  const level = { showgrid: false, type: "category" };
  return { data: [map], layout: layout(colours, axis(colours, "", level), axis(colours, "", { ...level, autorange: "reversed" }), { margin: { l: 48, r: 8, t: 12, b: 46 } }) };
}

function alpha(colours, place) {
  const one = data.positions.sweeps[place];
  const palette = LINES[colours.name];
  const curve = (name, found, colour, more) => ({
    type: "scatter", mode: "lines+markers", name: plain(name), x: found.alphas, y: found.gains.map((gain) => gain.mean), line: { color: colour, width: 1.6 },
    marker: { color: colour, size: 6 }, hovertemplate: `${plain(name)}<br>alpha %{x}: %{y:.2f}<extra></extra>`, ...more,
  });
  const random = one.random.map((found, number) =>
    curve("random", found, colours.muted, { showlegend: !number, legendgroup: "random", line: { color: colours.muted, width: 1, dash: "dot" } }),
  );
  const others = Object.entries(one.others).map(([form, found], number) =>
    curve(form, found, palette[(number + 1) % palette.length], { line: { color: palette[(number + 1) % palette.length], dash: DASHES[number % DASHES.length], width: 1.4 } }),
  );
  const own = curve(one.form, one.own, palette[0], {
    line: { color: palette[0], width: 3.2 }, error_y: bars(palette[0], one.own.gains, "mean"), zorder: 1,
  });
  const more = { showlegend: true, shapes: [line(colours, 0, "x")] };
  return { data: [...random, ...others, own], layout: layout(colours, axis(colours, "alpha"), axis(colours, "change of refusal log-odds"), more) };
}

// What each strength of a steering does on the select part.
function steering(colours, place) {
  const { tried } = data.features.curves[place];
  const palette = LINES[colours.name];
  const kinds = [["safe", "attacks safe", palette[1]], ["refused", "normal refused", palette[3]], ["broken", "fall apart", palette[5]]];
  const shown = kinds.map(([key, name, colour], number) => ({
    type: "scatter", mode: "lines+markers", name, x: tried.map((one) => one.strength), y: tried.map((one) => one[key].rate),
    line: { color: colour, dash: DASHES[number % DASHES.length], width: 1.8 }, marker: { color: colour, size: 7 },
    error_y: bars(colour, tried.map((one) => one[key]), "rate"), hovertemplate: `${name}<br>strength %{x}: %{y:.0%}<extra></extra>`,
  }));
  return { data: shown, layout: layout(colours, axis(colours, "strength"), axis(colours, "share of replies", { range: [-0.02, 1.02], tickformat: ".0%" }), { showlegend: true }) };
}

function components(colours, place) {
  const one = data.positions.components[place];
  const side = (name, symbol, dash) => {
    const found = one.curves[name];
    const ends = found.mean.map((mean, number) => ({ mean, low: found.low[number], high: found.high[number] }));
    return {
      type: "scatter", mode: "lines+markers", name, x: one.places, y: found.mean, error_y: bars(colours[name], ends, "mean"),
      line: { color: colours[name], dash, width: 2 }, marker: { color: colours[name], symbol, size: 8 }, hovertemplate: `${name}, %{x}: %{y:.3f}<extra></extra>`,
    };
  };
  const across = axis(colours, "", { type: "category", tickangle: -45 });
  const more = { showlegend: true, shapes: [line(colours, 0, "x")] };
  return { data: [side("harmful", "triangle-up", "solid"), side("harmless", "circle", "dash")], layout: layout(colours, across, axis(colours, "cosine with the vector"), more) };
}

// Every plot of the page by the id of its place: a function of colours and the width of the place. `chosen`, of page.js, holds the controls.
// Replies as bars of their phases; of an edit the upper bar is before it.
function phases(colours, place, outcome) {
  const { forms, names } = data.phases;
  const { bars: after, before } = forms[place];
  const palette = LINES[colours.name];
  const look = { safety: ["safety", palette[0], ""], content: ["content", palette[1], "/"], neutral: ["neither", colours.muted, "."] };
  const kept = after.map((_, number) => number).filter((number) => !outcome || after[number].outcome === names[outcome - 1]);
  const pieces = kept.flatMap((number, row) => [
    ...(before ? before[number].phases.map((phase, piece) => ({ phase, row: row - 0.2, reply: before[number], piece, title: `before: ${before[number].outcome}` })) : []),
    ...after[number].phases.map((phase, piece) => ({ phase, row: row + (before ? 0.2 : 0), reply: after[number], piece, title: after[number].outcome })),
  ]);
  const told = ({ phase: [concept, begin, end], reply, piece, title }) =>
    [
      `${look[concept][0]}, tokens ${begin} to ${end - 1}; ${plain(title)}`, ...(reply.phrase ? [`to: ${plain(reply.phrase)}`] : []),
      ...(reply.said && reply.said[piece] ? [wrapped(reply.said[piece])] : []),
    ].join("<br>");
  const shown = Object.entries(look).map(([concept, [title, colour, shape]]) => {
    const own = pieces.filter((one) => one.phase[0] === concept);
    return {
      type: "bar", orientation: "h", name: title, base: own.map((one) => one.phase[1]), x: own.map((one) => one.phase[2] - one.phase[1]),
      y: own.map((one) => -one.row), width: before ? 0.34 : 0.8, customdata: own.map(told),
      hovertemplate: "%{customdata}<extra></extra>", marker: { color: colour, pattern: { shape, fillmode: "overlay", fgcolor: colours.paper, size: 6, solidity: 0.2 } },
    };
  });
  const up = axis(colours, `${kept.length} replies`, { showgrid: false, ticks: "", showticklabels: false, range: [0.6 - Math.max(kept.length, 1), 0.6] });
  // Each bar must be seen: a plot of many replies is as tall as they need.
  const height = Math.max(384, 110 + kept.length * (before ? 16 : 9));
  return { data: shown, layout: layout(colours, axis(colours, "reply token"), up, { barmode: "overlay", showlegend: true, height }) };
}

// Kaplan and Meier's curves: steps from 1 down.
function onset(colours) {
  const palette = LINES[colours.name];
  const last = Math.max(...data.phases.forms.flatMap((one) => one.bars.map((bar) => bar.tokens)));
  const curve = (points, form, number, earlier) => ({
    type: "scatter", mode: "lines", name: plain(form) + (earlier ? ", before" : ""), legendgroup: plain(form), x: [0, ...points.map((one) => one.token), last],
    y: [1, ...points.map((one) => one.share), points.length ? points[points.length - 1].share : 1], line: { shape: "hv", color: palette[number % palette.length], width: earlier ? 1.2 : 2, dash: earlier ? "dot" : "solid" },
    customdata: ["nothing yet", ...points.map((one) => `${percent(one.share)} [${percent(one.low)}, ${percent(one.high)}], ${one.at_risk} followed`), "to the longest reply"],
    hovertemplate: `${plain(form)}, token %{x}<br>%{customdata}<extra></extra>`,
  });
  const shown = data.phases.forms.flatMap((one, number) => [
    ...(one.curve_before ? [curve(one.curve_before, one.form, number, true)] : []),
    ...(one.curve ? [curve(one.curve, one.form, number, false)] : []),
  ]);
  const up = axis(colours, "not yet in safety", { range: [-0.03, 1.05], tickformat: ".0%" });
  return { data: shown, layout: layout(colours, axis(colours, "reply token", { rangemode: "tozero" }), up, { showlegend: true }) };
}

// Each prompt's own direction, by cluster.
function clusterPlane(colours) {
  const { points, centroids, explained, labels, phrases, categories } = data.clusters.plane;
  const palette = LINES[colours.name];
  const shown = centroids.map((centre, cluster) => {
    const own = labels.flatMap((label, row) => (label === cluster ? [row] : []));
    return {
      type: "scatter", mode: "markers", name: `cluster ${cluster + 1}`, x: own.map((row) => points[row][0]), y: own.map((row) => points[row][1]),
      text: own.map((row) => `cluster ${cluster + 1}, ${plain(categories[row])}<br>${wrapped(phrases[row])}`), hovertemplate: "%{text}<extra></extra>",
      marker: { color: palette[cluster % palette.length], symbol: SYMBOLS[cluster % SYMBOLS.length], size: 9, opacity: 0.8, line: { width: 0.8, color: colours.paper } },
    };
  });
  const stars = {
    type: "scatter", mode: "markers", name: "centroid", x: centroids.map((one) => one[0]), y: centroids.map((one) => one[1]),
    text: centroids.map((_, cluster) => `centroid of cluster ${cluster + 1}`), hovertemplate: "%{text}<extra></extra>",
    marker: { symbol: "star", size: 15, color: colours.ink, line: { width: 1, color: colours.paper } },
  };
  const titles = explained.map((one, component) => `component ${component + 1} (${percent(one)} of variance)`);
  return { data: [...shown, stars], layout: layout(colours, axis(colours, titles[0]), axis(colours, titles[1]), { showlegend: true }) };
}

// What each number of clusters has, and what has none.
function stability(colours) {
  const ones = data.clusters.spreads;
  const palette = LINES[colours.name];
  const curve = (name, title, colour, dash, yaxis, first) => ({
    type: "scatter", mode: "lines+markers", name: title, legendgroup: title, showlegend: first, x: ones.map((one) => one.k), y: ones.map((one) => one[name]), yaxis,
    line: { color: colour, dash, width: dash === "solid" ? 2.6 : 1.6 }, marker: { color: colour, size: 7 }, hovertemplate: `${title}, %{x} clusters: %{y:.3f}<extra></extra>`,
  });
  const four = (name, yaxis, first) => [
    curve(name, "harmful prompts", palette[1], "solid", yaxis, first), curve(`null_${name}`, "Gaussian, 95%", colours.muted, "dash", yaxis, first),
    curve(`shuffled_${name}`, "shuffled coordinates, 95%", colours.muted, "dashdot", yaxis, first), curve(`harmless_${name}`, "harmless phrases", palette[0], "dot", yaxis, first),
  ];
  const across = axis(colours, "clusters", { tickvals: ones.map((one) => one.k) });
  const more = { showlegend: true, yaxis2: axis(colours, "silhouette", { domain: [0, 0.44] }), height: 460 };
  return { data: [...four("stability", "y", true), ...four("silhouette", "y2", false)], layout: layout(colours, { ...across, anchor: "y2" }, axis(colours, "stability", { domain: [0.56, 1] }), more) };
}

function sharedWith(colours) {
  const ones = data.clusters.shared;
  const colour = LINES[colours.name][0];
  const bar = {
    type: "bar", orientation: "h", x: ones.map((one) => one.ami), y: ones.map((_, place) => -place), marker: { color: ones.map((one) => (one.p < 0.05 ? colour : colours.rule)), line: { color: colour, width: 1.2 } },
    customdata: ones.map((one) => `${plain(one.attribute)}: ${number(one.ami)}, p ${number(one.p)}`), hovertemplate: "%{customdata}<extra></extra>",
  };
  return { data: [bar], layout: layout(colours, axis(colours, "adjusted mutual information"), axis(colours, "", rows(ones.map((one) => plain(one.attribute))))) };
}

function effectMatrix(colours) {
  const ones = data.clusters.rows;
  const [cold, warm] = HEAT[colours.name];
  const bound = Math.max(...ones.flatMap((one) => one.by_cluster.map((cell) => Math.abs(cell ?? 0))), 1e-9);
  const map = {
    type: "heatmap", x: ones[0].by_cluster.map((_, cluster) => `cluster ${cluster + 1}`), y: ones.map((_, place) => -place), z: ones.map((one) => one.by_cluster), zmin: -bound, zmax: bound,
    xgap: 2, ygap: 2, hoverongaps: false, colorscale: [[0, cold], [0.5, colours.raised], [1, warm]], colorbar: { thickness: 12, outlinewidth: 0, tickfont: { color: colours.muted } },
    text: ones.map((one) => one.by_cluster.map(number)), texttemplate: "%{text}", customdata: ones.map((one) => one.by_cluster.map(() => plain(one.name))), hovertemplate: "%{customdata} on %{x}: %{text}<extra></extra>",
  };
  const height = Math.max(320, 90 + 22 * ones.length);
  return { data: [map], layout: layout(colours, axis(colours, "", { type: "category", showgrid: false }), axis(colours, "", rows(ones.map((one) => plain(one.name)))), { height, margin: { l: 48, r: 8, t: 12, b: 46 } }) };
}

// The component along the direction over a thought: its first and its last tokens, with a gap between.
function cliff(colours) {
  const { places } = data.cliff;
  const half = places.length / 2;
  const x = places.map((_, place) => (place < half ? place : place + 2));
  const shown = ["harmful", "harmless"].map((side, number) => {
    const one = data.cliff[side];
    return {
      type: "scatter", mode: "lines+markers", name: side, x: [...x.slice(0, half), half + 0.5, ...x.slice(half)],
      y: [...one.mean.slice(0, half), null, ...one.mean.slice(half)], marker: { symbol: SYMBOLS[number], size: 8 },
      line: { color: LINES[colours.name][number], dash: DASHES[number] },
      error_y: {
        type: "data", symmetric: false, thickness: 1.2, width: 3, color: LINES[colours.name][number],
        array: [...one.high.map((high, place) => high - one.mean[place]).slice(0, half), null, ...one.high.map((high, place) => high - one.mean[place]).slice(half)],
        arrayminus: [...one.low.map((low, place) => one.mean[place] - low).slice(0, half), null, ...one.low.map((low, place) => one.mean[place] - low).slice(half)],
      },
      customdata: [...places.slice(0, half), "", ...places.slice(half)], hovertemplate: `${side}, %{customdata}<br>%{y:.3g}<extra></extra>`,
    };
  });
  const ticks = { tickvals: x.filter((_, place) => place % 3 === 0 || place === places.length - 1), ticktext: places.filter((_, place) => place % 3 === 0 || place === places.length - 1).map((one) => minus(one.replace("thought", ""))) };
  return { data: shown, layout: layout(colours, axis(colours, "token of the thought, from its beginning and to its end", ticks), axis(colours, "component along the direction"), { showlegend: true }) };
}

const PLOTS = {
  "plot-refusals": refusals, "plot-damage": damage, "plot-evaluation": evaluation, "plot-length": byLength,
  "plot-separation": (colours) => separation(colours, chosen.separation), "plot-pca": (colours) => pca(colours, chosen.layer),
  "plot-selection": (colours, width) => selection(colours, chosen.score, width),
  "plot-starts": starts, "plot-similarity": (colours, width) => similarity(colours, chosen.similarity, width),
  "plot-phases": (colours) => phases(colours, chosen.phases, chosen.outcome), "plot-onset": onset,
  "plot-effects": effects,
  "plot-clusters": clusterPlane, "plot-stability": stability, "plot-shared": sharedWith, "plot-cluster-effects": effectMatrix,
  "plot-alpha": (colours) => alpha(colours, chosen.sweep), "plot-components": (colours) => components(colours, chosen.component),
  "plot-steering": (colours) => steering(colours, chosen.steering),
  "plot-strengths": strengths, "plot-front": front, "plot-proof": proof, "plot-cliff": cliff,
};
