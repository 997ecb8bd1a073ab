//! What figures depend on, compared: the class of a machine, and the differences between two builds or two machines.

use schemars::JsonSchema;
use serde::Serialize;

use crate::hash::fnv1a;
use crate::report::{Build, Fingerprint, Machine};

/// Words of a CPU's model that tell nothing.
const NOISE: [&str; 9] = ["intel", "amd", "cpu", "processor", "core", "r", "tm", "with", "virtual"];
/// Words of the model that the name of a class keeps.
const WORDS: usize = 3;

impl Machine {
    /// A name for machines whose noisy figures may be compared: readable, and different whenever one field differs. For
    /// instance `x86_64-xeon-2c-24g-6f3a91`.
    #[must_use]
    pub fn class(&self) -> String {
        let fields: Vec<String> = machine_fields(self).into_iter().map(|(_, value)| value).collect();
        let hash = fnv1a(fields.join("\n").into_bytes());
        // Folded, so that all 64 bits take part in the 24 that are shown.
        let short = (hash ^ (hash >> 24) ^ (hash >> 48)) & 0xff_ffff;
        format!("{}-{}-{}c-{}g-{short:06x}", slug(&self.arch), cpu_slug(&self.cpu), self.cpus, self.memory_gib)
    }
}

/// Lower case, and only what every file system takes.
fn slug(text: &str) -> String {
    let kept: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(24).collect();
    if kept.is_empty() { "unknown".to_owned() } else { kept.to_ascii_lowercase() }
}

/// The words of a CPU's model that tell it from others: `Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz` is
/// `xeon-platinum-8370c`.
fn cpu_slug(model: &str) -> String {
    let lower = model.to_ascii_lowercase();
    // The clock rate, and the numbers of family, model and stepping after the name, are for the hash.
    let name = lower.split('@').next().and_then(|name| name.split(" (").next()).unwrap_or_default();
    let words: Vec<&str> = name
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
        .map(|word| word.trim_matches('-'))
        .filter(|word| !word.is_empty() && !NOISE.contains(word) && !word.ends_with("-core"))
        .take(WORDS)
        .collect();
    if words.is_empty() { "cpu".to_owned() } else { words.join("-").chars().take(40).collect() }
}

/// One field of a fingerprint that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// The field.
    pub field: &'static str,
    /// Its value in the baseline.
    pub baseline: String,
    /// Its value now.
    pub now: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Some values name their field: `rustc 1.95.0`.
        let shown = |value: &str| match value.strip_prefix(self.field).map_or(value, str::trim_start) {
            "" => "none".to_owned(),
            value => value.to_owned(),
        };
        write!(f, "{} {} → {}", self.field, shown(&self.baseline), shown(&self.now))
    }
}

/// Fields of the builds that differ.
#[must_use]
pub fn build_differences(baseline: &Fingerprint, now: &Fingerprint) -> Vec<Difference> {
    differences(build_fields(&baseline.build), build_fields(&now.build))
}

/// Fields of the machines that differ.
#[must_use]
pub fn machine_differences(baseline: &Fingerprint, now: &Fingerprint) -> Vec<Difference> {
    differences(machine_fields(&baseline.machine), machine_fields(&now.machine))
}

pub(crate) type Field = (&'static str, String);

fn differences<const N: usize>(baseline: [Field; N], now: [Field; N]) -> Vec<Difference> {
    let pairs = baseline.into_iter().zip(now);
    pairs.filter(|(b, n)| b.1 != n.1).map(|((field, baseline), (_, now))| Difference { field, baseline, now }).collect()
}

// Both take their argument apart without `..`, so that a new field cannot be forgotten.

pub(crate) fn build_fields(build: &Build) -> [Field; 6] {
    let Build { heapgate, rustc, lock_hash, profile, target, commit } = build.clone();
    [
        ("heapgate", heapgate),
        ("rustc", rustc),
        ("lock_hash", lock_hash),
        ("profile", profile),
        ("target", target),
        ("commit", commit),
    ]
}

pub(crate) fn machine_fields(machine: &Machine) -> [Field; 8] {
    let Machine { arch, cpu, cpus, memory_gib, kernel, libc, page_bytes, thp } = machine.clone();
    [
        ("arch", arch),
        ("cpu", cpu),
        ("cpus", cpus.to_string()),
        ("memory_gib", memory_gib.to_string()),
        ("kernel", kernel),
        ("libc", libc),
        ("page_bytes", page_bytes.to_string()),
        ("thp", thp),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        crate::report::testing::fingerprint().machine
    }

    #[test]
    fn a_class_is_readable_and_never_changes() {
        // Stored baselines are found by this name.
        assert_eq!(machine().class(), "x86_64-xeon-2c-24g-4dbbec");
    }

    #[test]
    fn every_field_makes_another_class() {
        let changes: [fn(&mut Machine); 8] = [
            |m| m.arch.push('x'),
            |m| m.cpu.push('x'),
            |m| m.cpus += 1,
            |m| m.memory_gib += 1,
            |m| m.kernel.push('x'),
            |m| m.libc.push('x'),
            |m| m.page_bytes *= 2,
            |m| m.thp.push('x'),
        ];
        let mut classes: Vec<String> = changes
            .iter()
            .map(|change| {
                let mut other = machine();
                change(&mut other);
                other.class()
            })
            .collect();
        classes.push(machine().class());
        classes.sort();
        classes.dedup();
        assert_eq!(classes.len(), 9);
    }

    #[test]
    fn models_lose_their_noise() {
        for (model, expected) in [
            ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", "xeon-platinum-8370c"),
            ("AMD EPYC 7763 64-Core Processor", "epyc-7763"),
            ("Intel(R) Core(TM) i7-1185G7 @ 3.00GHz", "i7-1185g7"),
            ("AMD EPYC 7763 64-Core Processor (25/1/1)", "epyc-7763"),
            ("Neoverse-N1", "neoverse-n1"),
            ("", "cpu"),
            ("@@ //../..", "cpu"),
        ] {
            assert_eq!(cpu_slug(model), expected);
        }
    }

    #[test]
    fn a_class_is_always_one_plain_folder_name() {
        let hostile = Machine { arch: "../../etc".into(), cpu: "/\0..\n".into(), ..machine() };
        assert!(hostile.class().chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    }

    #[test]
    fn differences_name_the_field_and_both_values() {
        let now = Fingerprint { machine: machine(), ..Fingerprint::default() };
        let mut before = now.clone();
        before.machine.kernel = "5.15".into();
        before.build.rustc = "rustc 1.94".into();
        let found = machine_differences(&before, &now);
        assert_eq!(found, [Difference { field: "kernel", baseline: "5.15".into(), now: "6.1".into() }]);
        assert_eq!(build_differences(&before, &now)[0].to_string(), "rustc 1.94 → none");
        assert!(machine_differences(&now, &now).is_empty());
    }
}
