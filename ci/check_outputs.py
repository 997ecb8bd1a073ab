"""Checks exported verdicts against what reads them: see ci/check-outputs, which calls this.

A check is a function that takes a file and raises where its reader would not take it. Beside each stands a planted
mistake: a change to the file that the check must refuse, so that a check which sees nothing is found out.
"""

import csv
import html.parser
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import jsonschema
import xmlschema

SAMPLES, JUNIT_XSD, SARIF_SCHEMA, VERDICT_SCHEMA = (Path(argument) for argument in sys.argv[1:5])
BENCHSTAT = os.environ.get("BENCHSTAT")


def expect(condition, message):
    if not condition:
        raise ValueError(message)


def number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check_markdown(path):
    text = path.read_text()
    expect(len(text) < 65_536, f"{len(text)} characters")
    expect(text.startswith("<!-- heapgate -->\n"), "the first line is not the marker")
    expect(text.count("<details>") == text.count("</details>"), "unbalanced details")
    for rows in re.findall(r"(?:^\|.*\n)+", text, re.M):
        columns = {len(re.findall(r"(?<!\\)\|", row)) for row in rows.splitlines()}
        expect(len(columns) == 1, f"a table of rows of {columns} bars")


def check_junit(path):
    schema = xmlschema.XMLSchema(JUNIT_XSD)
    schema.validate(path)
    suites = xmlschema.XMLResource(path).root
    for suite in suites:
        # What the stricter schema of Ant's output demands beyond Jenkins'.
        expect({"id", "name", "package", "hostname", "timestamp", "tests", "failures", "errors", "time"} <= set(suite.attrib), "an attribute is missing")
        expect(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp")), "the timestamp")
        order = re.sub(r"(testcase )+", "testcase* ", " ".join(child.tag for child in suite) + " ")
        expect(order == "properties testcase* system-out system-err ", f"the order of {order}")
        cases = suite.findall("testcase")
        expect(all({"classname", "name", "time"} <= set(case.attrib) and len(case) <= 1 for case in cases), "a test case")
        for attribute, element in [("tests", None), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")]:
            found = len(cases) if element is None else len(suite.findall(f"testcase/{element}"))
            expect(int(suite.get(attribute)) == found, f"{attribute} is {suite.get(attribute)}, and there are {found}")
        names = [(case.get("classname"), case.get("name")) for case in cases]
        expect(len(set(names)) == len(names), "two test cases of one name")


def check_sarif(path):
    log = json.loads(path.read_text())
    if SARIF_SCHEMA.is_file():
        jsonschema.Draft4Validator(json.loads(SARIF_SCHEMA.read_text())).validate(log)
    expect(log["version"] == "2.1.0", "the version")
    for run in log["runs"]:
        rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        expect(len(set(rules)) == len(rules), "two rules of one name")
        prints = [json.dumps(result["partialFingerprints"]) for result in run["results"]]
        expect(len(set(prints)) == len(prints), "two results of one fingerprint")
        for result in run["results"]:
            expect(rules[result["ruleIndex"]] == result["ruleId"], "a rule's index")
            for location in result["locations"]:
                uri = location.get("physicalLocation", {}).get("artifactLocation", {}).get("uri", "relative")
                expect(not uri.startswith("/") and ":" not in uri, f"{uri} is not relative")


def check_bencher(path):
    # bencherdev/bencher, lib/bencher_json/src/project/metric/mod.rs; lengths: lib/bencher_valid
    results = json.loads(path.read_text())
    expect(isinstance(results, dict) and results, "no results")
    for benchmark, measures in results.items():
        expect(0 < len(benchmark) <= 1024 and benchmark == benchmark.strip(), f"the name {benchmark}")
        expect(measures, f"{benchmark} has no measures")
        for measure, metric in measures.items():
            expect(0 < len(measure) <= 64, f"the name {measure}")
            expect(set(metric) == {"value", "lower_value", "upper_value"} and all(map(number, metric.values())), measure)
            expect(metric["lower_value"] <= metric["value"] <= metric["upper_value"], f"{measure} is out of its bounds")


def check_github_benchmark(path):
    # benchmark-action/github-action-benchmark, src/extract.ts and src/extractRangeInfo.ts
    benches = json.loads(path.read_text())
    expect(isinstance(benches, list) and benches, "no result was found")
    for bench in benches:
        expect(number(bench["value"]), f"the value of {bench['name']}")
        expect(all(isinstance(bench[key], str) and bench[key] for key in ("name", "unit", "extra")), f"{bench}")
        found = re.search(r"((?:\+-|±)\s*)(\d.+)", bench.get("range", "± 0.0"))
        expect(found and number(float(found[2])), f"the range {bench.get('range')}")
        expect("throughput" not in bench["name"], "more of it is better")
    names = [bench["name"] for bench in benches]
    expect(len(set(names)) == len(names), "two benches of one name")


def check_perfherder(path):
    # The limits of mozilla/treeherder, schemas/performance-artifact.json, for the members that we use.
    text = {"type": "string", "minLength": 1}
    value = {"type": "number", "minimum": -1e12, "maximum": 1e12}
    subtest = {
        "type": "object",
        "required": ["name", "value", "unit", "lowerIsBetter", "replicates"],
        "additionalProperties": False,
        "properties": {
            "name": text,
            "value": value,
            "unit": {**text, "maxLength": 20},
            "lowerIsBetter": {"type": "boolean"},
            "shouldAlert": {"type": "boolean"},
            "alertChangeType": {"enum": ["absolute", "percentage"]},
            "alertThreshold": {"type": "number", "minimum": 0},
            "replicates": {"type": "array", "items": value, "minItems": 1},
        },
    }
    suite = {
        "type": "object",
        "required": ["name", "subtests"],
        "additionalProperties": False,
        "properties": {
            "name": text,
            "extraOptions": {"type": "array", "maxItems": 8, "uniqueItems": True, "items": {**text, "maxLength": 100}},
            "subtests": {"type": "array", "items": subtest, "minItems": 1},
        },
    }
    schema = {
        "type": "object",
        "required": ["framework", "suites"],
        "additionalProperties": False,
        "properties": {
            "framework": {"type": "object", "required": ["name"], "properties": {"name": text}},
            "suites": {"type": "array", "items": suite, "minItems": 1},
        },
    }
    content = path.read_text()
    expect(content.count("\n") == 1 and content.endswith("\n"), "it is not one line")
    jsonschema.Draft202012Validator(schema).validate(json.loads(content))


def check_otava(path):
    """Otava's own importer and analysis: a history of this run's rows with a step in its middle."""
    warnings.simplefilter("ignore")
    from otava.importer import CsvImporter
    from otava.test_config import create_csv_test_config

    with path.open(newline="") as file:
        header, row = list(csv.reader(file))
    expect(len(header) == len(set(header)) == len(row), "the columns")
    metrics = header[3:]
    stepped = next(name for name in metrics if name.endswith(" allocations_per_unit"))
    with tempfile.TemporaryDirectory() as folder:
        history = Path(folder, "history.csv")
        with history.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(header)
            for day in range(1, 29):
                values = [float(value) * (1.25 if name == stepped and day > 14 else 1) for name, value in zip(metrics, row[3:])]
                out.writerow([f"2025-10-{day:02}{row[0][10:]}", f"{day:040x}", row[2], *values])
        config = create_csv_test_config("heapgate", {
            "type": "csv",
            "file": str(history),
            "time_column": "time",
            "attributes": ["commit", "machine"],
            "metrics": {name: {"column": name, "direction": -1} for name in metrics},
        })
        # The default asks for a year back from now.
        from otava.data_selector import DataSelector
        from otava.util import parse_datetime

        selector = DataSelector()
        selector.since_time = parse_datetime("2025-01-01T00:00:00Z")
        series = CsvImporter().fetch_data(config, selector)
    expect(len(series.time) == 28 and len(series.data) == len(metrics), "rows or columns were lost")
    found = {(change.metric, change.index) for group in series.analyze().change_points.items() for change in group[1]}
    expect(found == {(stepped, 14)}, f"the change points are {found}")


def check_benchfmt(path):
    # golang/perf, benchfmt/reader.go
    units, results = {}, 0
    for line in path.read_text().splitlines():
        fields = line.split()
        if line.startswith("Benchmark"):
            results += 1
            expect(fields[1].isdigit() and len(fields) > 2 and len(fields) % 2 == 0, f"the line {line}")
            expect(all(unit in units for unit in fields[3::2]), "a unit that is not declared")
            [float(value) for value in fields[2::2]]
        elif fields and fields[0] == "Unit":
            expect(fields[1] not in units and all("=" in pair for pair in fields[2:]), f"the line {line}")
            units[fields[1]] = fields[2:]
        else:
            expect(line.startswith("#") or re.match(r"[a-z][^\sA-Z]*: \S", line), f"the line {line} is ignored")
    expect(results, "no results")
    if BENCHSTAT:
        ran = subprocess.run([BENCHSTAT, "-format", "csv", path, path], capture_output=True, text=True)
        complaints = [line for line in ran.stderr.splitlines() if re.search(r":\d+: ", line)]
        expect(ran.returncode == 0 and not complaints, f"benchstat says: {ran.stderr}")
        tables = ran.stdout.count("vs base")
        expect(tables == len(units), f"benchstat shows {tables} of {len(units)} units")


def check_benchfmt_pair():
    """benchstat compares before with after in one table, exact metrics without statistics."""
    ran = subprocess.run([BENCHSTAT, SAMPLES / "before/benchfmt", SAMPLES / "after/benchfmt"], capture_output=True, text=True)
    table = ran.stdout.split("allocations/unit", 1)[1].split("reallocations/unit", 1)[0]
    expect(re.search(r"\+\d+\.\d+% \(n=4\)", table), f"no exact change of the planted allocation in:\n{table}")


class Balanced(html.parser.HTMLParser):
    """Refuses markup whose elements are not closed in order, and anything that would be loaded or run."""

    VOID = {"meta", "br", "img", "link", "input", "hr"}
    # What is within is no text of the page.
    SCRIPTS = r"(?s)<script>.*?</script>"

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        expect(tag not in ("link", "img", "iframe"), f"<{tag}>")
        expect(tag != "script" or attributes == [("type", "application/json")], "a script that is neither data nor the page's own")
        for name, value in attributes:
            expect(name != "src" and not name.startswith("on"), f"{attributes}")
            expect(name != "href" or value.startswith("#"), f"{attributes}")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        expect(self.open and self.open.pop() == tag, f"</{tag}> closes nothing")


def check_html(path):
    text = path.read_text()
    expect(len(text.encode()) < 2_000_000, "two megabytes")
    # The library of charts and the page's own; what they do is ci/check-pages' to find out.
    text, scripts = re.subn(Balanced.SCRIPTS, "", text)
    expect(scripts in (0, 2), f"{scripts} scripts")
    parser = Balanced()
    parser.feed(text)
    parser.close()
    expect(not parser.open, f"not closed: {parser.open}")
    expect("NaN" not in text and "inf" not in re.sub(r"<[^>]*>", "", text).split(), "a figure that is none")


def check_json(path):
    verdict = json.loads(path.read_text())
    jsonschema.Draft202012Validator(json.loads(VERDICT_SCHEMA.read_text())).validate(verdict)


# Format: its check, and a planted mistake (a pattern and what takes its place, once).
CHECKS = {
    "markdown": (check_markdown, (r"</details>", "")),
    "junit": (check_junit, (r"<property name=", "<property label=")),
    "sarif": (check_sarif, (r'"level": "\w+"', '"level": "fatal"')),
    "bencher": (check_bencher, (r'"value": [\d.e-]+', '"value": "1"')),
    "github-benchmark": (check_github_benchmark, (r'"unit": "[^"]*",', "")),
    "benchfmt": (check_benchfmt, (r"(?<=\n)(Benchmark\S+ 1 [\d.]+) \S+", r"\1")),
    "otava": (check_otava, (r"(?<=\n)([^,]*,[^,]*,[^,]*),[\d.]+", r"\1,many")),
    "perfherder": (check_perfherder, (r'"unit":"[^"]*"', '"unit":"' + "x" * 21 + '"')),
    "html": (check_html, (r"</table>", "")),
    "json": (check_json, (r'"decision":\s*"\w+"', '"decision": "perhaps"')),
}


def planted(path, mistake):
    """A copy of `path` with the mistake."""
    text, made = re.subn(mistake[0], mistake[1], path.read_text(), count=1)
    expect(made, f"no place for the planted mistake in {path}")
    copy = path.with_suffix(".planted")
    copy.write_text(text)
    return copy


def main():
    failed = 0
    for format, (check, mistake) in CHECKS.items():
        # Where a format is asked for by name and is not here, it has no check.
        paths = [SAMPLES / folder / format for folder in ("before", "after", "snapshots")]
        paths = [path for path in paths if path.is_file()]
        try:
            expect(len(paths) >= 2, "no samples")
            for path in paths:
                check(path)
            wrong = planted(SAMPLES / "after" / format, mistake)
            try:
                check(wrong)
            except Exception:
                print(f"check-outputs: {format}: {len(paths)} files are right, and a planted mistake is seen")
            else:
                raise ValueError("a planted mistake was not seen")
            finally:
                wrong.unlink()
        except Exception as error:
            failed += 1
            print(f"check-outputs: {format}: FAILED: {type(error).__name__}: {str(error)[:2000]}", file=sys.stderr)
    unknown = {path.name for path in (SAMPLES / "after").iterdir()} - set(CHECKS)
    if unknown:
        failed += 1
        print(f"check-outputs: formats without a check: {', '.join(sorted(unknown))}", file=sys.stderr)
    if BENCHSTAT:
        check_benchfmt_pair()
        print("check-outputs: benchstat compares before with after")
    sys.exit(1 if failed else 0)


main()
