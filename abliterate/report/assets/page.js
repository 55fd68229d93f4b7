// The page's controls. Whatever comes from a file goes into the page by textContent, never as markup.

const root = document.documentElement;
const byId = (id) => document.getElementById(id);
const chosen = { separation: "auc", score: data.score, layer: 0, similarity: 0, sweep: 0, component: 0, phases: 0, outcome: 0, steering: 0 };
const CAPTIONS = {
  separation: {
    auc: "Area under the ROC curve of the projection; 0.5 is chance.",
    d: "Difference of the mean projections in standard deviations (Cohen's d).",
  },
  score: {
    bypass: "Bypass: refusal score of harmful prompts with the direction ablated.",
    induce: "Induce: refusal score of harmless prompts with the direction added.",
    kl: "KL(original ‖ ablated) on harmless prompts, in nats, first reply token; colours on a logarithmic scale.",
  },
};

const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);

function colours() {
  const style = getComputedStyle(root);
  const names = ["paper", "raised", "ink", "muted", "rule", "accent", "harmful", "harmless", "original", "edited"];
  return { name: isDark() ? "dark" : "light", ...Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()])) };
}

// The colours of paper, whatever the screen shows; nothing is painted in between.
function lightColours() {
  const before = root.dataset.theme;
  root.dataset.theme = "light";
  const found = colours();
  if (before === undefined) delete root.dataset.theme;
  else root.dataset.theme = before;
  return found;
}

function draw(id, palette = colours(), width = 0) {
  const place = byId(id);
  if (!place) return;
  const figure = PLOTS[id](palette, width || place.clientWidth);
  if (width) figure.layout.width = width;
  place.style.height = figure.layout.height ? `${figure.layout.height}px` : "";
  Plotly.react(place, figure.data, figure.layout, { responsive: true, displayModeBar: false });
}

function drawAll(palette = colours(), width = 0) {
  for (const id of Object.keys(PLOTS)) draw(id, palette, width);
}

function save(button) {
  const id = button.dataset.plot;
  const { clientWidth: width, clientHeight: height } = byId(id);
  const palette = lightColours();
  const figure = PLOTS[id](palette, width);
  figure.layout.paper_bgcolor = palette.paper;
  Plotly.downloadImage({ data: figure.data, layout: { ...figure.layout, width, height } }, { format: "svg", filename: id.replace("plot-", ""), width, height });
}

function element(tag, classes = "", text = "") {
  const made = document.createElement(tag);
  if (classes) made.className = classes;
  made.textContent = text;
  return made;
}

// The text, with what was searched for marked.
function marked(place, text, pattern) {
  let end = 0;
  for (const found of pattern ? text.matchAll(pattern) : []) {
    place.append(text.slice(end, found.index), element("mark", "", found[0]));
    end = found.index + found[0].length;
  }
  place.append(text.slice(end));
  return place;
}

const patternOf = (query) => (query ? new RegExp(query.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "gi") : null);

// Shows a list a batch at a time: a long one would take seconds.
function lazily(list, more, batch, make) {
  let items = [], shown = 0;
  const grow = (count) => {
    const first = shown;
    shown = Math.min(items.length, shown + count);
    list.append(...items.slice(first, shown).map(make));
    const left = items.length - shown;
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(batch, left)} more of ${left}`;
    return list.children[first];
  };
  more.addEventListener("click", () => {
    const next = grow(batch);
    if (more.hidden && next) {
      next.tabIndex = -1;
      next.focus({ preventScroll: true });
    }
  });
  addEventListener("beforeprint", () => grow(items.length));
  return (found) => {
    list.replaceChildren();
    [items, shown] = [found, 0];
    grow(batch);
  };
}

function verdictOptions(select, pairs, column) {
  const labels = new Set(pairs.map((pair) => pair.replies[column].label).filter(Boolean));
  const add = (value, text) => select.append(new Option(text, value));
  add("refused", "refused");
  add("answered", "not refused");
  for (const label of [...labels].sort()) if (label !== "refused") add(`label:${label}`, label);
}

const verdictFits = (reply, wanted) =>
  !wanted || (wanted.startsWith("label:") ? reply.label === wanted.slice(6) : reply.refused === (wanted === "refused"));

function changeFits(replies, wanted) {
  if (!wanted || replies.length < 2) return true;
  const words = replies[0].text !== replies[1].text, verdict = replies[0].refused !== replies[1].refused;
  return wanted === "verdict" ? verdict : wanted === "text" ? words : !words && !verdict;
}

function replyColumn(name, reply, pattern) {
  const column = element("div", "column");
  const who = element("p", "who");
  who.append(element("span", "", name), element("span", `tag ${reply.refused ? "refused" : "answered"}`, reply.label || (reply.refused ? "refused" : "answered")));
  const text = marked(element("p", "reply"), reply.text, pattern);
  text.dir = "auto";
  if (!reply.text) text.append(element("i", "", "(empty)"));
  column.append(who, text);
  return column;
}

function pairItem(pair, columns, pattern) {
  const item = element("li");
  const prompt = element("p", "prompt");
  prompt.append(element("span", `tag ${pair.side === "harmful" ? "harmful" : "harmless"}`, pair.side), marked(element("bdi"), pair.prompt, pattern));
  const held = element("div", "columns");
  held.append(...pair.replies.map((reply, place) => replyColumn(columns[place], reply, pattern)));
  item.append(prompt, held);
  return item;
}

function explorer(place) {
  const { columns, pairs } = data.explorers[Number(place.dataset.explorer)];
  const form = place.querySelector("form"), count = place.querySelector(".count");
  const verdicts = [...form.querySelectorAll(".verdict")];
  for (const side of new Set(pairs.map((pair) => pair.side))) form.elements.side.append(new Option(side, side));
  verdicts.forEach((select, column) => verdictOptions(select, pairs, column));
  let pattern = null;
  const show = lazily(place.querySelector(".pairs"), place.querySelector(".more"), 10, (pair) => pairItem(pair, columns, pattern));
  const update = () => {
    pattern = patternOf(form.elements.find.value);
    const side = form.elements.side.value, change = form.elements.change ? form.elements.change.value : "";
    const found = pairs.filter(
      (pair) =>
        (!side || pair.side === side) &&
        changeFits(pair.replies, change) &&
        verdicts.every((select, column) => verdictFits(pair.replies[column], select.value)) &&
        (!pattern || [pair.prompt, ...pair.replies.map((reply) => reply.text)].some((text) => text.search(pattern) >= 0)),
    );
    count.textContent = `${found.length} of ${pairs.length} prompts`;
    show(found);
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  update();
}

function tensors(place) {
  const find = place.querySelector("input"), count = place.querySelector(".count");
  const heads = ["norm before", "norm after", "component before", "component after"];
  const row = (one) => {
    const made = element("tr"), name = element("th", "", one.name);
    name.scope = "row";
    const figures = [one.norm_before, one.norm_after, one.component_before, one.component_after];
    made.append(name, ...figures.map((value, column) => {
      const cell = element("td", "", number(value));
      cell.dataset.head = heads[column];
      return cell;
    }));
    return made;
  };
  const show = lazily(place.querySelector("tbody"), place.querySelector(".more"), 100, row);
  const update = () => {
    const wanted = find.value.toLowerCase();
    const found = data.tensors.filter((one) => one.name.toLowerCase().includes(wanted));
    count.textContent = `${found.length} of ${data.tensors.length} tensors`;
    show(found);
  };
  find.addEventListener("input", update);
  place.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  update();
}

// Rows of a table that hold what was searched for; the others are hidden.
function findRows(form, rows) {
  const find = form.querySelector("input"), count = form.querySelector(".count");
  const update = () => {
    const wanted = find.value.toLowerCase();
    for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  find.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
}

function slider() {
  const input = byId("layer"), value = byId("layer-value"), planes = data.pca.layers;
  const own = Math.max(0, planes.findIndex((plane) => plane.layer === data.chosen.layer));
  input.max = planes.length - 1;
  const go = (place) => {
    chosen.layer = place;
    input.value = place;
    const name = `${planes[place].layer}${planes[place].layer === data.chosen.layer ? ", chosen" : ""}`;
    value.textContent = name;
    input.setAttribute("aria-valuetext", `layer ${name}`);
    draw("plot-pca");
  };
  input.addEventListener("input", () => go(Number(input.value)));
  byId("layer-chosen").addEventListener("click", () => go(own));
  go(own);
}

function similaritySlider() {
  const input = byId("similarity-layer"), layers = data.positions.similarity.map((one) => one.layer);
  input.max = layers.length - 1;
  const go = (place) => {
    chosen.similarity = place;
    input.value = place;
    byId("similarity-layer-value").textContent = layers[place];
    input.setAttribute("aria-valuetext", `layer ${layers[place]}`);
    draw("plot-similarity");
  };
  input.addEventListener("input", () => go(Number(input.value)));
  go(Math.max(0, layers.indexOf(data.positions.layer)));
}

// A list from which a plot takes what it shows.
function picks(id, name, plot) {
  const select = byId(id);
  if (!select) return;
  select.addEventListener("change", () => {
    chosen[name] = Number(select.value);
    draw(plot);
  });
}

function switches(name, plot, caption) {
  const write = () => (byId(caption).textContent = CAPTIONS[name][chosen[name]]);
  for (const radio of document.querySelectorAll(`input[name="${name}"]`)) {
    if (radio.checked) chosen[name] = radio.value;
    radio.addEventListener("change", () => {
      chosen[name] = radio.value;
      write();
      draw(plot);
    });
  }
  write();
}

function theme() {
  const button = byId("theme");
  const show = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
    drawAll();
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  systemDark.addEventListener("change", show);
  // A plot takes no notice of the width of paper: 640 pixels fit on A4 and on letter.
  addEventListener("beforeprint", () => drawAll(lightColours(), 640));
  addEventListener("afterprint", () => {
    drawAll();
    document.querySelectorAll(".plot").forEach((place) => Plotly.Plots.resize(place));
  });
  show();
}

async function copy() {
  const code = byId("command");
  getSelection().selectAllChildren(code);
  try {
    await navigator.clipboard.writeText(code.textContent);
    byId("copied").textContent = "Copied";
    byId("copy").textContent = "Copied";
  } catch {
    byId("copied").textContent = "The command is selected; copy it with the keyboard";
  }
}

if (byId("separation")) switches("separation", "plot-separation", "separation-caption");
if (byId("selection")) switches("score", "plot-selection", "selection-caption");
if (byId("activations")) slider();
if (byId("similarity-layer")) similaritySlider();
picks("sweep-vector", "sweep", "plot-alpha");
picks("component-vector", "component", "plot-components");
picks("phases-form", "phases", "plot-phases");
picks("steering-kind", "steering", "plot-steering");
if (byId("feature-find")) findRows(byId("feature-find"), [...byId("feature-rows").querySelectorAll("tbody tr")]);
picks("phases-outcome", "outcome", "plot-phases");
// A row for each label of each set of prompts, and one for the set's name.
if (byId("plot-evaluation")) byId("plot-evaluation").style.height = `${7 + 8.5 * Object.keys(data.evaluation.sets).length}rem`;
theme();
document.querySelectorAll(".explorer").forEach(explorer);
if (byId("tensors")) tensors(byId("tensors"));
document.querySelectorAll("[data-action=save]").forEach((button) => button.addEventListener("click", () => save(button)));
if (byId("copy")) byId("copy").addEventListener("click", copy);
