// Makes reports of a real one: `many.json` of 5,000 trials in 500 cells, and `hostile.json` whose names would be markup.
import { readFileSync, writeFileSync } from "node:fs";

const report = JSON.parse(readFileSync(process.argv[2], "utf8"));
const first = report.trials[0];

const many = structuredClone(report);
many.trials = [];
for (let cell = 0; cell < 500; cell++)
  for (let rep = 0; rep < 10; rep++) {
    const trial = structuredClone(report.trials[(cell + rep) % report.trials.length]);
    trial.cell = { ...first.cell, variant: `variant-${cell}` };
    trial.rep = rep;
    many.trials.push(trial);
  }
writeFileSync("many.json", JSON.stringify(many));

const hostile = structuredClone(report);
const markup = "</script><script>window.hostile = 1</script><img src=x onerror=\"window.hostile = 2\">";
for (const trial of hostile.trials) {
  trial.cell.workload = markup;
  trial.cell.params[markup] = markup;
  trial.notes.push(markup);
}
hostile.fingerprint.machine.cpu = markup;
writeFileSync("hostile.json", JSON.stringify(hostile));
