// Drives the pages in a browser; see ci/check-pages. Each check is one promise of the page.
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { fileURLToPath, pathToFileURL } from "node:url";

const [samples, playwright, executablePath, shots] = process.argv.slice(2);
const { chromium } = await import(pathToFileURL(playwright).href);
mkdirSync(shots, { recursive: true });

const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 360, height: 740 };
const LARGEST = 2_000_000;
// What a busy machine may take for anything; only a check that fails comes to it.
const PATIENCE_MS = 120_000;
const json = (name) => JSON.parse(readFileSync(`${samples}/${name}`, "utf8"));
const expect = (holds, what) => {
  if (!holds) throw new Error(what);
};
const equal = (found, wanted, what) => expect(found === wanted, `${what}: ${found}, not ${wanted}`);
// Text and back may cost the last binary digit.
const same = (found, wanted, what) =>
  expect(Math.abs(found - wanted) <= 4 * Number.EPSILON * Math.abs(wanted), `${what}: ${found}, not ${wanted}`);

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

// A page on which nothing may go wrong: no error on the console, no request but for itself.
async function open(name, options = {}, use) {
  const context = await browser.newContext({ viewport: DESKTOP, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const wrong = [];
  const address = pathToFileURL(`${samples}/${name}.html`).href;
  page.on("console", (message) => wrong.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => wrong.push(`error: ${error}`));
  // What is in the page itself, as graphs in frames, is loaded from nowhere.
  page.on("request", (request) => request.url() !== address && !request.url().startsWith("data:") && wrong.push(`request: ${request.url()}`));
  await page.goto(address);
  if (options.javaScriptEnabled !== false) await page.waitForFunction(() => !document.querySelector("details[open] > figure.chart:not(.live)") || scrollY === 0);
  const result = await use(page);
  expect(wrong.length === 0, `${name}: ${wrong.join("; ")}`);
  await context.close();
  return result;
}

// Each check by its name; a failure names the check and lets the others run.
let failed = 0;
async function check(what, run) {
  try {
    await run();
    console.log(`check-pages: ${what}`);
  } catch (error) {
    failed++;
    console.error(`check-pages: FAILED: ${what}: ${String(error.message).slice(0, 1500)}`);
  }
}

// What stands in a cell's table: for each metric the values of its data elements.
const tables = (page) =>
  page.$$eval("details.cell", (cells) =>
    cells.map((cell) => ({
      name: cell.querySelector("summary h2").textContent,
      rows: [...cell.querySelectorAll("table.figures tbody tr, table.lines tbody tr:not(.why)")].map((row) => ({
        metric: row.querySelector("th").textContent,
        figures: [...row.querySelectorAll("data")].map((data) => [Number(data.value), data.textContent]),
      })),
    })));

// Whether a text for people is its value, to the digits that it has.
function reads(text, value, what) {
  const scales = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, ns: 1, "µs": 1e3, ms: 1e6, s: 1e9, "%": 0.01, "/s": 1 };
  const found = /^([+-]?)(×?)([\d,.<]+) ?([^\d]*)$/.exec(text);
  expect(found, `${what}: '${text}' is no figure`);
  const [, sign, factor, digits, unit] = found;
  if (digits.startsWith("<")) return;
  const number = Number(digits.replaceAll(",", ""));
  const step = 10 ** -(digits.split(".")[1] ?? "").length;
  const scale = unit ? scales[unit] : 1;
  expect(scale, `${what}: unknown unit in '${text}'`);
  const wanted = (factor ? value + 1 : value) / scale;
  const signed = sign === "-" ? -number : number;
  // Whole numbers of four and more digits may be rounded.
  const slack = Math.max(step, Math.abs(wanted) * 1e-3) * 0.5000001;
  expect(Math.abs(signed - wanted) <= slack, `${what}: '${text}' is not ${value}`);
}

const label = (cell) => `${cell.workload}/${cell.variant} ${cell.allocator}`;

await check("figures of a report are those of its JSON", () =>
  open("before", {}, async (page) => {
    const wanted = json("before.figures.json").cells;
    const found = await tables(page);
    equal(found.length, wanted.length, "cells");
    for (const cell of wanted) {
      const table = found.find((of) => of.name === label(cell.cell));
      expect(table, `no section of ${label(cell.cell)}`);
      equal(table.rows.length, Object.keys(cell.metrics).length, "metrics");
      for (const { metric, figures } of table.rows)
        ["median", "min", "max"].forEach((which, index) => {
          same(figures[index][0], cell.metrics[metric][which], `${metric} ${which}`);
          reads(figures[index][1], figures[index][0], metric);
        });
    }
    const overview = await page.$$eval("table.cells tbody tr", (rows) => rows.map((row) => [row.querySelector("a").textContent, ...[...row.querySelectorAll("data")].map((data) => Number(data.value))]));
    for (const [name, ...values] of overview) {
      const { metrics } = wanted.find((cell) => label(cell.cell) === name);
      ["allocations_per_unit", "peak_live_objects", "peak_live_bytes", "peak_rss_bytes", "left_rss_bytes", "stall_p99_ns", "throughput_per_s"].forEach((metric, index) =>
        same(values[index], metrics[metric].median, `overview ${metric}`));
    }
  }));

await check("figures of a comparison are those of the verdict", () =>
  open("diff", {}, async (page) => {
    const verdict = json("diff.verdict.json");
    equal(await page.textContent("h1 .word"), verdict.decision.toUpperCase(), "decision");
    const found = await tables(page);
    let compared = 0;
    for (const line of verdict.lines) {
      const row = found.find((of) => of.name === label(line.cell)).rows.find((row) => row.metric === line.metric);
      expect(row, `no row of ${line.metric}`);
      const wanted = [line.baseline?.median, line.now?.median, line.change].filter((value) => value != null);
      equal(row.figures.length, wanted.length, `figures of ${line.metric}`);
      wanted.forEach((value, index) => {
        same(row.figures[index][0], value, line.metric);
        reads(row.figures[index][1], value, line.metric);
      });
      compared++;
    }
    expect(compared > 20, `only ${compared} lines`);
    // In the order of the page: what got worse stands in the first table.
    const worse = await page.$$eval("td.mark.FAIL + th", (cells) => cells.length);
    expect(worse >= verdict.tally.failed, `${worse} marks of ${verdict.tally.failed} that failed`);
  }));

await check("curves and histograms are those of the report", () =>
  open("before", {}, async (page) => {
    const trials = json("before.json").trials;
    const charts = await page.$$eval("details.cell", (cells) =>
      cells.map((cell) => [cell.querySelector("summary h2").textContent, [...cell.querySelectorAll("figure.chart script")].map((script) => JSON.parse(script.textContent))]));
    for (const [name, [rss, live, stalls]] of charts) {
      const of = trials.filter((trial) => label(trial.cell) === name);
      const summed = (differences, scale) => differences.reduce((sums, next) => [...sums, (sums.at(-1) ?? 0) + next], []).map((sum) => sum * scale);
      const shown = of.find((trial) => rss.series[0].name.includes(`repetition ${trial.rep + 1},`));
      expect(shown, `${rss.series[0].name} is no repetition`);
      expect(shown.rss_series.length <= 300, "sampled too long for this check");
      equal(summed(rss.series[0].y, rss.series[0].scale).join(), shown.rss_series.map((point) => point[1]).join(), "RSS");
      equal(summed(rss.series[1].y, rss.series[1].scale).join(), shown.live_series.map((point) => point[1]).join(), "live bytes");
      equal(summed(live.series[0].y, live.series[0].scale).join(), shown.live_series.map((point) => point[0]).join(), "live objects");
      const calls = (kind) => of.flatMap((trial) => trial.phases.filter((phase) => phase.kind === "measure"))
        .flatMap((phase) => Object.values(phase.stalls[kind]).flat()).reduce((sum, [, count]) => sum + count, 0);
      equal(stalls.series[0].calls.reduce((sum, count) => sum + count, 0), calls("clean"), "undisturbed calls");
      const interrupted = stalls.series.find((series) => series.name.startsWith("interrupted"));
      equal((interrupted?.calls ?? []).reduce((sum, count) => sum + count, 0), calls("interrupted"), "interrupted calls");
    }
  }));

await check("every control works by keyboard", () =>
  open("many", {}, async (page) => {
    const focused = (read) => page.evaluate(read);
    await page.keyboard.press("Tab");
    equal(await focused(() => document.activeElement.className), "skip", "first");
    await page.keyboard.press("Enter");
    equal(await focused(() => document.activeElement.id), "main", "the link skips to");
    await page.keyboard.press("Tab");
    equal(await focused(() => document.activeElement.type), "search", "next");
    await page.keyboard.type("variant-77");
    equal(await page.locator("table.cells tbody tr:visible").count(), 1, "filtered rows");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    equal(await page.locator("details.cell[open]:visible").count(), 1, "opened");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Space");
    equal(await page.locator("details.cell[open]").count(), 0, "closed");
    await page.locator("input[type=search]").fill("");
    // A link to a cell opens it and goes there.
    await page.locator("table.cells a", { hasText: "variant-0 " }).focus();
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.activeElement.localName === "summary");
    expect(await focused(() => document.activeElement.parentElement.open), "the link opens its cell");
    // Summaries open and close.
    await page.keyboard.press("Enter");
    expect(!(await focused(() => document.activeElement.parentElement.open)), "Enter closes it");
    await page.keyboard.press("Enter");

    const cell = page.locator("details.cell[open]").first();
    for (const index of [0, 1, 2]) {
      const chart = cell.locator("figure.chart").nth(index);
      await chart.scrollIntoViewIfNeeded();
      const plot = chart.locator(".plotted");
      await plot.waitFor();
      await plot.focus();
      const pixels = () => chart.locator("canvas").evaluate((canvas) => canvas.toDataURL());
      const settled = () => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
      await settled();
      const whole = await pixels();
      for (let i = 0; i < 4; i++) await page.keyboard.press("ArrowRight");
      const said = await chart.locator("[aria-live]").textContent();
      expect(/\d/.test(said) && said.includes(","), `arrow keys say '${said}'`);
      await page.keyboard.press("+");
      await settled();
      expect((await pixels()) !== whole, "+ zooms");
      await page.keyboard.press("0");
      await settled();
      equal((await pixels()) === whole, true, "0 shows all as before");
      const toggle = chart.locator("button[aria-pressed]").first();
      await toggle.focus();
      await page.keyboard.press("Space");
      await settled();
      equal(await toggle.getAttribute("aria-pressed"), "false", "pressed");
      expect((await pixels()) !== whole, "the series is gone");
      await page.keyboard.press("Enter");
      await settled();
      equal((await pixels()) === whole, true, "the series is back");
      for (const name of ["zoom in", "show all", "zoom out"]) {
        await chart.getByRole("button", { name }).focus();
        await page.keyboard.press("Enter");
      }
    }
  }));

await check("whatever can be clicked is reached by Tab", () =>
  open("diff", {}, async (page) => {
    await page.locator("figure.chart.live").nth(0).waitFor();
    const wanted = await page.evaluate(() => {
      const all = [...document.querySelectorAll("a[href],button,input,summary,[tabindex='0']")].filter((element) => element.checkVisibility());
      all.forEach((element, index) => (element.dataset.stop = index));
      return all.length;
    });
    const reached = new Set();
    for (let i = 0; i < wanted * 2 + 40; i++) {
      await page.keyboard.press("Tab");
      const stop = await page.evaluate(() => document.activeElement.dataset.stop);
      if (stop !== undefined) reached.add(stop);
      if (reached.size === wanted) break;
    }
    equal(reached.size, wanted, "elements reached");
  }));

await check("a pointer reads values and a drag zooms", () =>
  open("diff", {}, async (page) => {
    const chart = page.locator("details.cell[open] figure.chart").first();
    await chart.scrollIntoViewIfNeeded();
    const box = await chart.locator(".u-over").boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    const value = await chart.locator("button[aria-pressed] b").first().textContent();
    expect(/^[\d.,]+ [KMG]iB$/.test(value), `the value is '${value}'`);
    const before = await chart.locator("canvas").evaluate((canvas) => canvas.toDataURL());
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.8, box.y + box.height / 2, { steps: 4 });
    await page.mouse.up();
    expect((await chart.locator("canvas").evaluate((canvas) => canvas.toDataURL())) !== before, "zoomed");
  }));

for (const colorScheme of ["light", "dark"])
  for (const [device, viewport] of [["desktop", DESKTOP], ["phone", PHONE]])
    await check(`${colorScheme}, ${device}: fits, and is readable`, async () => {
      for (const name of ["diff", "before", "many-diff", "profile"])
        await open(name, { viewport, colorScheme, deviceScaleFactor: device === "phone" ? 2 : 1 }, async (page) => {
          const { inner, scroll, contrasts } = await page.evaluate(() => {
            const luminance = (color) => {
              const [r, g, b] = color.match(/[\d.]+/g).slice(0, 3).map((part) => part / 255).map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
              return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const paper = luminance(getComputedStyle(document.body).backgroundColor);
            const contrast = (selector) => {
              const element = document.querySelector(selector);
              if (!element) return [selector, 21];
              const { color, backgroundColor } = getComputedStyle(element);
              const ink = luminance(color);
              const ground = /, 0\)$/.test(backgroundColor) ? paper : luminance(backgroundColor);
              return [selector, (Math.max(ink, ground) + 0.05) / (Math.min(ink, ground) + 0.05)];
            };
            return {
              inner: innerWidth,
              scroll: document.documentElement.scrollWidth,
              contrasts: ["body", "h1 .word", ".dim", "a", ".FAIL", ".better", ".unsure", "td.mark.pass"].map(contrast),
              paper,
            };
          });
          expect(scroll <= inner, `${name} is ${scroll} wide on ${inner}`);
          // WCAG 2, AA for text.
          contrasts.forEach(([selector, contrast]) => expect(contrast >= 4.5, `${name}: contrast of ${selector} is ${contrast.toFixed(2)}`));
          // Where nothing failed no cell is open, and there is nothing to wait for.
          const charts = page.locator("details.cell[open] figure.chart");
          if (await charts.count()) await charts.first().scrollIntoViewIfNeeded();
          await page.evaluate(() => scrollTo(0, 0));
          if (name === "profile") {
            // A graph is drawn when it comes into sight.
            await page.locator("iframe.flame").first().scrollIntoViewIfNeeded();
            await page.frameLocator("iframe.flame").first().locator("#frames rect").first().waitFor();
            await page.evaluate(() => scrollTo(0, 0));
          }
          await page.screenshot({ path: `${shots}/${name}-${colorScheme}-${device}.png` });
          if (name === "profile") await page.screenshot({ path: `${shots}/${name}-${colorScheme}-${device}-full.png`, fullPage: true });
          if (name === "diff") {
            for (const chart of await page.locator("details.cell[open] figure.chart").all()) await chart.scrollIntoViewIfNeeded();
            await page.waitForFunction(() => !document.querySelector("details.cell[open] > figure.chart:not(.live)"));
            await page.evaluate(() => scrollTo(0, 0));
            await page.screenshot({ path: `${shots}/${name}-${colorScheme}-${device}-full.png`, fullPage: true });
            const drawn = page.locator("details.cell[open] > figure.chart");
            for (const [index, what] of ["rss", "live", "stalls"].entries())
              await drawn.nth(index).screenshot({ path: `${shots}/${what}-${colorScheme}-${device}.png` });
            await page.locator(".side-by-side").first().screenshot({ path: `${shots}/memory-${colorScheme}-${device}.png` });
          }
        });
    });

await check("on paper the drawn plots take the place of the charts", () =>
  open("diff", { colorScheme: "dark" }, async (page) => {
    await page.locator("figure.chart.live").first().waitFor();
    await page.emulateMedia({ media: "print", colorScheme: "dark" });
    expect(!(await page.locator(".plotted").first().isVisible()), "a chart is on paper");
    expect(await page.locator("figure.chart .drawn svg").first().isVisible(), "no drawn plot is on paper");
    equal(await page.evaluate(() => getComputedStyle(document.body).color), "rgb(27, 32, 39)", "ink");
    const pdf = await page.pdf({ format: "A4", path: `${shots}/diff.pdf` });
    expect(pdf.length > 10_000, "an empty print");
  }));

await check("without scripts tables and drawn plots are there", () =>
  open("diff", { javaScriptEnabled: false }, async (page) => {
    expect(await page.locator("table.lines").first().isVisible(), "no table");
    expect(await page.locator("figure.chart .drawn svg").first().isVisible(), "no plot");
    await page.screenshot({ path: `${shots}/diff-no-scripts.png`, fullPage: true });
  }));

await check("hostile names stay text", () =>
  open("hostile", {}, async (page) => {
    equal(await page.evaluate(() => typeof window.hostile), "undefined", "a script of theirs ran");
    equal(await page.locator("img").count(), 0, "images");
    expect((await page.textContent("summary h2")).includes("<script>"), "the name is not shown");
    // If markup got onto a page all the same, the page's policy would not run it.
    const context = await browser.newContext();
    const planted = await context.newPage();
    await planted.setContent(readFileSync(`${samples}/before.html`, "utf8").replace("<header>", "<script>window.hostile = 3</script><img src=x onerror='window.hostile = 4'><header>"));
    equal(await planted.evaluate(() => typeof window.hostile), "undefined", "a planted script ran");
    await context.close();
  }));

await check("5,000 trials: below 2 MB, every cell found, and only what is in sight is drawn", async () => {
  for (const name of ["many", "many-diff"]) {
    const { size } = statSync(`${samples}/${name}.html`);
    expect(size < LARGEST, `${name} has ${size} bytes`);
    await open(name, {}, async (page) => {
      equal(await page.locator("table.cells tbody tr").count(), 500, "cells");
      const drawn = await page.locator("canvas").count();
      expect(drawn <= 6, `${drawn} charts were drawn at once`);
    });
  }
});

await check("figures of profiles are those of their JSON, and a report links to them", async () => {
  await open("profile", {}, async (page) => {
    const wanted = json("profile.figures.json");
    const found = await page.$$eval("table.sites", (tables) => tables.map((table) => [...table.querySelectorAll("tbody tr")].map((row) => [Number(row.querySelector("data").value), row.querySelector("data").textContent, row.lastElementChild.textContent])));
    equal(found.length, wanted.length, "kinds");
    wanted.forEach(({ kind, sites }, index) => {
      equal(found[index].length, sites.length, `sites of ${kind}`);
      sites.forEach((site, at) => {
        const [share, text, place] = found[index][at];
        same(share, site.share, `${kind} ${site.function}`);
        reads(text, share, `${kind} ${site.function}`);
        expect(place.includes(site.file ? `${site.file}:${site.line}` : site.function), `${kind}: '${place}' is not ${site.file}:${site.line}`);
      });
    });
  });
  await open("before", {}, async (page) => {
    const links = await page.$$eval(".profiles a", (links) => links.map((link) => link.href));
    equal(links.length, 1, "links to profiles");
    readFileSync(fileURLToPath(links[0]));
  });
});

await check("flame graphs zoom by pointer, open by keyboard, and run no script but their own", async () => {
  await open("profile", {}, async (page) => {
    const graph = page.frameLocator("iframe.flame").first();
    await graph.locator("#frames rect").first().waitFor();
    await graph.locator("#frames g rect").nth(2).click({ force: true });
    await graph.locator("#unzoom:not(.hide)").waitFor();
    // Every graph and every link is reached, and summaries open what they say.
    const wanted = await page.locator("nav.jump a, summary").count();
    const reached = new Set();
    for (let i = 0; i < wanted * 8 && reached.size < wanted; i++) {
      await page.keyboard.press("Tab");
      const stop = await page.evaluate(() => {
        const element = document.activeElement;
        return ["A", "SUMMARY"].includes(element.tagName) ? [...document.querySelectorAll("nav.jump a, summary")].indexOf(element) : -1;
      });
      if (stop >= 0) reached.add(stop);
    }
    equal(reached.size, wanted, "stops reached");
    const closed = page.locator("details:not([open]) > summary").first();
    const before = await page.locator("details[open]").count();
    await closed.focus();
    await page.keyboard.press("Enter");
    equal(await page.locator("details[open]").count(), before + 1, "opened");
    await page.emulateMedia({ media: "print" });
    const pdf = await page.pdf({ format: "A4", path: `${shots}/profile.pdf` });
    expect(pdf.length > 10_000, "an empty print");
  });
  const context = await browser.newContext();
  const planted = await context.newPage();
  const markup = "<script>window.hostile = 1</script><img src=x onerror='window.hostile = 2'><iframe src='data:text/html,<script>parent.postMessage(1, \"*\")</script>'></iframe>";
  await planted.addInitScript(() => addEventListener("message", () => (window.hostile = 3)));
  await planted.setContent(readFileSync(`${samples}/profile.html`, "utf8").replace("<header>", `${markup}<header>`));
  await planted.waitForTimeout(300);
  equal(await planted.evaluate(() => typeof window.hostile), "undefined", "a planted script ran");
  await context.close();
});

await browser.close();
process.exit(failed ? 1 : 0);
