//! The comparison of a new version with the one before it, while both run (E24): what is recorded, and the verdict.

use heapgate_core::live::rollout_rule::{LARGEST_CHANGE, MARGIN, STUDENT_T, WINDOWS};
use heapgate_prometheus::catalogue::MetricId::{LiveObjects, ProcessCpu, ProcessResident, Stalls, Up};

use crate::rules::{Group, Record, Rule};
use crate::selector::{live, named, sum};

pub(crate) const PROCESSES: &str = "heapgate:version_processes:count";
pub(crate) const BASELINE: &str = "heapgate:version_baseline:sum1d";
pub(crate) const SIGNAL: &str = "heapgate:version_signal";
pub(crate) const CHANGE: &str = "heapgate:rollout_change:ratio";
const CHANGE_LN: &str = "heapgate:rollout_change:ln";
const ERROR: &str = "heapgate:rollout_change_error:ln1h";
pub(crate) const CHANGE_LOW: &str = "heapgate:rollout_change_low:ratio1h";
pub(crate) const CHANGE_HIGH: &str = "heapgate:rollout_change_high:ratio1h";
pub(crate) const WORSE: &str = "heapgate:rollout_worse";
pub(crate) const IMPROVED: &str = "heapgate:rollout_improved";

/// What is compared.
pub(crate) const SIGNALS: [&str; 3] = ["stalls", "live_objects", "resident_bytes"];

const VERSION: &str = "by (job, service, version)";
/// What one verdict is about, beside its signal.
const PAIR: &str = "by (job, service, version, baseline)";

pub(crate) fn group() -> Group {
    let up = format!("{} == 1", live(Up));
    let stalls = format!(
        "sum {VERSION} ({})\n/ sum {VERSION} ({})",
        sum(Stalls).with("interrupted", "false").rate("5m"),
        live(ProcessCpu).rate("5m")
    );
    let mean = |id| format!("avg {VERSION} (avg_over_time({}[5m]) and {up})", live(id));
    let windows = "[1h:5m]";
    let mut rules = vec![
        record(PROCESSES, "Processes of each version that run.", &[], format!("count {VERSION} ({up})")),
        record(
            BASELINE,
            "The old version of each service: the one that had the most process-hours in the last day. (A new one is that \
             itself after half a day or so: judge a roll-out before.)",
            &[],
            format!("topk by (job, service) (1, sum_over_time({PROCESSES}[1d]))"),
        ),
        record(
            SIGNAL,
            "What versions are compared by. Stalls: time in the allocator as a share of CPU time, calls that the scheduler \
             interrupted left out; so it does not matter which version gets more of the load.",
            &[("signal", SIGNALS[0])],
            stalls,
        ),
        record(SIGNAL, "Live objects of a process, in the mean.", &[("signal", SIGNALS[1])], mean(LiveObjects)),
        record(SIGNAL, "Resident memory of a process, in the mean.", &[("signal", SIGNALS[2])], mean(ProcessResident)),
        record(
            CHANGE,
            "Each other version against the old one (label baseline): 1.15 is 15% more.",
            &[],
            format!(
                "({SIGNAL} unless on (job, service, version) {BASELINE})\n/ on (job, service, signal) group_left (baseline)\n\
                 label_replace({SIGNAL} and on (job, service, version) {BASELINE}, \"baseline\", \"$1\", \"version\", \"(.*)\")"
            ),
        ),
        record(
            CHANGE_LN,
            "Its logarithm, in which twice and half are equally far from 1.",
            &[],
            format!("ln(clamp({CHANGE}, {}, {LARGEST_CHANGE}))", 1.0 / LARGEST_CHANGE),
        ),
        record(
            ERROR,
            "How far its mean over the last hour may be off, from how windows of 5 minutes that do not overlap differ \
             (Student's t, 95%); there after 6 of them.",
            &[],
            format!(
                "{STUDENT_T} * stddev_over_time({CHANGE_LN}{windows}) / sqrt(count_over_time({CHANGE_LN}{windows}) - 1)\n\
                 and count_over_time({CHANGE_LN}{windows}) >= {WINDOWS}"
            ),
        ),
    ];
    for (name, sign) in [(CHANGE_LOW, "-"), (CHANGE_HIGH, "+")] {
        rules.push(record(
            name,
            "An end of the interval in which the change of the last hour lies.",
            &[],
            format!("exp(avg_over_time({CHANGE_LN}{windows}) {sign} {ERROR})\nand {CHANGE}"),
        ));
    }
    let (more, less) = (1.0 + MARGIN, 1.0 - MARGIN);
    let verdicts = [
        (WORSE, "yes", format!("{CHANGE_LOW} >= bool {more}")),
        (WORSE, "no", format!("{CHANGE_HIGH} < bool {more}")),
        (IMPROVED, "yes", format!("{CHANGE_HIGH} <= bool {less}")),
        (IMPROVED, "no", format!("{CHANGE_LOW} > bool {less}")),
    ];
    for (name, answer, decided) in verdicts {
        // No change is less than 0: until there is an interval, the answer is not yet it.
        let expr = format!("({decided})\nor ({CHANGE} < bool 0)");
        rules.push(record(name, about(name, answer), &[("answer", answer)], expr));
    }
    let each = |name: &str, answer: &str| named(name).with("answer", answer).without("signal", "all").to_string();
    let overall = [
        (WORSE, "yes", format!("max {PAIR} ({})", each(WORSE, "yes"))),
        (WORSE, "no", format!("min {PAIR} ({})", each(WORSE, "no"))),
        (IMPROVED, "yes", format!("max {PAIR} ({})\n* min {PAIR} ({})", each(IMPROVED, "yes"), each(WORSE, "no"))),
        (
            IMPROVED,
            "no",
            format!(
                "clamp_max(\n  min {PAIR} ({})\n  + max {PAIR} ({}),\n  1\n)",
                each(IMPROVED, "no"),
                each(WORSE, "yes")
            ),
        ),
    ];
    for (name, answer, expr) in overall {
        rules.push(record(name, about_all(name, answer), &[("answer", answer), ("signal", "all")], expr));
    }
    for name in [WORSE, IMPROVED] {
        let [yes, no] = ["yes", "no"].map(|answer| named(name).with("answer", answer));
        let expr = format!("1 - {yes} - ignoring (answer) {no}");
        rules.push(record(name, "1 while neither yes nor no.", &[("answer", "undecided")], expr));
    }
    Group {
        name: "heapgate-rollout",
        about: "Old and new version of a service, while both run, and the verdict on the new one: worse by 15% or more, and \
                improved by 15% or more, each yes, no or undecided, by what is known of the last hour.",
        rules,
    }
}

fn record(name: &'static str, about: &'static str, labels: &[(&'static str, &'static str)], expr: String) -> Rule {
    Rule::Record(Record { name, about, labels: labels.to_vec(), expr })
}

fn about(name: &str, answer: &str) -> &'static str {
    match (name, answer) {
        (WORSE, "yes") => "1 if all of the interval is at or beyond 15% more.",
        (WORSE, _) => "1 if all of it is below that.",
        (_, "yes") => "1 if all of the interval is at or beyond 15% less.",
        (_, _) => "1 if all of it is above that.",
    }
}

fn about_all(name: &str, answer: &str) -> &'static str {
    match (name, answer) {
        (WORSE, "yes") => "Over all signals: one is worse.",
        (WORSE, _) => "None is.",
        (_, "yes") => "Over all signals: one has improved, and none is worse.",
        (_, _) => "None has improved, or one is worse.",
    }
}
