//! The files of `dashboards/bpftrace` that have the bounds of the stall metric in them, generated from it; and
//! `docs/probes.md`, generated from the probes' own list.

use std::fmt::Write;
use std::path::Path;

use heapgate_segment::probes::{ALL, Probe};

use crate::stalls::BOUNDS_S;

/// `stalls.bt`.
fn script() -> String {
    let mut bounds = String::new();
    // Downwards: the last that holds is the lowest.
    for (index, bound) in BOUNDS_S.iter().enumerate().rev() {
        let _ = writeln!(bounds, "  if ($ns <= {}) {{ $bound = {index}; }}", (bound * 1e9).round() as u64);
    }
    format!(
        "\
#!/usr/bin/env bpftrace
// Times of a process's allocator calls, from its USDT probes (docs/probes.md), without touching it: bpftrace -p PID stalls.bt
//
// @ticks: by operation and interrupted, in powers of two of the segment's clock: what the segment's own histogram has.
// @calls, @sum_ns: the same calls by the bounds of heapgate_stall_seconds, for to-textfile, which makes metrics of them.
//
// Generated: `HEAPGATE_BLESS=1 cargo test -p heapgate-prometheus` writes it again.

BEGIN
{{
  printf(\"attached\\n\");
}}

usdt:*:heapgate:stall_done
{{
  $ns = arg1;
  $bound = {};
{bounds}  @calls[arg3, arg4, $bound] = sum(arg5);
  @sum_ns[arg3, arg4] = sum($ns * arg5);
  @ticks[arg3, arg4] = hist(arg0);
}}

interval:s:5
{{
  print(@calls);
  print(@sum_ns);
  printf(\"flush\\n\");
}}

END
{{
  print(@calls);
  print(@sum_ns);
  printf(\"flush\\n\");
  clear(@calls);
  clear(@sum_ns);
}}
",
        BOUNDS_S.len()
    )
}

/// `to-textfile`.
fn converter() -> String {
    let bounds: Vec<String> = BOUNDS_S.iter().map(f64::to_string).collect();
    TEXTFILE.replace("{BOUNDS}", &bounds.join(" "))
}

const TEXTFILE: &str = r##"#!/bin/sh
# Runs stalls.bt on a process and keeps its histogram as metrics in a file that `heapgate serve --textfile-dir DIR` reads.
#
#   dashboards/bpftrace/to-textfile PID DIR      as root, until the process ends or Ctrl-C
#
# Generated: `HEAPGATE_BLESS=1 cargo test -p heapgate-prometheus` writes it again.
set -eu
if [ $# != 2 ] || ! [ -d "/proc/$1" ] || ! [ -d "$2" ]; then
  echo "usage: to-textfile PID DIR: a running process, and a folder" >&2
  exit 2
fi
command -v bpftrace >/dev/null || { echo "to-textfile: bpftrace is not installed" >&2; exit 2; }
file="$2/heapgate-probes-$1.prom"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Ctrl-C ends bpftrace, whose last figures are still to be written.
trap : INT TERM
bpftrace -B line -p "$1" "$(dirname "$0")/stalls.bt" | while IFS= read -r line; do
  case $line in
  flush)
    # Its name keeps the agent off until it is whole.
    awk -v pid="$1" -v bounds="{BOUNDS}" '
      BEGIN {
        count = split(bounds, bound, " ")
        split("alloc alloc_zeroed realloc dealloc", name, " ")
        print "# HELP heapgate_probe_stall_seconds Time of allocator calls as bpftrace saw them since it was attached."
        print "# TYPE heapgate_probe_stall_seconds histogram"
      }
      # @calls[OPERATION, INTERRUPTED, BOUND]: N
      /^@calls/ { gsub(/[^0-9]/, " "); calls[$1, $2, $3] = $4; seen[$1, $2] = 1 }
      /^@sum_ns/ { gsub(/[^0-9]/, " "); sum[$1, $2] = $3 }
      END {
        for (op = 0; op < 4; op++) for (cut = 0; cut < 2; cut++) if ((op, cut) in seen) {
          labels = "pid=\"" pid "\",op=\"" name[op + 1] "\",interrupted=\"" (cut ? "true" : "false") "\""
          below = 0
          for (b = 0; b <= count; b++) {
            below += calls[op, cut, b]
            printf("heapgate_probe_stall_seconds_bucket{%s,le=\"%s\"} %.0f\n", labels, b < count ? bound[b + 1] : "+Inf", below)
          }
          printf("heapgate_probe_stall_seconds_sum{%s} %.9f\n", labels, sum[op, cut] / 1e9)
          printf("heapgate_probe_stall_seconds_count{%s} %.0f\n", labels, below)
        }
      }' "$work/block" >"$file.new"
    mv -f "$file.new" "$file"
    : >"$work/block"
    ;;
  *) printf '%s\n' "$line" >>"$work/block" ;;
  esac
done
"##;

const INTRODUCTION: &str = "\
# Probes

<!-- Generated from `harness/segment/src/probes.rs`: `HEAPGATE_BLESS=1 cargo test -p heapgate-prometheus` writes it again. -->

Programs with heapgate-alloc or heapgate-region have static probes (USDT) of the provider `heapgate`, to which bpftrace, perf and
SystemTap attach while they run. Until somebody does, a probe is one `nop`; one with a semaphore is a look at a word that is 0, and its
arguments are made only while somebody is attached. No probe is on the path of a call that is only counted: `stall_*` are where calls
are timed (levels `sampled`, `exact-alloc`, `exact`).

All arguments are 64-bit words; `arg0` is the first.

| probe | semaphore | when | arguments |
|---|---|---|---|
";

const USE: &str = "
## With bpftrace

As root, with tracefs mounted (`mount -t tracefs tracefs /sys/kernel/tracing`); 0.17, as Debian 12 has it, is enough:

```console
$ bpftrace -p PID dashboards/bpftrace/stalls.bt        # histograms of every timed call; Ctrl-C prints them
$ bpftrace -p PID dashboards/bpftrace/scopes.bt        # scopes by line: how many, how long, what escaped
$ dashboards/bpftrace/to-textfile PID /run/heapgate-text &
$ heapgate serve --textfile-dir /run/heapgate-text     # the same histogram as heapgate_probe_stall_seconds
```

The counts of `stalls.bt` are those of the segment: the probe hands over the very ticks whose bucket was counted up, and in powers of
two both agree exactly (a test holds them to it). Against `heapgate_stall_seconds` the bounds differ by the width of a bucket of the
segment, 3%, since that metric files a call by the middle of its bucket.

What it costs while attached: a uprobe is a trap into the kernel, microseconds, at each pass of a probe that somebody has attached to
(`stalls.bt`: once for a timed call), outside the window that is timed. At level `exact` that slows a program that allocates much by a
large factor; at `sampled`, one call in 64 pays it.
";

fn document() -> String {
    let mut out = INTRODUCTION.to_owned();
    for Probe { name, help, arguments, has_semaphore } in ALL {
        let arguments: Vec<String> =
            arguments.iter().map(|(argument, about)| format!("`{argument}`: {about}")).collect();
        let semaphore = if *has_semaphore { "yes" } else { "" };
        let _ = writeln!(out, "| `{name}` | {semaphore} | {help} | {} |", arguments.join("; "));
    }
    out.push_str(USE);
    out
}

#[test]
fn scripts_and_docs_are_those_of_bounds_and_probes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (path, text) in [
        ("dashboards/bpftrace/stalls.bt", script()),
        ("dashboards/bpftrace/to-textfile", converter()),
        ("docs/probes.md", document()),
    ] {
        let file = root.join(path);
        if std::env::var_os("HEAPGATE_BLESS").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let found = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            found == text,
            "{path} is not what the code generates; run `HEAPGATE_BLESS=1 cargo test -p heapgate-prometheus` and commit it"
        );
    }
}
