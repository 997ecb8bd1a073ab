// Checks dashboards against Grafana's own types: node types.cjs NODE_MODULES DASHBOARD.json...
//
// Each dashboard, and each of its panels, options and field settings, becomes a literal of the type that @grafana/schema has for
// it, so that what is missing, misspelt or of another type is an error of TypeScript's. A mistake is planted to show that.
const fs = require("node:fs");
const path = require("node:path");

const [modules, ...files] = process.argv.slice(2);
const ts = require(path.resolve(modules, "typescript"));

// Where the options and field settings of each kind of panel are.
const kinds = {
  timeseries: "timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen",
  stat: "stat/panelcfg/x/StatPanelCfg_types.gen",
  heatmap: "heatmap/panelcfg/x/HeatmapPanelCfg_types.gen",
  "state-timeline": "statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen",
  table: "table/panelcfg/x/TablePanelCfg_types.gen",
};
const name = (kind) => kind.replace("-", "_");

const prelude = `
import type { AnnotationQuery, Dashboard, Panel, RowPanel } from "@grafana/schema";
${Object.entries(kinds)
  .map(([kind, file]) => `import type * as ${name(kind)} from "@grafana/schema/dist/esm/raw/composable/${file}";`)
  .join("\n")}
// As JSON has it: an enumeration's value is the text that it stands for.
type Json<T> = T extends string ? \`\${T}\` : T extends (infer Item)[] ? Json<Item>[] : T extends object ? { [Key in keyof T]: Json<T[Key]> } : T;
// What Prometheus's data source reads beside: a query gives the times.
type Mark = Json<AnnotationQuery> & { expr: string; step: string; titleFormat: string; textFormat: string; useValueForTime: boolean };
// The table's field settings have two that Grafana fills in.
type Custom<T> = Partial<Json<T>>;
`;

// TypeScript for one dashboard, with the line that each part is on.
function source(dashboard) {
  const lines = [prelude];
  const literal = (type, value) => lines.push(`export const _${lines.length}: ${type} = ${JSON.stringify(value)};`);
  const { panels, annotations, ...rest } = dashboard;
  literal("Json<Dashboard>", rest);
  for (const mark of annotations.list) literal("Mark", mark);
  for (const panel of panels) {
    if (panel.type === "row") {
      literal("Json<RowPanel>", panel);
      continue;
    }
    if (!kinds[panel.type]) throw new Error(`${panel.title}: no types are known for ${panel.type}`);
    literal("Json<Panel>", panel);
    literal(`Json<${name(panel.type)}.Options>`, panel.options);
    const custom = panel.fieldConfig.defaults.custom;
    if (custom) literal(`Custom<${name(panel.type)}.FieldConfig>`, custom);
  }
  return lines.join("\n");
}

function errors(text) {
  const file = path.resolve(modules, "heapgate-dashboard.ts");
  const options = {
    strict: true, noEmit: true, skipLibCheck: true, types: [], target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
  };
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile;
  host.getSourceFile = (at, ...more) => (at === file ? ts.createSourceFile(at, text, ts.ScriptTarget.ES2022) : read(at, ...more));
  const exists = host.fileExists;
  host.fileExists = (at) => at === file || exists(at);
  const program = ts.createProgram([file], options, host);
  return ts.getPreEmitDiagnostics(program).map((one) => {
    const line = one.file === undefined ? "" : one.file.text.split("\n")[one.file.getLineAndCharacterOfPosition(one.start).line];
    return `${ts.flattenDiagnosticMessageText(one.messageText, "\n")}\n  in ${line.slice(0, 240)}`;
  });
}

let failed = 0;
for (const file of files) {
  const dashboard = JSON.parse(fs.readFileSync(file, "utf8"));
  for (const error of errors(source(dashboard))) {
    console.error(`${file}: ${error}`);
    failed = 1;
  }
}

const first = JSON.parse(fs.readFileSync(files[0], "utf8"));
const planted = {
  "a place without its width": (panel) => delete panel.gridPos.w,
  "a place in words": (panel) => (panel.gridPos.x = "left"),
  "a setting that there isn't": (panel) => (panel.fieldConfig.defaults.units = "s"),
  "an option that there isn't": (panel) => (panel.options.legends = {}),
};
// All at once: TypeScript reads the types once.
const wrong = Object.values(planted).map((plant) => {
  const panel = structuredClone(first.panels.find((one) => one.type === "timeseries"));
  plant(panel);
  return panel;
});
const found = errors(source({ ...first, annotations: { list: [] }, panels: wrong })).length;
if (found !== wrong.length) {
  console.error(`of ${wrong.length} planted mistakes (${Object.keys(planted).join(", ")}) ${found} were found`);
  failed = 1;
}
process.exit(failed);
