// Makes charts and controls of what stands on the page. The numbers are in JSON beside each drawn plot; a chart is made
// when it comes into sight, so that a page of hundreds opens at once. Nothing is loaded.
"use strict";
(() => {
  const UNITS = {
    bytes: [["B", 1], ["KiB", 2 ** 10], ["MiB", 2 ** 20], ["GiB", 2 ** 30], ["TiB", 2 ** 40]],
    nanos: [["ns", 1], ["µs", 1e3], ["ms", 1e6], ["s", 1e9]],
  };
  const ZOOM = 2;

  // Numbers as the rest of the page writes them.
  const grouped = (text) => text.replace(/^-?\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, ","));
  const decimals = (value, digits) =>
    value === 0 ? 0 : Math.min(15, Math.max(0, digits - Math.floor(Math.log10(Math.abs(value))) - 1));
  const plain = (value, digits) => {
    if (Number.isInteger(value)) return grouped(value.toFixed(0));
    const text = value.toFixed(decimals(value, digits));
    return grouped(text.includes(".") ? text.replace(/\.?0+$/, "") : text);
  };
  const scaled = (units, value, digits, round) => {
    const nearly = round ? 1 : 1 - 0.5 * 10 ** -digits;
    const [name, factor] = units.findLast((unit) => Math.abs(value) >= unit[1] * nearly) ?? units[0];
    const size = value / factor;
    const text = round || factor === 1 ? plain(size, digits) : grouped(size.toFixed(decimals(Math.max(1, Math.abs(size)), digits)));
    return `${text} ${name}`;
  };
  const figure = (unit, value) => (UNITS[unit] ? scaled(UNITS[unit], value, 3, false) : plain(value, 4));
  const onAxis = (unit, value) => (UNITS[unit] ? scaled(UNITS[unit], value, 4, true) : plain(value, 4));
  const powerOfTen = (value) => {
    const power = Math.round(Math.log10(value));
    return power < 0 ? plain(value, 4) : `1${"0".repeat(power % 3)}${["", "k", "M", "G", "T"][Math.floor(power / 3)] ?? "P"}`;
  };

  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const summed = (differences, scale) => {
    let sum = 0;
    return differences.map((difference) => (sum += difference) * scale);
  };

  // What a chart of each kind needs: its columns, its axes, and how its values are said.
  const kinds = {
    time(numbers) {
      const tables = numbers.series.map((series) => [summed(series.x, 0.1), summed(series.y, series.scale)]);
      return {
        data: tables.length > 1 ? uPlot.join(tables) : tables[0],
        x: { time: false },
        y: { range: (_, low, high) => [Math.min(0, low), (high || 1) * 1.05] },
        xAxis: { values: (_, splits) => splits.map((ms) => onAxis("nanos", ms * 1e6)) },
        yAxis: {
          values: (_, splits) => splits.map((value) => onAxis(numbers.unit, value)),
          incrs: numbers.unit === "bytes" ? Array.from({ length: 50 }, (_, power) => 2 ** power) : undefined,
        },
        series: (series) => ({ spanGaps: true, width: 1.5, dash: series.dashed ? [4, 3] : undefined }),
        at: (ms) => onAxis("nanos", Math.round(ms * 10) * 1e5),
        value: (_, value) => figure(numbers.unit, value),
        // Each curve has times of its own: what it was last known to be.
        nearest: (column, index) => {
          while (index > 0 && column[index] == null) index--;
          return column[index];
        },
        under: (chart) => {
          numbers.phases.forEach(([name, from, to], index) => {
            const [left, right] = [from, to].map((tenths) => clampedX(chart, tenths / 10));
            if (right <= left) return;
            if (index % 2 === 0) fill(chart, left, right, color("--phase"));
            if (right - left > chart.ctx.measureText(name).width) label(chart, name, (left + right) / 2);
          });
        },
      };
    },
    stalls(numbers) {
      const bars = numbers.series[0].calls.length;
      const edges = Array.from({ length: bars + 1 }, (_, bar) => 10 ** (numbers.first + bar / numbers.bars));
      // No call is below the axis, where a gap would hide a bar that stands alone: the one long stall that matters.
      const fewest = Math.min(...numbers.series.flatMap(({ calls, reps }) => calls.filter((count) => count > 0).map((count) => count / reps)));
      const lowest = 10 ** Math.floor(Math.log10(fewest)) / 2;
      const columns = numbers.series.map(({ calls, reps }) => [...calls, 0].map((count) => (count > 0 ? count / reps : lowest / 100)));
      return {
        data: [edges, ...columns],
        x: { time: false, distr: 3, range: (_, low, high) => [low, high] },
        y: {
          distr: 3,
          range: (_, _low, high) => [lowest, 10 ** Math.ceil(Math.log10(Math.max(high ?? 1, fewest)) + 1e-9)],
        },
        xAxis: { splits: decades, values: (_, splits) => splits.map((ns) => onAxis("nanos", ns)), filter: (_, splits) => splits },
        yAxis: { splits: (chart) => decades(chart, "y"), values: (_, splits) => splits.map(powerOfTen), filter: (_, splits) => splits },
        series: (series) => ({
          width: series.dashed ? 1.5 : 1,
          dash: series.dashed ? [4, 3] : undefined,
          paths: uPlot.paths.stepped({ align: 1 }),
          fill: series.dashed ? undefined : () => `${color(series.color)}55`,
          fillTo: (chart) => chart.scales.y.min,
        }),
        at: (ns, index) => `${figure("nanos", ns)} to ${figure("nanos", edges[Math.min(index + 1, bars)])}`,
        value: (series, _, index) => {
          const { calls, reps } = numbers.series[series];
          return reps > 1 ? `${plain(calls[index] / reps, 4)} of ${plain(calls[index], 4)}` : plain(calls[index], 4);
        },
        nearest: (column, index) => (index < bars ? Math.max(column[index], lowest) : null),
        under: (chart) => {
          let right = -Infinity;
          for (const [name, ns] of numbers.marks) {
            const at = chart.valToPos(ns, "x", true);
            if (ns < chart.scales.x.min || ns > chart.scales.x.max) continue;
            line(chart, at);
            const half = chart.ctx.measureText(name).width / 2;
            if (at - half > right) label(chart, name, at);
            right = Math.max(right, at + half);
          }
        },
      };
    },
  };

  // Powers of ten in sight; of less than one, steps between.
  function decades(chart, scale = "x") {
    const { min, max } = chart.scales[typeof scale === "string" ? scale : "x"];
    const found = [];
    const steps = Math.log10(max / min) < 1.5 ? [1, 2, 5] : [1];
    for (let power = Math.floor(Math.log10(min)); power <= Math.ceil(Math.log10(max)); power++)
      for (const step of steps) {
        const value = step * 10 ** power;
        if (value >= min && value <= max) found.push(value);
      }
    return found;
  }

  const clampedX = (chart, value) =>
    chart.valToPos(Math.min(chart.scales.x.max, Math.max(chart.scales.x.min, value)), "x", true);
  const fill = (chart, left, right, style) => {
    chart.ctx.fillStyle = style;
    chart.ctx.fillRect(left, chart.bbox.top, right - left, chart.bbox.height);
  };
  const label = (chart, text, at) => {
    Object.assign(chart.ctx, { fillStyle: color("--dim"), textAlign: "center", textBaseline: "alphabetic" });
    chart.ctx.fillText(text, at, chart.bbox.top - 5 * devicePixelRatio);
  };
  const line = (chart, at) => {
    const { ctx, bbox } = chart;
    Object.assign(ctx, { strokeStyle: color("--dim"), lineWidth: devicePixelRatio });
    ctx.setLineDash([2, 3].map((length) => length * devicePixelRatio));
    ctx.beginPath();
    ctx.moveTo(at, bbox.top);
    ctx.lineTo(at, bbox.top + bbox.height);
    ctx.stroke();
    ctx.setLineDash([]);
  };

  const charts = new Set();

  function draw(figureElement) {
    const numbers = JSON.parse(figureElement.querySelector("script").textContent);
    const kind = kinds[numbers.kind](numbers);
    const plot = make("div", { className: "plotted", tabIndex: 0 });
    plot.setAttribute("role", "group");
    plot.setAttribute("aria-label", `${numbers.name}. Arrow keys read values, plus and minus zoom, 0 shows all.`);
    const said = make("p", { className: "unseen" });
    said.setAttribute("aria-live", "polite");
    const at = make("span", { className: "at dim" });
    const zooming = [["−", "zoom out", 1 / ZOOM], ["+", "zoom in", ZOOM], ["all", "show all", 0]].map(([text, title, factor]) =>
      make("button", { type: "button", textContent: text, title, ariaLabel: title, onclick: () => zoom(factor) }));
    const values = numbers.series.map(() => make("b"));
    const toggles = numbers.series.map((series, index) => {
      const swatch = make("i");
      swatch.style.background = `var(${series.color})`;
      const button = make("button", { type: "button" }, swatch, series.name, values[index]);
      button.setAttribute("aria-pressed", "true");
      button.onclick = () => {
        const show = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(show));
        chart.setSeries(index + 1, { show });
      };
      return button;
    });
    figureElement.append(plot, make("div", { className: "tools" }, at, ...toggles, ...zooming), said);
    figureElement.classList.add("live");

    const axis = (more) => ({
      stroke: () => color("--dim"),
      font: "11px system-ui, sans-serif",
      grid: { stroke: () => color("--line"), width: 1 },
      ticks: { show: false },
      ...more,
    });
    const width = () => Math.max(200, plot.clientWidth);
    const chart = new uPlot(
      {
        width: width(),
        height: numbers.height,
        padding: [22, 14, 0, 0],
        legend: { show: false },
        cursor: { points: { size: 6 }, drag: { x: true, y: false } },
        scales: { x: kind.x, y: kind.y },
        axes: [axis({ ...kind.xAxis, space: 60, size: 28 }), axis({ ...kind.yAxis, size: 62 })],
        series: [
          {},
          ...numbers.series.map((series) => ({
            stroke: () => color(series.color),
            points: { show: false },
            ...kind.series(series),
          })),
        ],
        hooks: { drawAxes: [kind.under], setCursor: [(chart) => read(chart.cursor.idx)] },
      },
      kind.data,
      plot,
    );
    const x = kind.data[0];
    let index = null;

    function read(next) {
      index = next ?? null;
      at.textContent = index === null ? "" : kind.at(x[index], index);
      values.forEach((value, series) => {
        const found = index === null ? null : kind.nearest(kind.data[series + 1], index);
        value.textContent = found == null ? "" : kind.value(series, found, index);
      });
    }
    function zoom(factor) {
      const { min, max } = chart.scales.x;
      const whole = [x[0], x[x.length - 1]];
      if (factor === 0) return chart.setScale("x", { min: whole[0], max: whole[1] });
      const log = kind.x.distr === 3;
      const [from, to] = log ? [Math.log10(min), Math.log10(max)] : [min, max];
      const middle = index === null ? (from + to) / 2 : log ? Math.log10(x[index]) : x[index];
      const half = (to - from) / factor / 2;
      const back = (value) => Math.min(whole[1], Math.max(whole[0], log ? 10 ** value : value));
      const [low, high] = [back(middle - half), back(middle + half)];
      if (high > low) chart.setScale("x", { min: low, max: high });
    }
    function step(by) {
      const inSight = (i) => x[i] >= chart.scales.x.min && x[i] <= chart.scales.x.max;
      let next = index === null ? (by > 0 ? x.findIndex((_, i) => inSight(i)) : x.findLastIndex((_, i) => inSight(i))) : index + by;
      next = Math.min(x.length - 1, Math.max(0, next));
      if (!inSight(next)) return;
      const seen = kind.data.slice(1).map((column) => kind.nearest(column, next)).find((value) => value > 0) ?? chart.scales.y.min;
      chart.setCursor({ left: chart.valToPos(x[next], "x"), top: chart.valToPos(seen, "y") });
      // The cursor goes to the nearest point, which at equal places may be another.
      read(next);
      const shown = numbers.series.map((series, i) => (values[i].textContent ? `${series.name} ${values[i].textContent}` : ""));
      said.textContent = [at.textContent, ...shown.filter(Boolean)].join(", ");
    }
    plot.onkeydown = (event) => {
      const action = {
        ArrowRight: () => step(1), ArrowLeft: () => step(-1), PageDown: () => step(10), PageUp: () => step(-10),
        "+": () => zoom(ZOOM), "=": () => zoom(ZOOM), "-": () => zoom(1 / ZOOM), 0: () => zoom(0), Home: () => zoom(0), Escape: () => zoom(0),
      }[event.key];
      if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      action();
    };
    charts.add(chart);
    new ResizeObserver(() => {
      if (plot.clientWidth > 0 && width() !== chart.width) chart.setSize({ width: width(), height: numbers.height });
    }).observe(plot);
  }

  const sight = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((entry) => entry.isIntersecting)) {
      sight.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "200px" });
  document.querySelectorAll("figure.chart").forEach((element) => sight.observe(element));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.redraw()));

  // A link to a cell opens it.
  const cells = [...document.querySelectorAll("details.cell")];
  const openTarget = () => {
    const target = /^#c\d+$/.test(location.hash) && document.querySelector(location.hash);
    if (!(target instanceof HTMLDetailsElement)) return;
    target.open = true;
    target.scrollIntoView();
    target.querySelector("summary").focus();
  };
  addEventListener("hashchange", openTarget);
  // Also where the address already says so, and nothing would change.
  document.querySelectorAll("table.cells a").forEach((link) =>
    link.addEventListener("click", () => link.hash === location.hash && openTarget()));
  openTarget();

  const filter = document.getElementById("filter");
  if (filter) {
    const rows = [...document.querySelectorAll("table.cells tbody tr")];
    const count = make("span", { className: "dim small" });
    count.setAttribute("role", "status");
    const input = make("input", { type: "search", placeholder: "filter cells", ariaLabel: "filter cells" });
    input.oninput = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        const section = document.querySelector(row.querySelector("a").hash);
        if (section) section.hidden = row.hidden;
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = words.length ? `${shown} of ${rows.length}` : "";
    };
    const all = (open) => make("button", {
      type: "button",
      textContent: open ? "open all shown" : "close all",
      onclick: () => cells.forEach((cell) => (cell.open = open && !cell.hidden)),
    });
    filter.append(input, all(true), all(false), count);
  }
})();
