//! Prometheus's text format, version 0.0.4: as much of it as gauges need.
//!
//! The format: prometheus/docs, `content/docs/instrumenting/exposition_formats.md`.

use std::fmt::Write;

/// Names and values of labels, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Labels(Vec<(&'static str, String)>);

impl Labels {
    /// Adds a label. An empty value is the same to Prometheus as none, and left out.
    pub(super) fn push(&mut self, name: &'static str, value: &str) {
        if !value.is_empty() {
            self.0.push((name, value.to_owned()));
        }
    }

    pub(super) fn with(&self, name: &'static str, value: &str) -> Self {
        let mut labels = self.clone();
        labels.push(name, value);
        labels
    }
}

/// Gauges of one name.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    help: String,
    samples: Vec<(Labels, f64)>,
}

impl Family {
    pub(super) fn new(name: &'static str, help: impl Into<String>) -> Self {
        Self { name, help: help.into(), samples: Vec::new() }
    }

    /// Adds a sample; what is no number is no sample.
    pub(super) fn push(&mut self, labels: Labels, value: f64) {
        if value.is_finite() {
            self.samples.push((labels, value));
        }
    }
}

/// All of `families` that have samples.
pub(super) fn text(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let name = family.name;
        let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in &family.samples {
            let labels: Vec<String> =
                labels.0.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let _ = match labels.is_empty() {
                true => writeln!(out, "{name} {value}"),
                false => writeln!(out, "{name}{{{}}} {value}", labels.join(",")),
            };
        }
    }
    out
}

/// The value of a label, in which the format escapes three characters. Others that end lines are ordinary to it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_end_a_value_or_a_line_is_escaped() {
        let mut family = Family::new("heapgate_x", "a\\b\nc");
        let mut labels = Labels::default();
        labels.push("path", "C:\\\"q\"\nnext");
        labels.push("empty", "");
        family.push(labels, 0.1 + 0.2);
        assert_eq!(
            text(&[family]),
            "# HELP heapgate_x a\\\\b\\nc\n# TYPE heapgate_x gauge\n\
             heapgate_x{path=\"C:\\\\\\\"q\\\"\\nnext\"} 0.30000000000000004\n"
        );
    }

    #[test]
    fn a_family_without_samples_is_not_there() {
        let mut family = Family::new("heapgate_x", "x");
        family.push(Labels::default(), f64::NAN);
        assert_eq!(text(&[family]), "");
        let mut family = Family::new("heapgate_x", "x");
        family.push(Labels::default(), 3e21);
        assert!(text(&[family]).ends_with("\nheapgate_x 3000000000000000000000\n"));
    }
}
