// The lab's page. Whatever a model wrote goes into it by textContent, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const TITLE = { original: "Original", edited: "Edited" };
const LEAST_SCALE = 0.05; // a silent stream is rounding alone, and shall look silent
const DEEPEST = 85; // percent of the full colour: the text on it stays readable
const NEAR_END = 40; // pixels: who reads the end goes on reading it
const state = { busy: false, wished: false, turns: [] };

function element(tag, classes = "", text = "") {
  const made = document.createElement(tag);
  made.className = classes;
  made.textContent = text;
  return made;
}

// What is asked of the server.

async function ask(path, body) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { authorization: `Bearer ${data.token}`, "content-type": "application/json" },
    body: JSON.stringify(body ?? null),
  });
  if (!answer.ok) {
    const said = await answer.text();
    let error = said;
    try {
      error = JSON.parse(said).error;
    } catch {
      // a text: who is not let in is told so in one
    }
    throw new Error(error || `the lab answered ${answer.status}`);
  }
  return answer;
}

async function* steps(answer) {
  const reader = answer.body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

async function turn(prompt) {
  const direction = byId("direction").value;
  const set = `${direction}, strength ${shownStrength()}`;
  busy(true);
  say("replying…");
  try {
    const answer = await ask("/turn", { prompt, direction, strength: strength() });
    if (prompt !== null) {
      byId("prompt").value = "";
      following(() => begin(prompt), true);
    }
    for await (const step of steps(answer)) {
      if (step.error) throw new Error(step.error);
      if (step.replies) following(() => grow(step.replies, set));
      if (step.measured) following(() => measure(step.measured, direction));
    }
    say("");
  } catch (error) {
    say(error.message, true);
  }
  busy(false);
  if (state.wished) again();
}

// The last prompt again, as the pickers stand now; a turn under way is stopped first.
function again() {
  state.wished = false;
  if (state.busy) {
    state.wished = true;
    stop();
  } else if (state.turns.length) turn(null);
}

function stop() {
  ask("/stop").catch((error) => say(error.message, true));
}

// The server keeps one conversation: that of the page that was loaded last.
async function reset() {
  try {
    await ask("/reset");
  } catch (error) {
    say(error.message, true);
    return;
  }
  byId("turns").replaceChildren();
  byId("empty").hidden = false;
  state.turns = [];
  legend(null);
  say("");
  byId("prompt").focus();
}

// What is shown.

function busy(now) {
  state.busy = now;
  byId("send").hidden = now;
  byId("stop").hidden = !now;
  byId("reset").disabled = now;
}

function say(text, wrong = false) {
  const status = byId("status");
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

// Does what makes the page longer; its end stays in view where it was.
function following(change, always = false) {
  const end = () => document.documentElement.scrollHeight - innerHeight;
  const there = always || scrollY >= end() - NEAR_END;
  change();
  if (there) scrollTo(0, end());
}

function begin(prompt) {
  byId("empty").hidden = true;
  const item = element("li");
  const columns = element("div", "columns");
  const sides = {};
  for (const role of data.roles) {
    const column = element("div", "column");
    column.dataset.role = role;
    const who = element("p", "who");
    const verdict = element("span", "verdict");
    const set = element("span", "set");
    who.append(element("strong", "", TITLE[role]), set, verdict);
    const reply = element("p", "reply", "…");
    const details = element("details");
    const read = element("p", "read");
    details.append(element("summary", "", "The prompt as the model reads it"), read);
    details.hidden = true;
    column.append(who, reply, details);
    columns.append(column);
    sides[role] = { verdict, set, reply, read, details };
  }
  item.append(element("p", "prompt", prompt), columns);
  byId("turns").append(item);
  state.turns.push({ sides, measured: {}, direction: null });
}

function grow(replies, set) {
  const { sides } = state.turns.at(-1);
  for (const [role, told] of Object.entries(replies)) {
    sides[role].reply.textContent = told.text || (told.ended ? "" : "…");
    sides[role].verdict.textContent = told.verdict;
    if (role === "edited" && data.adjustable) sides[role].set.textContent = set;
  }
}

function measure(measured, direction) {
  const last = state.turns.at(-1);
  if (!last) return;
  last.measured = measured;
  last.direction = direction;
  for (const [role, found] of Object.entries(measured)) {
    if (!found) continue;
    const side = last.sides[role];
    side.spans = found.pieces.map((piece) => {
      const span = element("span", "", piece);
      span.dataset.role = role;
      return span;
    });
    side.read.replaceChildren(...side.spans.slice(0, found.reply_from));
    side.reply.replaceChildren(...side.spans.slice(found.reply_from));
    side.details.hidden = false;
  }
  colour();
}

// All turns that were measured along the direction that is picked; the others lose their colours.
function colour() {
  const layer = Number(byId("layer").value);
  const direction = byId("direction").value;
  byId("layer-shown").textContent = `resid[${layer}]`;
  const painted = [];
  for (const turn of state.turns) {
    for (const [role, found] of Object.entries(turn.measured)) {
      if (found) painted.push({ spans: turn.sides[role].spans, values: turn.direction === direction ? found.components[layer] : null });
    }
  }
  const values = painted.flatMap((one) => one.values ?? []);
  const scale = scaleOf(values);
  for (const { spans, values } of painted) spans.forEach((span, place) => paint(span, values?.[place], scale));
  legend(values.length ? scale : null);
}

// The colour is full at what one token in fifty has: one far out, often the first, does not wash out the others.
function scaleOf(values) {
  const sizes = values.map(Math.abs).sort((one, other) => one - other);
  return Math.max(LEAST_SCALE, sizes[Math.floor(0.98 * (sizes.length - 1))] ?? 0);
}

function paint(span, value, scale) {
  if (value === undefined) {
    span.style.backgroundColor = "";
    delete span.dataset.component;
    return;
  }
  const share = Math.round(DEEPEST * Math.min(1, Math.abs(value) / scale));
  span.style.backgroundColor = `color-mix(in srgb, var(--${value < 0 ? "harmless" : "harmful"}) ${share}%, transparent)`;
  span.dataset.component = signed(value);
}

function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(3)}`;
}

function legend(scale) {
  byId("scale").hidden = scale === null;
  byId("least").textContent = scale === null ? "" : signed(-scale);
  byId("most").textContent = scale === null ? "" : signed(scale);
  byId("token").textContent = "";
}

function tell(event) {
  const { component, role } = event.target.dataset;
  if (component === undefined) return;
  byId("token").textContent = `${component}  ${JSON.stringify(event.target.textContent)}  ${TITLE[role].toLowerCase()}`;
}

const strength = () => Number(byId("strength").value);
const shownStrength = () => strength().toFixed(2).replace("-", "−");

function pickLayer() {
  const { layer } = data.directions[byId("direction").selectedIndex];
  if (layer !== null) byId("layer").value = layer;
  colour();
}

// The controls.

for (const [place, { name }] of data.directions.entries()) {
  const option = element("option", "", place === 0 ? `${name} (the edit’s)` : name);
  option.value = name;
  byId("direction").append(option);
}
byId("layer").max = data.depth;
byId("layer").value = data.depth;
byId("strength-control").hidden = !data.adjustable;
byId("strength-shown").textContent = shownStrength();
pickLayer();
reset();

byId("direction").addEventListener("change", () => {
  pickLayer();
  again();
});
byId("layer").addEventListener("input", colour);
byId("strength").addEventListener("input", () => {
  byId("strength-shown").textContent = shownStrength();
});
byId("strength").addEventListener("change", again);
byId("turns").addEventListener("pointerover", tell);
byId("stop").addEventListener("click", stop);
byId("reset").addEventListener("click", reset);
byId("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const prompt = byId("prompt").value.trim();
  if (prompt && !state.busy) turn(prompt);
});
byId("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("ask").requestSubmit();
  }
});
