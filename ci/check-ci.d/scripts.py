"""Checks what no schema knows: the scripts inside the YAML (by shellcheck), the action's steps with a heapgate that only
notes its arguments, and numbers that must agree between files."""

import os
import pathlib
import subprocess
import sys
import tempfile

from ruamel.yaml import YAML

PROBLEMS = []


def load(file):
    return list(YAML(typ="safe").load_all(pathlib.Path(file).read_text(encoding="utf-8")))


def expect(found, expected, what):
    if found != expected:
        PROBLEMS.append(f"{what}: {found!r}, not {expected!r}")


def shellcheck(place, shell, script):
    if shell == "bash":
        script = f"set -eo pipefail # as runners do\n{script}"
    ran = subprocess.run(
        ["shellcheck", "--shell", shell, "-"], input=script, text=True, capture_output=True, check=False
    )
    if ran.returncode:
        PROBLEMS.append(f"{place}:\n{ran.stdout}")


STEPS = load("ci/action.yml")[0]["runs"]["steps"]
for step in STEPS:
    if "run" in step:
        shellcheck(f"ci/action.yml: {step['name']}", "bash", step["run"])
        if "${{" in step["run"]:
            PROBLEMS.append(f"ci/action.yml: {step['name']}: an expression in a script runs what it holds; use env")
for file in pathlib.Path("ci/github").glob("*.yml"):
    for name, job in load(file)[0]["jobs"].items():
        for step in job["steps"]:
            if "run" in step:
                shellcheck(f"{file}: {name}", "bash", step["run"])


def container(document):
    return document["spec"]["template"]["spec"]["containers"][0]


def variable(document, name):
    return next(v["value"] for v in container(document)["env"] if v["name"] == name)


job = next(d for d in load("ci/kubernetes/job.yaml") if d["kind"] == "Job")
merge = load("ci/kubernetes/merge.yaml")[0]
for file, document in [("job.yaml", job), ("merge.yaml", merge)]:
    shellcheck(f"ci/kubernetes/{file}", "sh", container(document)["args"][0])
    resources = container(document)["resources"]
    expect(resources["requests"], resources["limits"], f"ci/kubernetes/{file}: requests")
expect(variable(job, "SHARDS"), str(job["spec"]["completions"]), "ci/kubernetes/job.yaml: SHARDS")
expect(job["spec"]["parallelism"], job["spec"]["completions"], "ci/kubernetes/job.yaml: parallelism")
expect(variable(merge, "STORE"), variable(job, "STORE"), "ci/kubernetes/merge.yaml: STORE")
expect(container(merge)["image"], container(job)["image"], "ci/kubernetes/merge.yaml: image")


def run_step(name, folder, **variables):
    """One of the action's steps, as a runner runs it: its exit code, and what it wrote to each of the runner's files."""
    script = next(s["run"] for s in STEPS if s.get("name") == name)
    files = {f: folder / f for f in ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"]}
    for file in files.values():
        file.write_text("", encoding="utf-8")
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "RUNNER_TEMP": str(folder), **variables}
    environment.update({name: str(file) for name, file in files.items()})
    ran = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )
    return ran.returncode, files["GITHUB_OUTPUT"].read_text(encoding="utf-8"), ran.stdout + ran.stderr


INPUTS = ["WORKLOADS", "BENCH", "BASELINES", "BASE", "REPORT", "BUDGET", "PROFILE", "ARGUMENTS"]
with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    fake = folder / "heapgate"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$RUNNER_TEMP/arguments"\nexit 4\n', encoding="utf-8")
    fake.chmod(0o755)
    results = f"{folder}/heapgate-results"
    exports = ["--markdown", f"{results}/verdict.md"]
    for kind, file in [("junit", "junit.xml"), ("sarif", "verdict.sarif"), ("html", "verdict.html")]:
        exports += ["--export", f"{kind}={results}/{file}"]
    cases = [
        ({}, ["gate", "--output", f"{results}/report.json"]),
        ({"REPORT": "a b.json"}, ["gate", "--report", "a b.json"]),
        (
            {"BASE": "$(touch planted)", "WORKLOADS": "tokenize decode", "BENCH": "index", "BUDGET": "10m", "PROFILE": "true"},
            ["ab", "--base", "$(touch planted)", "tokenize", "decode", "--output", f"{results}/report.json",
             "--bench", "index", "--budget", "10m", "--profile-on-fail"],
        ),
    ]
    for given, expected in cases:
        code, output, said = run_step("Gate", folder, **{**dict.fromkeys(INPUTS, ""), **given})
        expect(code, 0, f"the gate's step with {given}: exit code (it said: {said})")
        expect((folder / "arguments").read_text(encoding="utf-8").splitlines(), expected + exports, f"heapgate, with {given}")
        expect(output, f"code=4\nfolder={results}\n", f"the gate's outputs with {given}")
    expect((folder / "planted").exists(), False, "what an input holds was run")
    for code, inconclusive, expected in [("0", "fail", 0), ("3", "pass", 3), ("4", "fail", 4), ("4", "pass", 0), ("", "pass", 1)]:
        found, _, _ = run_step("Verdict", folder, CODE=code, INCONCLUSIVE=inconclusive)
        expect(found, expected, f"the verdict's step of {code!r} where inconclusive is to {inconclusive}")

for problem in PROBLEMS:
    print(f"ci/check-ci: {problem}", file=sys.stderr)
sys.exit(1 if PROBLEMS else 0)
