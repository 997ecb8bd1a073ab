// Opens the live page in headless Chromium, through its debugging pipe (no package needed), and prints what it found as JSON:
// the page's figures, those of /api/processes at the same moment, messages on the console, and every address that was asked.
//
//   node page.cjs CHROMIUM URL [FOLDER-FOR-SCREENSHOTS]
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");

const [chromium, url, screenshots] = process.argv.slice(2);
// A browser that hangs must not keep the test.
const PATIENCE_MS = 120_000;

const profile = fs.mkdtempSync(path.join(os.tmpdir(), "heapgate-page-"));
const browser = spawn(
  chromium,
  // Chromium's own sandbox needs rights that a container does not have; the page is ours.
  ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] },
);

function leave(code) {
  browser.once("exit", () => {
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
    process.exit(code);
  });
  browser.kill("SIGKILL");
}
setTimeout(() => {
  console.error("page.cjs: the browser took too long");
  leave(1);
}, PATIENCE_MS).unref();
browser.on("error", (error) => {
  console.error(`page.cjs: ${error.message}`);
  process.exit(1);
});

const waiting = new Map();
const found = { console: [], requests: [] };
let session;
let id = 0;
let pending = "";

function send(method, params = {}) {
  id += 1;
  browser.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId: session })}\0`);
  const sent = id;
  return new Promise((resolve, reject) => waiting.set(sent, { resolve, reject, method }));
}

browser.stdio[4].on("data", (data) => {
  pending += data;
  const messages = pending.split("\0");
  pending = messages.pop();
  for (const message of messages.map((text) => JSON.parse(text))) {
    if (message.id) {
      const { resolve, reject, method } = waiting.get(message.id);
      waiting.delete(message.id);
      if (message.error) reject(new Error(`${method}: ${message.error.message}`));
      else resolve(message.result);
    } else if (message.method === "Network.requestWillBeSent") {
      found.requests.push(message.params.request.url);
    } else if (message.method === "Runtime.exceptionThrown") {
      found.console.push(message.params.exceptionDetails.exception?.description ?? message.params.exceptionDetails.text);
    } else if (message.method === "Runtime.consoleAPICalled") {
      found.console.push(message.params.args.map((argument) => argument.value).join(" "));
    } else if (message.method === "Log.entryAdded") {
      found.console.push(`${message.params.entry.text} ${message.params.entry.url ?? ""}`);
    }
  }
});

async function evaluate(expression) {
  const result = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
  if (result.exceptionDetails) throw new Error(result.exceptionDetails.exception?.description ?? "exception");
  return result.result.value;
}

async function until(expression) {
  while (!(await evaluate(expression))) await new Promise((resolve) => setTimeout(resolve, 50));
}

async function screenshot(name, width, height, scheme) {
  await send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
  await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  await evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))");
  if (screenshots) {
    const { data } = await send("Page.captureScreenshot", { format: "png", captureBeyondViewport: false });
    fs.writeFileSync(path.join(screenshots, `${name}.png`), Buffer.from(data, "base64"));
  }
  return evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth");
}

async function main() {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  session = (await send("Target.attachToTarget", { targetId, flatten: true })).sessionId;
  for (const domain of ["Page", "Runtime", "Network", "Log"]) await send(`${domain}.enable`);
  await send("Page.navigate", { url });
  const polls = "Number(document.body?.dataset.polls ?? 0)";
  await until(`${polls} >= 3 || document.getElementById("state")?.classList.contains("bad")`);
  // Both of one moment: what the page was given last.
  found.state = await evaluate('document.getElementById("state").textContent');
  Object.assign(found, await evaluate(`({ given: latest, rows: [...document.querySelectorAll("#processes tbody tr")].map((row) => ({
    id: row.dataset.id,
    about: row.querySelector("td").innerText,
    figures: Object.fromEntries([...row.querySelectorAll("td[data-metric]")].map((cell) => [cell.dataset.metric, { value: cell.dataset.value, text: cell.querySelector("span").textContent }])),
  })) })`));
  found.texts = await evaluate("[bytes(0), bytes(1023), bytes(1536), bytes(-2048), bytes(5 * 2 ** 30), bytes(null), duration(7), duration(250), duration(2.5e6), duration(1e10), duration(null), count(1234567)]");
  found.columns = await evaluate('document.getElementById("map").width');
  found.reading = await evaluate('document.getElementById("reading").textContent');
  // By keyboard alone: the second process is chosen, and the map's cursor moved.
  await evaluate('document.querySelectorAll("#processes tbody button")[1]?.focus()');
  const key = async (name, code) => {
    for (const type of ["keyDown", "keyUp"]) await send("Input.dispatchKeyEvent", { type, key: name, code: name, windowsVirtualKeyCode: code, text: type === "keyDown" && name === "Enter" ? "\r" : undefined });
  };
  await key("Enter", 13);
  found.chosen = await evaluate('document.querySelector("tr[aria-selected=true]").dataset.id');
  await evaluate('document.getElementById("map").focus()');
  await key("ArrowLeft", 37);
  found.cursor = await evaluate("cursor");
  found.control = await evaluate('!document.getElementById("control").hidden');
  // Drawn wider than the screen, a page has to be pushed to and fro to be read.
  found.overflow = {
    light: await screenshot("light", 1280, 900, "light"),
    dark: await screenshot("dark", 1280, 900, "dark"),
    phone: await screenshot("phone", 390, 1600, "light"),
  };
  console.log(JSON.stringify(found));
}

main().then(
  () => leave(0),
  (error) => {
    console.error(`page.cjs: ${error.message}`);
    leave(1);
  },
);
