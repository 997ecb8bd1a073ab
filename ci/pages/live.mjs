// Drives the live page of a real agent in a browser, with a real service under load; see ci/check-pages. Nothing here depends
// on how fast that goes: what must come is waited for, and the service is stopped while figures are compared.
//
//   node live.mjs HEAPGATE TOKENIZER-SERVICE PLAYWRIGHT CHROMIUM FOLDER-FOR-SCREENSHOTS [SECONDS-OF-LOAD]
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [heapgate, serviceProgram, playwright, executablePath, shots, seconds = "0"] = process.argv.slice(2);
const { chromium } = await import(pathToFileURL(playwright).href);
mkdirSync(shots, { recursive: true });

const TOKEN = "a token of this check";
// Two requests a millisecond would be the whole of a small machine; this leaves it room for the browser.
const BETWEEN_MS = 10;
// Polls of the page, one in two seconds, that show a column each in the map: enough to see that it goes on.
const LEAST_POLLS = 4;
// A stall is asked for each time so many requests were sent: one in seven seconds.
const REQUESTS_TO_A_STALL = 700;
const PATIENCE_MS = 60_000;
const TEXTS = ["In the beginning", "unaffable tokenization, naïve and Größe ".repeat(40), "who? 床前明月光 ".repeat(300)];

const expect = (holds, what) => {
  if (!holds) throw new Error(what);
};
const equal = (found, wanted, what) => expect(Object.is(found, wanted), `${what}: ${found}, not ${wanted}`);
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
async function until(what, holds) {
  for (const begin = Date.now(); !(await holds()); await pause(50)) expect(Date.now() - begin < PATIENCE_MS, `waited in vain for ${what}`);
}

const folder = mkdtempSync(join(tmpdir(), "heapgate-live-"));
const runtime = join(folder, "run");
writeFileSync(join(folder, "token"), `${TOKEN}\n`);
chmodSync(join(folder, "token"), 0o600);
const children = [];

// Starts what says where it listens.
async function start(program, programArguments, variables) {
  const env = { ...process.env, HEAPGATE_RUNTIME_DIR: runtime, ...variables };
  const child = spawn(program, programArguments, { env, stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const line = await new Promise((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", resolve);
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`${program} ended with ${code}`)));
  });
  return { child, url: line.replace("listening on ", "").replace(/\/?$/, "/") };
}

// An open loop: each request is due at its time, whether or not those before were answered.
function load(url) {
  const sent = { requests: 0, stalls: 0, failed: 0 };
  const begin = performance.now();
  const timer = setInterval(() => {
    while (performance.now() - begin >= sent.requests * BETWEEN_MS) {
      const body = TEXTS[sent.requests % TEXTS.length];
      const stalls = ++sent.requests % REQUESTS_TO_A_STALL === REQUESTS_TO_A_STALL >> 1;
      sent.stalls += stalls;
      fetch(`${url}${stalls ? "inject/stall" : "tokenize"}`, { method: "POST", body })
        .then((answer) => answer.text().then(() => answer.ok || sent.failed++))
        .catch(() => sent.failed++);
    }
  }, BETWEEN_MS);
  sent.end = () => clearInterval(timer);
  return sent;
}

// The value of the one series of `metric` whose labels have all of `labels`.
function series(text, metric, labels) {
  const found = text.split("\n").filter((line) => line.startsWith(`${metric}{`) && labels.every((label) => line.includes(label)));
  equal(found.length, 1, `series of ${metric} with ${labels}`);
  return Number(found[0].slice(found[0].lastIndexOf(" ")));
}

let browser;
let asked;
try {
  const service = await start(serviceProgram, ["--listen", "127.0.0.1:0", "--inject-endpoint"], { HEAPGATE_LEVEL: "exact", HEAPGATE_VERSION: "1.4.2" });
  const agent = await start(heapgate, ["serve", "--listen", "127.0.0.1:0", "--folder", runtime, "--allow-control", "--control-token-file", join(folder, "token")], {});
  asked = load(service.url);
  // Some stall is there before the page opens, and one while it looks.
  await (await fetch(`${service.url}inject/stall`, { method: "POST" })).text();

  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const wrong = [];
  let refusals = 0;
  page.on("console", (message) => {
    // The browser itself says on the console that an answer was 403: that is what one check here asks for.
    if (message.text().includes("status of 403")) refusals++;
    else wrong.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`error: ${error}`));
  page.on("request", (request) => request.url().startsWith(agent.url) || request.url().startsWith("data:") || wrong.push(`request: ${request.url()}`));
  await page.goto(agent.url);
  const polls = () => page.evaluate(() => Number(document.body.dataset.polls ?? 0));
  await until("the first poll", polls);
  await (await fetch(`${service.url}inject/stall`, { method: "POST" })).text();
  const wanted = Math.max(LEAST_POLLS, Math.ceil(Number(seconds) / 2));
  // The page asks less often than that where the machine is busy.
  for (const begin = Date.now(); (await polls()) < wanted; await pause(200)) expect(Date.now() - begin < PATIENCE_MS + 4000 * wanted, "the page does not poll");

  // Pictures of a service at work.
  const picture = (name, options = {}) => page.screenshot({ path: join(shots, `${name}.png`), ...options });
  const bottom = await page.evaluate(() => Math.ceil(document.querySelector("main").getBoundingClientRect().bottom));
  await picture("live-light-desktop", { clip: { x: 0, y: 0, width: 1280, height: bottom + 16 } });
  await page.emulateMedia({ colorScheme: "dark" });
  await picture("live-dark-desktop");
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width: 360, height: 740 });
    const [inner, scroll] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
    expect(scroll <= inner, `${scroll} wide on ${inner}`);
    await picture(`live-${colorScheme}-phone`, { fullPage: true });
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 1280, height: 900 });
  console.log("check-pages: the live page fits light and dark, desktop and phone");

  // A stall is a cell of its own, high in the map. What is on the canvas is looked at, too.
  const map = await page.evaluate(() => {
    drawMap();
    const history = histories.get(chosen);
    const canvas = byId("map");
    const pen = canvas.getContext("2d");
    const heat = getComputedStyle(document.documentElement).getPropertyValue("--heat").split(",").map(Number);
    const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
    let pixels = 0;
    for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 40 && Math.abs(data[at] - heat[0]) < 6 && Math.abs(data[at + 1] - heat[1]) < 6 && Math.abs(data[at + 2] - heat[2]) < 6) pixels++;
    const bounds = latest.stall_bounds_ns;
    const columns = shownCalls(history);
    // 250 ms of spinning are seldom left alone by the scheduler: as a rule it is among the interrupted ones.
    const slow = columns.flatMap((column) => column.filter((n, bucket) => n && bounds[bucket - 1] >= 2e8)).length;
    return { columns: columns.length, pixels, cells: columns.flat().filter(Boolean).length, slow };
  });
  expect(map.columns >= LEAST_POLLS && map.cells > map.columns && map.pixels > 100, `the map has ${JSON.stringify(map)}`);
  expect(map.slow >= 1, "the stall of 250 ms is not in the map");
  console.log(`check-pages: the heat map of a real service has ${map.cells} cells, and its stalls`);

  // Stopped, the service is the same to all who look.
  asked.end();
  service.child.kill("SIGSTOP");
  const before = await polls();
  // The poll under way may have looked before.
  await until("two polls", async () => (await polls()) >= before + 2);
  const [row] = await page.$$eval("#processes tbody tr", (all) => all.map((tr) => ({
    id: tr.dataset.id,
    text: tr.innerText,
    values: Object.fromEntries([...tr.querySelectorAll("td[data-metric]")].map((cell) => [cell.dataset.metric, cell.dataset.value])),
  })));
  const { processes } = await (await fetch(`${agent.url}api/processes`)).json();
  equal(processes.length, 1, "processes");
  const [given] = processes;
  const text = await (await fetch(`${agent.url}metrics`)).text();
  const labels = [`service="tokenizer"`, `pid="${service.child.pid}"`, `version="1.4.2"`, `allocator="jemalloc"`];
  equal(given.pid, service.child.pid, "pid");
  equal(row.id, given.id, "the row's process");
  expect(row.text.includes(`pid ${given.pid}`) && row.text.includes("version 1.4.2") && row.text.includes("jemalloc"), row.text);
  for (const [metric, json, exposed] of [
    ["live_objects", given.live_objects, "heapgate_live_objects"],
    ["live_bytes", given.live_bytes, "heapgate_live_bytes"],
    ["rss_bytes", given.rss_bytes, "heapgate_process_resident_bytes"],
  ]) {
    equal(Number(row.values[metric]), json, `${metric} on the page and in the JSON`);
    equal(series(text, exposed, labels), json, `${metric} in the metrics and in the JSON`);
    expect(json > 1000, `${metric} is ${json}`);
  }
  equal(Number(row.values.max_ns), given.stalls.max_ns, "longest stall");
  equal(Number(row.values.p99_ns), given.stalls.p99_ns, "P99");
  equal(row.values.level, "exact", "level");
  service.child.kill("SIGCONT");
  const { requests, stalls, failed } = asked;
  equal(failed, 0, "requests of the service that failed");
  asked = load(service.url);
  console.log("check-pages: figures on the live page are those of its JSON and of the metrics");

  // The level, by keyboard: first with a wrong token.
  const segment = () => JSON.parse(spawnSync(heapgate, ["top", "--once", "--json", "-i", "0.1", "--folder", runtime], { encoding: "utf8" }).stdout).processes[0].level;
  const change = async (level, token) => {
    await page.locator("#level").selectOption(level);
    await page.locator("#token").fill(token);
    await page.locator("#token").press("Enter");
    const said = page.locator("#changed");
    await until("an answer", async () => (await said.textContent()) !== "");
    return said.textContent();
  };
  equal(await page.inputValue("#level"), "exact", "the level that the form begins with");
  await page.locator("#level").selectOption("off");
  expect((await page.textContent("#changed")).includes("of no use"), "what off costs is not said");
  equal(await change("count", `${TOKEN}!`), "The control token is wrong", "said of a wrong token");
  equal(segment(), "exact", "the segment's level after a wrong token");
  equal(refusals, 1, "refusals");
  await picture("live-refused");
  equal(await change("count", TOKEN), "Level is count", "said of the right token");
  equal(segment(), "count", "the segment's level");
  await until("the row's new level", async () => (await page.textContent("td[data-metric=level]")).trim() === "count");
  await picture("live-changed");
  // It counts on, and times nothing any more.
  const counted = async () => {
    const now = await (await fetch(`${agent.url}metrics`)).text();
    const sum = (metric) => now.split("\n").filter((line) => line.startsWith(`${metric}{`)).reduce((all, line) => all + Number(line.slice(line.lastIndexOf(" "))), 0);
    return { calls: sum("heapgate_allocations_total"), timed: sum("heapgate_stall_seconds_count") };
  };
  const first = await counted();
  await until("more calls", async () => (await counted()).calls > first.calls + 1000);
  equal((await counted()).timed, first.timed, "calls timed at level count");
  console.log("check-pages: a level is changed from the live page with the token alone, and the service heeds it");

  // The agent ends: the page says so, and keeps what it has.
  agent.child.kill("SIGTERM");
  await until("that the page says so", () => page.evaluate(() => document.getElementById("state").classList.contains("bad")));
  equal(await page.locator("#processes tbody tr").count(), 1, "rows that are kept");
  asked.end();
  equal(asked.failed, 0, "requests of the service that failed");
  // That nobody answers is what the browser then says.
  const unexpected = wrong.filter((what) => !what.includes("ERR_CONNECTION_REFUSED"));
  expect(unexpected.length === 0, unexpected.join("; "));
  console.log(`check-pages: the live page says when the agent is gone; ${requests + asked.requests} requests, ${stalls + asked.stalls + 2} stalls`);
} catch (error) {
  console.error(`check-pages: FAILED: the live page: ${String(error.stack).slice(0, 1500)}`);
  process.exitCode = 1;
} finally {
  asked?.end();
  await browser?.close();
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
}
// Requests under way would keep it.
process.exit();
