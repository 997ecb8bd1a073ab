#!/usr/bin/env python3
"""Runs the service with groups under load, and `heapgate ab --live` beside it, a number of times.

With the same settings in both groups (the default) this is an A/A: how often is a difference found where there is none?
With --groups control=1,strict=1 it is found, or it is not; with --slow same=2000 one group is worse for certain, and has to lose.

    cargo build --release && cargo build --release -p tokenizer-service
    examples/service/live_ab.py --runs 20 --seconds 120
    examples/service/live_ab.py --runs 1 --seconds 300 --groups control=1,strict=1
    examples/service/live_ab.py --runs 5 --seconds 300 --slow same=2000 --until-decided
"""

import argparse
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time

WORDS = "In the beginning unaffable tokenization, naïve e-mail (who?) 42 größer window memory".split()
# Longest text, in words: some 25 KiB, of which tokenizing makes a megabyte or two for a moment.
LONGEST = 3000


def load(address, seed, rate, stop):
    """Sends texts of many lengths on a schedule of its own; a late answer delays the next request of this connection."""
    chance = random.Random(seed)
    connection = http.client.HTTPConnection(address)
    due = time.monotonic()
    while not stop.is_set():
        text = " ".join(chance.choices(WORDS, k=int(LONGEST ** chance.random())))
        headers = {"X-Key": f"customer-{chance.randrange(100_000)}"}
        connection.request("POST", "/tokenize", text.encode(), headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"the service answered {answer.status}")
        due += chance.expovariate(rate)
        stop.wait(max(0.0, due - time.monotonic()))


def run(arguments, number, folder):
    environment = dict(os.environ, HEAPGATE_RUNTIME_DIR=folder, HEAPGATE_LEVEL=arguments.level)
    service = subprocess.Popen(
        [arguments.service, "--listen", "127.0.0.1:0", f"--groups={arguments.groups}",
         *(["--slow-group", arguments.slow] if arguments.slow else [])],
        env=environment, stdout=subprocess.PIPE, text=True)
    stop = threading.Event()
    try:
        address = service.stdout.readline().strip().removeprefix("listening on http://")
        threads = [
            threading.Thread(target=load, args=(address, number * 100 + each, arguments.rate / arguments.connections, stop))
            for each in range(arguments.connections)
        ]
        for thread in threads:
            thread.start()
        time.sleep(arguments.settle)
        command = [arguments.heapgate, "ab", "--live", "tokenizer", "--json", "--duration", str(arguments.seconds),
                   "--window", arguments.window, *(["--until-decided"] if arguments.until_decided else [])]
        result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        stop.set()
        for thread in threads:
            thread.join()
        if result.returncode not in (0, 4):
            raise SystemExit(f"{' '.join(command)} ended with {result.returncode}")
        return json.loads(result.stdout)
    finally:
        stop.set()
        service.terminate()
        service.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first run, which its load follows from")
    parser.add_argument("--seconds", type=int, default=120, help="length of each comparison")
    parser.add_argument("--settle", type=float, default=5, help="seconds of load before it")
    parser.add_argument("--window", default="1s")
    parser.add_argument("--rate", type=float, default=100, help="requests a second, of all connections")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--groups", default="control=1,same=1")
    parser.add_argument("--slow", metavar="NAME=MICROSECONDS", help="more work in the allocator for each request of a group")
    parser.add_argument("--until-decided", action="store_true", help="end a run as soon as all is decided")
    parser.add_argument("--level", default="sampled")
    parser.add_argument("--service", default="target/release/tokenizer-service")
    parser.add_argument("--heapgate", default="target/release/heapgate")
    arguments = parser.parse_args()
    found, winners = 0, {}
    for number in range(arguments.first, arguments.first + arguments.runs):
        with tempfile.TemporaryDirectory() as folder:
            report = run(arguments, number, folder)
        differences = [c for c in report["comparisons"] if c["finding"] in ("better", "worse")]
        found += bool(differences)
        for comparison in report["comparisons"]:
            def percent(name):
                value = comparison[name]
                return "-" if value is None else f"{value:+.1%}"
            print(f"run {number + 1}: {comparison['side']} {comparison['metric']}: {comparison['finding']}, "
                  f"{percent('change')} ({percent('change_low')} to {percent('change_high')}), "
                  f"{comparison['pairs']} pairs in blocks of {comparison['block']}", flush=True)
        took = report["windows"] * report["window_s"]
        winners.setdefault(report["winner"], []).append(took)
        print(f"run {number + 1}: {'decided' if report['decided'] else 'undecided'}, winner {report['winner']}, "
              f"{report['windows']} windows, {took:.0f} s", flush=True)
    for winner, seconds in winners.items():
        print(f"winner {winner} in {len(seconds)} of {arguments.runs} runs, after "
              f"{', '.join(f'{each:.0f}' for each in sorted(seconds))} s")
    print(f"a difference was found in {found} of {arguments.runs} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
