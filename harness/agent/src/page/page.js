// The live page: asks the agent every two seconds, and draws what changed.
"use strict";

const POLL_MS = 2000;
// Kept of each process: five minutes.
const KEPT = 150;
// Room for so much from the beginning: a minute.
const ROOM = 30;
// Rows that are drawn at first, and added with each press of the button.
const ROWS = 50;

const byId = (id) => document.getElementById(id);
// A name, not an address: nothing is asked there.
const SVG = "http://www.w3.org/2000/svg";

const histories = new Map(); // id → { times, live_bytes, rss_bytes, window_p99, window_max, clean, interrupted, last }
const rows = new Map(); // id → elements
let latest = null;
let chosen = null;
// Until somebody chooses, and until it is known who stalls: the first one in order.
let undecided = 2;
let shown = ROWS;
let paused = false;
let cursor = null;
// Whose level the form shows.
let levelOf = null;

// --- figures as text ---

function bytes(value) {
  if (value === null || value === undefined) return "unknown";
  let at = 0;
  let left = Math.abs(value);
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  while (left >= 1024 && at < units.length - 1) {
    left /= 1024;
    at += 1;
  }
  return `${value < 0 ? "−" : ""}${at === 0 ? left : left.toPrecision(left >= 1000 ? 4 : 3)} ${units[at]}`;
}

function duration(ns) {
  if (ns === null || ns === undefined) return "none timed";
  for (const [size, unit] of [[1e9, "s"], [1e6, "ms"], [1e3, "µs"]]) {
    if (ns >= size) return `${Number((ns / size).toPrecision(3))} ${unit}`;
  }
  return `${Number(ns.toPrecision(3))} ns`;
}

const count = (value) => value.toLocaleString("en-US");
const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

// --- the past ---

function remember(process, time, bounds) {
  let history = histories.get(process.id);
  if (!history) {
    history = { times: [], live_bytes: [], rss_bytes: [], window_p99: [], window_max: [], clean: [], interrupted: [], last: null };
    histories.set(process.id, history);
  }
  const since = (kind) => process.stalls[kind].map((n, i) => (history.last ? Math.max(0, n - history.last[kind][i]) : 0));
  const clean = since("clean");
  const interrupted = since("interrupted");
  history.last = process.stalls;
  // What the upper end of a bucket is; calls beyond the last bound are at least that long.
  const bound = (index) => bounds[Math.min(index, bounds.length - 1)];
  const timed = clean.reduce((sum, n) => sum + n, 0);
  let seen = 0;
  const p99 = timed ? bound(clean.findIndex((n) => (seen += n) >= timed * 0.99)) : null;
  const longest = clean.findLastIndex((n) => n > 0);
  push(history, time, process.live_bytes, process.rss_bytes, p99, longest < 0 ? null : bound(longest), clean, interrupted);
}

function push(history, ...values) {
  ["times", "live_bytes", "rss_bytes", "window_p99", "window_max", "clean", "interrupted"].forEach((name, index) => {
    history[name].push(values[index]);
    if (history[name].length > KEPT) history[name].shift();
  });
}

function take(answer) {
  if (!latest) byId("level").append(...answer.levels.map((level) => element("option", {}, level)));
  latest = answer;
  for (const process of answer.processes) remember(process, answer.taken_unix_ms, answer.stall_bounds_ns);
  const present = new Set(answer.processes.map((process) => process.id));
  for (const id of histories.keys()) if (!present.has(id)) histories.delete(id);
  if (undecided > 0 || !present.has(chosen)) choose(ordered()[0]?.id ?? null);
  undecided -= 1;
}

// --- the table ---

function ordered() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const order = byId("order").value;
  const matches = (process) => {
    const text = `${process.service} ${process.version} ${process.allocator} ${process.pid}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
  const size = (process) => (order === "window_max" ? histories.get(process.id).window_max.at(-1) : process[order]) ?? -1;
  const by = order === "service" ? () => 0 : (a, b) => size(b) - size(a);
  const name = (a, b) => (a.service < b.service ? -1 : a.service > b.service ? 1 : a.pid - b.pid);
  return latest.processes.filter(matches).sort((a, b) => by(a, b) || name(a, b));
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function sparkline() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "polyline");
  svg.append(line);
  return { svg, line };
}

function drawLine(line, values, logarithmic) {
  const known = values.filter((value) => value !== null && value !== undefined);
  const scale = (value) => (logarithmic ? Math.log(Math.max(1, value)) : value);
  const low = Math.min(...known.map(scale));
  const high = Math.max(...known.map(scale));
  const points = [];
  values.forEach((value, index) => {
    if (value === null || value === undefined) return;
    const x = 100 - ((values.length - 1 - index) * 100) / (Math.max(ROOM, values.length) - 1);
    const y = high > low ? 19 - ((scale(value) - low) / (high - low)) * 18 : 10;
    points.push(`${x.toFixed(1)},${y.toFixed(1)}`);
  });
  line.setAttribute("points", points.join(" "));
}

function newRow(process) {
  const name = element("button", { type: "button" }, process.service);
  name.addEventListener("click", () => {
    undecided = 0;
    choose(process.id);
  });
  const sub = element("span", { class: "sub" });
  const cells = { service: element("td", {}, name, sub) };
  const lines = {};
  const texts = {};
  const labels = { level: "Level", live_objects: "Live objects", live_bytes: "Live bytes", rss_bytes: "RSS", p99_ns: "Stall P99", max_ns: "Longest stall" };
  for (const [metric, label] of Object.entries(labels)) {
    texts[metric] = element("span");
    cells[metric] = element("td", { "data-label": label, "data-metric": metric }, texts[metric]);
    if (["live_bytes", "rss_bytes", "p99_ns", "max_ns"].includes(metric)) {
      const { svg, line } = sparkline();
      cells[metric].append(svg);
      lines[metric] = line;
    }
  }
  const row = element("tr", { "data-id": process.id }, ...Object.values(cells));
  return { row, sub, cells, texts, lines };
}

function drawRow(process) {
  if (!rows.has(process.id)) rows.set(process.id, newRow(process));
  const made = rows.get(process.id);
  const history = histories.get(process.id);
  const about = [`pid ${process.pid}`, process.version && `version ${process.version}`, process.allocator, `${count(process.threads)} threads`];
  made.sub.textContent = about.filter(Boolean).join(", ") + (process.up ? "" : ", ended");
  made.row.classList.toggle("dim", !process.up);
  made.row.setAttribute("aria-selected", String(process.id === chosen));
  const show = (metric, value, text) => {
    made.texts[metric].textContent = text;
    made.cells[metric].dataset.value = value ?? "";
  };
  show("level", process.level, process.level);
  show("live_objects", process.live_objects, count(process.live_objects));
  show("live_bytes", process.live_bytes, bytes(process.live_bytes));
  show("rss_bytes", process.rss_bytes, process.up ? bytes(process.rss_bytes) : "ended");
  show("p99_ns", process.stalls.p99_ns, duration(process.stalls.p99_ns));
  show("max_ns", process.stalls.max_ns, duration(process.stalls.max_ns));
  drawLine(made.lines.live_bytes, history.live_bytes, false);
  drawLine(made.lines.rss_bytes, history.rss_bytes, false);
  drawLine(made.lines.p99_ns, history.window_p99, true);
  drawLine(made.lines.max_ns, history.window_max, true);
  return made.row;
}

function drawTable() {
  const all = ordered();
  const body = byId("processes").tBodies[0];
  const wanted = all.slice(0, shown).map(drawRow);
  // Moved only if the order changed: a row that is moved loses the keyboard's focus.
  const same = wanted.length === body.rows.length && wanted.every((row, index) => body.rows[index] === row);
  if (!same) {
    const focused = document.activeElement;
    body.replaceChildren(...wanted);
    if (focused && body.contains(focused)) focused.focus({ preventScroll: true });
  }
  for (const id of rows.keys()) if (!histories.has(id)) rows.delete(id);
  byId("processes").hidden = all.length === 0;
  byId("empty").hidden = latest.processes.length !== 0;
  byId("more").hidden = all.length <= shown;
  byId("more").textContent = `Show more (${count(all.length - shown)} left)`;
  const notes = [];
  if (latest.dropped) notes.push(`${count(latest.dropped)} more processes are not shown: --max-processes.`);
  const errors = Object.entries(latest.errors).filter(([, n]) => n > 0);
  if (errors.length) notes.push(`Since the agent began: ${errors.map(([why, n]) => `${why} ${count(n)}`).join(", ")}.`);
  byId("notes").textContent = notes.join(" ");
}

// --- the heat map of the chosen process ---

function choose(id) {
  chosen = id;
  cursor = null;
  byId("changed").textContent = "";
  if (latest) draw();
}

// Of each look, the calls by bucket that the map shows.
function shownCalls(history) {
  const kind = byId("kind").value;
  return kind === "all" ? history.clean.map((column, at) => column.map((n, bucket) => n + history.interrupted[at][bucket])) : history[kind];
}

const LEFT = 52;
const BOTTOM = 20;

function drawMap() {
  const process = latest.processes.find((process) => process.id === chosen);
  byId("chosen").hidden = !process;
  if (!process) return;
  byId("chosen-title").textContent = `Stalls of ${process.service}, pid ${process.pid}`;
  byId("control").hidden = !latest.control || !process.up;
  // What it has: to ask for another is then a choice.
  if (levelOf !== chosen) byId("level").value = process.level;
  levelOf = chosen;
  const canvas = byId("map");
  const box = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(box.width * ratio);
  canvas.height = Math.round(box.height * ratio);
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const history = histories.get(chosen);
  const columns = shownCalls(history);
  const bounds = latest.stall_bounds_ns;
  const height = (box.height - BOTTOM) / (bounds.length + 1);
  const room = Math.max(ROOM, columns.length);
  const width = (box.width - LEFT) / room;
  const most = Math.log1p(Math.max(1, ...columns.map((column) => Math.max(...column))));
  const x = (index) => LEFT + (room - columns.length + index) * width;
  const y = (bucket) => box.height - BOTTOM - (bucket + 1) * height;
  columns.forEach((column, index) => {
    column.forEach((n, bucket) => {
      if (!n) return;
      // One call of a million is what is looked for: it must be seen.
      pen.fillStyle = `rgba(${style.getPropertyValue("--heat")}, ${0.25 + (0.75 * Math.log1p(n)) / most})`;
      pen.fillRect(x(index), y(bucket), Math.max(1, width - 0.5), Math.max(1, height - 0.5));
    });
  });
  pen.font = "11px system-ui, sans-serif";
  pen.fillStyle = style.getPropertyValue("--dim");
  pen.strokeStyle = style.getPropertyValue("--line");
  pen.textBaseline = "middle";
  bounds.forEach((bound, bucket) => {
    if (!/^10*$/.test(bound)) return;
    pen.fillText(duration(bound), 4, y(bucket));
    pen.beginPath();
    pen.moveTo(LEFT, y(bucket));
    pen.lineTo(box.width, y(bucket));
    pen.stroke();
  });
  pen.textBaseline = "bottom";
  const first = history.times[0];
  pen.fillText(clock(history.times.at(-1)), box.width - 52, box.height - 3);
  if (x(0) < box.width - 120) pen.fillText(clock(first), x(0), box.height - 3);
  if (cursor !== null) {
    pen.strokeStyle = style.getPropertyValue("--ink");
    pen.strokeRect(x(cursor) - 0.5, 0.5, Math.max(2, width), box.height - BOTTOM - 1);
  }
  drawReading(history, columns, bounds);
}

function drawReading(history, columns, bounds) {
  const index = Math.min(cursor ?? columns.length - 1, columns.length - 1);
  const column = columns[index];
  const timed = column.reduce((sum, n) => sum + n, 0);
  const longest = column.findLastIndex((n) => n > 0);
  const millisecond = bounds.indexOf(1e6);
  const slow = column.reduce((sum, n, bucket) => sum + (bucket > millisecond ? n : 0), 0);
  const upTo = longest < bounds.length ? `at most ${duration(bounds[longest])}` : `over ${duration(bounds.at(-1))}`;
  const said = timed ? `${count(timed)} calls, ${count(slow)} over 1 ms, the longest ${upTo}` : "no timed call";
  byId("reading").textContent = `${clock(history.times[index])}: ${said}`;
}

function moveCursor(by) {
  const length = histories.get(chosen)?.times.length ?? 0;
  if (!length) return;
  cursor = Math.max(0, Math.min(length - 1, (cursor ?? length - 1) + by));
  drawMap();
}

// --- asking ---

function draw() {
  drawTable();
  drawMap();
}

function say(text, bad) {
  byId("state").textContent = text;
  byId("state").classList.toggle("bad", Boolean(bad));
}

async function poll() {
  if (!paused && !document.hidden) {
    try {
      const response = await fetch("api/processes", { cache: "no-store", signal: AbortSignal.timeout(5 * POLL_MS) });
      if (!response.ok) throw new Error(`${response.status}: ${(await response.text()).trim()}`);
      take(await response.json());
      const up = latest.processes.filter((process) => process.up).length;
      say(`${count(up)} running, ${count(latest.processes.length - up)} ended, at ${clock(latest.taken_unix_ms)}`);
      draw();
      document.body.dataset.polls = Number(document.body.dataset.polls ?? 0) + 1;
    } catch (error) {
      say(`The agent does not answer (${error.message}); figures are of ${latest ? clock(latest.taken_unix_ms) : "never"}`, true);
    }
  }
  setTimeout(poll, POLL_MS);
}

// A header takes bytes, each in the place of a character; a token may have more than those of ASCII.
const asHeader = (text) => String.fromCharCode(...new TextEncoder().encode(text));

function chooseLevel() {
  const off = byId("level").value === "off" && latest.processes.some((process) => process.id === chosen && process.level !== "off");
  byId("changed").textContent = off ? "What it frees and allocates while off is never made up for: its live figures are of no use from then on" : "";
  byId("changed").classList.toggle("bad", off);
}

async function changeLevel(event) {
  event.preventDefault();
  const level = byId("level").value;
  byId("changed").textContent = "";
  try {
    const response = await fetch("api/level", {
      method: "POST",
      headers: { "content-type": "application/json", "x-heapgate-token": asHeader(byId("token").value) },
      body: JSON.stringify({ process: chosen, level }),
    });
    const text = (await response.text()).trim();
    byId("changed").textContent = response.ok ? `Level is ${level}` : text.charAt(0).toUpperCase() + text.slice(1);
    byId("changed").classList.toggle("bad", !response.ok);
  } catch (error) {
    byId("changed").textContent = `The agent does not answer (${error.message})`;
    byId("changed").classList.add("bad");
  }
}

byId("control").addEventListener("submit", changeLevel);
byId("level").addEventListener("change", chooseLevel);
byId("filter").addEventListener("input", () => latest && drawTable());
byId("order").addEventListener("change", () => latest && drawTable());
byId("kind").addEventListener("change", () => latest && drawMap());
byId("more").addEventListener("click", () => {
  shown += ROWS;
  drawTable();
});
byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  byId("pause").textContent = paused ? "Go on" : "Pause";
});
byId("map").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1, Home: -KEPT, End: KEPT }[event.key];
  if (by) {
    event.preventDefault();
    moveCursor(by);
  }
});
byId("map").addEventListener("pointermove", (event) => {
  const box = byId("map").getBoundingClientRect();
  const length = histories.get(chosen)?.times.length ?? 0;
  const room = Math.max(ROOM, length);
  const column = Math.floor((event.clientX - box.left - LEFT) / ((box.width - LEFT) / room)) - (room - length);
  if (column >= 0 && column < length) {
    cursor = column;
    drawMap();
  }
});
byId("map").addEventListener("pointerleave", () => {
  cursor = null;
  if (latest) drawMap();
});
window.addEventListener("resize", () => latest && drawMap());
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => latest && drawMap());
poll();
