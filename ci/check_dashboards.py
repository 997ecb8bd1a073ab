"""Runs every query and rule of dashboards/ on real servers: see ci/check-dashboards, which calls this.

dashboards/up --hurry brings up Prometheus, Alertmanager, Pushgateway, the agent and the example service, all 60 times as
fast; a second version of the service and a process with regions run beside it, under load; two runs are pushed, one of
which fails. Then every panel must have data of plausible value, every rule must be healthy, and a call of 250 ms must
arrive at a webhook as an alert.
"""

import contextlib
import http.server
import json
import math
import os
import pathlib
import queue
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACE = ROOT / "target/check-dashboards"
HEAPGATE, TOKENIZER_SERVICE, REGIONS = (os.environ[name] for name in ("HEAPGATE", "TOKENIZER_SERVICE", "REGIONS"))
# In --hurry's time: a window of 5 minutes.
WINDOW = "5s"
# How long anything may take to be there, or to come right: the roll-out's interval is 6 windows, all else is there at once; the
# rest is for a busy machine.
PATIENCE_S = 180
# How long one answer may take there.
ANSWER_S = 60
# The labels of the alert that is provoked.
STALL = {"alertname": "HeapgateStall", "service": "tokenizer", "severity": "critical", "op": "alloc", "version": "1.0"}
PROBLEMS = []


def say(text):
    print(f"check-dashboards: {text}", flush=True)


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def get(url):
    with urllib.request.urlopen(url, timeout=ANSWER_S) as answer:
        return answer.read().decode()


def post(url, text):
    with urllib.request.urlopen(urllib.request.Request(url, data=text.encode(), method="POST"), timeout=ANSWER_S) as answer:
        return answer.read().decode()


class Webhook(http.server.BaseHTTPRequestHandler):
    """Takes what Alertmanager sends."""

    arrived = queue.Queue()

    def do_POST(self):
        self.arrived.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Prometheus:
    def __init__(self, port):
        self.api = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path, **parameters):
        try:
            return json.loads(get(f"{self.api}/{path}?{urllib.parse.urlencode(parameters)}"))["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.loads(error.read())["error"]) from error

    def series(self, query):
        """Labels and latest value of each."""
        return [(one["metric"], float(one["value"][1])) for one in self.ask("query", query=query)["result"]]


def until(what, condition):
    """Waits for a condition; its last answer."""
    end = time.monotonic() + PATIENCE_S
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise SystemExit(f"check-dashboards: waited {PATIENCE_S} s for {what}")
        time.sleep(0.5)


def settle(look):
    """What stays wrong: a look that finds something is taken again, since what is read only now and then may be missing at one
    moment."""
    end = time.monotonic() + PATIENCE_S
    while problems := look():
        if time.monotonic() > end:
            PROBLEMS.extend(problems)
            return
        time.sleep(0.5)


# What a value of each unit may be; a panel of its own unit and title is told apart below.
PLAUSIBLE = {
    "s": (0, 3600),
    # Parts of resident memory may be below 0: see the catalogue.
    "bytes": (-(2**30), 2**44),
    "binBps": (0, 2**40),
    "short": (0, 1e12),
    "cps": (0, 1e9),
    "percentunit": (0, 100),
    "none": (0, 10),
}


def plausible(panel, value):
    # The unit of a heat map is that of its axis; its values are counts.
    unit = "short" if panel["type"] == "heatmap" else panel["fieldConfig"]["defaults"]["unit"]
    low, high = PLAUSIBLE[unit]
    return math.isfinite(value) and low <= value <= high


def filled(query, chosen):
    """A query as Grafana would send it."""
    for name, value in {"__rate_interval": WINDOW, "__range": "5m", **chosen}.items():
        query = re.sub(rf"\$\{{?{name}\b\}}?", value, query)
    # Offsets of marks, in --hurry's time.
    query = re.sub(r"offset (\d+)m", r"offset \1s", query)
    if "$" in query:
        raise ValueError(f"a variable is left: {query}")
    return query


def check_panel(prometheus, board, panel, chosen):
    """What is wrong with it, if anything."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    wrong = []
    for target in panel["targets"]:
        query = filled(target["expr"], chosen)
        try:
            series = prometheus.series(query)
        except ValueError as error:
            wrong.append(f"{query}: {error}")
            continue
        # A quantile of nothing is no number; so is a share of nothing.
        values = [value for _, value in series if not math.isnan(value)]
        if not values:
            wrong.append(f"no data: {query}")
        wrong += [f"{value} {unit} of {labels}: {query}" for labels, value in series if not math.isnan(value) and not plausible(panel, value)]
        legend = re.findall(r"{{(\w+)}}", target["legendFormat"])
        # Some labels are not on every series; one that is on none is a mistake.
        wrong += [f"the legend has {label}, no series has: {query}" for label in legend if series and not any(label in one for one, _ in series)]
    return [f"{board['title']}: {panel['title']}: {each}" for each in wrong]


def check_variables(prometheus, board, chosen):
    for variable in board["templating"]["list"]:
        if variable["type"] != "query":
            continue
        series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
        values = {one.get(label) for one in prometheus.ask("series", **{"match[]": filled(series, chosen)})}
        if not values - {None}:
            yield f"{board['title']}: variable {variable['name']}: no values: {series}"


def main():
    webhook = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=webhook.serve_forever, daemon=True).start()
    names = ["PROMETHEUS_PORT", "ALERTMANAGER_PORT", "PUSHGATEWAY_PORT", "AGENT_PORT", "SERVICE_PORT"]
    ports = dict(zip(names, free_ports(len(names))))
    PLACE.mkdir(parents=True, exist_ok=True)
    subprocess.run(["rm", "-rf", PLACE / "run", PLACE / "prometheus", PLACE / "alertmanager", PLACE / "baselines"], check=True)
    environment = {
        **os.environ,
        **{name: str(port) for name, port in ports.items()},
        "HEAPGATE_RUNTIME_DIR": str(PLACE / "run"),
        "HEAPGATE_VERSION": "1.0",
        "HEAPGATE_CONTROL": "1",
        "HEAPGATE_SOFT_LIMIT": "4GiB",
    }
    hook = f"http://127.0.0.1:{webhook.server_address[1]}/"
    with contextlib.ExitStack() as stack:
        down = [ROOT / "dashboards/down", "--place", PLACE]
        stack.callback(subprocess.run, down, check=False)
        subprocess.run([ROOT / "dashboards/up", "--hurry", "--place", PLACE, "--webhook", hook], env=environment, check=True)
        prometheus = Prometheus(ports["PROMETHEUS_PORT"])
        check(stack, prometheus, ports, environment)
    for problem in PROBLEMS:
        print(problem, file=sys.stderr)
    if PROBLEMS:
        raise SystemExit(f"check-dashboards: {len(PROBLEMS)} problems")


def process(stack, command, environment):
    """Runs one until the end of the check."""
    started = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    stack.callback(lambda: (started.kill(), started.wait()))
    return started


def check(stack, prometheus, ports, environment):
    first = f"http://127.0.0.1:{ports['SERVICE_PORT']}"
    newer = {**environment, "HEAPGATE_VERSION": "2.0", "HEAPGATE_LEVEL": "exact", "HEAPGATE_PUBLISH": "tokenizer"}
    # In groups, for the row that shows them side by side.
    second = process(stack, [TOKENIZER_SERVICE, "--listen", "127.0.0.1:0", "--groups"], newer).stdout.readline().split()[-1]
    process(stack, [REGIONS], {**environment, "HEAPGATE_PUBLISH": "regions"})

    stop = threading.Event()
    stack.callback(stop.set)
    text = "In the beginning God created the heaven and the earth. " * 20

    def load():
        # Not more than the machine can bear beside the servers.
        while not stop.wait(0.02):
            for service in (first, second):
                with contextlib.suppress(OSError):
                    post(f"{service}/tokenize", text)

    threading.Thread(target=load, daemon=True).start()
    push_runs(ports["PUSHGATEWAY_PORT"])

    until("the agent's processes", lambda: len(prometheus.series('heapgate_up{job="heapgate-agent"} == 1')) == 3)
    say("all is scraped; waiting for the interval of the roll-out's change")
    until("the interval", lambda: prometheus.series("heapgate:rollout_change_low:ratio1h"))

    over_200_ms = 'sum(heapgate_stall_seconds_count{%s} - ignoring(le) heapgate_stall_seconds_bucket{le="0.2",%s})'
    provoked = 'service="tokenizer",version="1.0",op="alloc",job="heapgate-agent"'
    over_200_ms %= (provoked, provoked)
    before = until("the service's stalls", lambda: prometheus.series(over_200_ms))[0][1]
    # A machine that is busy enough holds a call up by itself.
    early = [alert for notice in list(Webhook.arrived.queue) for alert in notice["alerts"] if STALL.items() <= alert["labels"].items()]
    if before == 0 and early:
        PROBLEMS.append(f"an alert before there was a stall: {early[0]}")
    post(f"{first}/inject/stall", "")
    until("the stall", lambda: prometheus.series(over_200_ms)[0][1] > before)
    check_alert()
    check_boards(prometheus)
    check_rules(prometheus)
    check_figures(prometheus, ports)


def push_runs(port):
    """A run that passes, and one that fails by a limit which nothing could keep. With regions, whose escapes have a panel."""
    matrix = ["tokenize/wordpiece-heap", "-a", "jemalloc", "-a", "region", "-n", "2", "--steps", "1", "--param", "document=repeated", "--store", "none"]
    baselines = ["--baselines", PLACE / "baselines", "--output", PLACE / "report.json"]
    strict = PLACE / "strict.toml"
    strict.write_text('[workload."tokenize/wordpiece-heap".limits]\npeak_live_objects = { hard = 1 }\n')

    def run(expected, *arguments):
        ran = subprocess.run([HEAPGATE, *arguments, *matrix, *baselines], cwd=ROOT, capture_output=True, text=True, check=False)
        if ran.returncode not in expected:
            raise SystemExit(f"check-dashboards: heapgate {arguments[0]}: {ran.returncode}, not {expected}:\n{ran.stderr}")

    url = f"http://127.0.0.1:{port}"
    run([0], "baseline", "record")
    # On a busy machine a noisy metric may be left open.
    run([0, 4], "gate", "--push", url, "--push-grouping", "suite=as-it-is")
    run([3], "gate", "--config", strict, "--push", url, "--push-grouping", "suite=strict")


def check_alert():
    def arrived():
        try:
            notice = Webhook.arrived.get(timeout=0.5)
        except queue.Empty:
            return None
        alerts = [alert for alert in notice["alerts"] if alert["status"] == "firing" and STALL.items() <= alert["labels"].items()]
        return alerts or None

    labels = until("the alert of the stall", arrived)[0]
    summary = labels["annotations"]["summary"]
    if not re.fullmatch(r"tokenizer \(1\.0\), process \d+: a call of alloc took more than 200 ms", summary):
        PROBLEMS.append(f"the alert's summary: {summary}")
    say(f"the webhook was told: {summary}")


def check_boards(prometheus):
    job = "heapgate-agent"
    chosen = {
        "heapgate-service": {"job": job, "service": ".*", "version": ".*"},
        "heapgate-rollout": {"job": job, "service": "tokenizer", "version": ".*", "old": "1.0", "new": "2.0"},
        "heapgate-ci": {"job": "heapgate", "branch": ".*", "machine": ".*", "workload": ".*", "variant": ".*", "allocator": ".*"},
    }
    for uid, values in chosen.items():
        board = json.loads((ROOT / f"dashboards/grafana/{uid}.json").read_text())
        panels = [panel for panel in board["panels"] if panel["type"] != "row"]
        wrong = list(panels)

        def look(board=board, values=values, wrong=wrong):
            """Asks again only for panels that were wrong."""
            found = {panel["id"]: check_panel(prometheus, board, panel, values) for panel in wrong}
            wrong[:] = [panel for panel in wrong if found[panel["id"]]]
            return [problem for problems in found.values() for problem in problems]

        settle(look)
        settle(lambda board=board, values=values: list(check_variables(prometheus, board, values)))
        for mark in board["annotations"]["list"]:
            prometheus.series(filled(mark["expr"], values))
        say(f"{board['title']}: {len(panels)} panels, {sum(len(panel['targets']) for panel in panels)} queries")


def check_rules(prometheus):
    def rules():
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    def look():
        for rule in rules():
            if rule["health"] != "ok":
                yield f"rule {rule['name']}: {rule['health']}: {rule.get('lastError')}"
            if rule["type"] == "recording" and not prometheus.series(f"{{__name__=\"{rule['name']}\"}}"):
                yield f"rule {rule['name']} has recorded nothing"
            if rule["type"] == "alerting":
                prometheus.series(rule["query"])

    settle(lambda: list(look()))
    say(f"{len(rules())} rules")


def check_figures(prometheus, ports):
    """What is stored is what the service says of itself."""
    signals = {"all", "live_objects", "resident_bytes", "stalls"}

    def look():
        own = dict(re.findall(r"^(heapgate_\w+)\{[^}]*\} (\S+)$", get(f"http://127.0.0.1:{ports['SERVICE_PORT']}/metrics"), re.M))
        for name, tolerance in [("heapgate_process_resident_bytes", 0.3), ("heapgate_threads", 0.5), ("heapgate_level", 0)]:
            for labels, value in prometheus.series(f'{name}{{service="tokenizer",version="1.0"}}'):
                if abs(value - float(own[name])) > tolerance * float(own[name]):
                    yield f"{name}: {value} by {labels['job']}, {own[name]} by the service itself"
        answers = prometheus.series("count by (signal) (heapgate:rollout_worse == 1)")
        if sorted((labels["signal"], count) for labels, count in answers) != [(signal, 1.0) for signal in sorted(signals)]:
            yield f"the roll-out has not one answer for each signal: {answers}"

    settle(lambda: list(look()))


main()
