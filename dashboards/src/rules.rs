//! Rule files, as Prometheus reads them.

use std::fmt::Write;

/// A group of rules, in a file of its own: evaluated in order, so that one may use what those before it recorded.
#[derive(Debug)]
pub(crate) struct Group {
    pub name: &'static str,
    /// What it is about: a comment at the top of the file.
    pub about: &'static str,
    pub rules: Vec<Rule>,
}

#[derive(Debug)]
pub(crate) enum Rule {
    Record(Record),
    Alert(Alert),
}

/// A recording rule.
#[derive(Debug)]
pub(crate) struct Record {
    pub name: &'static str,
    /// What the values are: a comment above the rule.
    pub about: &'static str,
    /// Labels that its series get beside those of the expression.
    pub labels: Vec<(&'static str, &'static str)>,
    pub expr: String,
}

/// An alerting rule.
#[derive(Debug)]
pub(crate) struct Alert {
    pub name: &'static str,
    pub expr: String,
    /// How long it must hold, as Prometheus writes durations.
    pub hold: &'static str,
    pub severity: Severity,
    /// One line, with the labels and the value in it.
    pub summary: &'static str,
    /// What it means.
    pub description: String,
}

/// Who is told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Severity {
    /// Somebody, now.
    Critical,
    /// Somebody, today.
    Warning,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// Where the runbook is: relative, since everybody keeps it at another address.
const RUNBOOK: &str = "dashboards/RUNBOOK.md";

impl Group {
    /// The file.
    pub(crate) fn text(&self) -> String {
        let mut out =
            String::from("# Generated: `HEAPGATE_BLESS=1 cargo test -p heapgate-dashboards` writes it again.\n");
        comment(&mut out, "", self.about);
        let _ = write!(out, "groups:\n  - name: {}\n    rules:\n", self.name);
        for rule in &self.rules {
            match rule {
                Rule::Record(record) => record.write(&mut out),
                Rule::Alert(alert) => alert.write(&mut out),
            }
        }
        out
    }
}

impl Record {
    fn write(&self, out: &mut String) {
        comment(out, "      ", self.about);
        let _ = writeln!(out, "      - record: {}", self.name);
        if !self.labels.is_empty() {
            out.push_str("        labels:\n");
            for (name, value) in &self.labels {
                let _ = writeln!(out, "          {name}: {}", quoted(value));
            }
        }
        block(out, "expr", &self.expr);
    }
}

impl Alert {
    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "      - alert: {}", self.name);
        block(out, "expr", &self.expr);
        let _ = writeln!(out, "        for: {}", self.hold);
        let _ = writeln!(out, "        labels:\n          severity: {}", self.severity.word());
        let _ = writeln!(out, "        annotations:\n          summary: {}", quoted(self.summary));
        let _ = writeln!(out, "          description: {}", quoted(&self.description));
        let _ = writeln!(out, "          runbook: {RUNBOOK}#{}", self.name.to_lowercase());
    }
}

/// A text of several lines, as it stands.
fn block(out: &mut String, key: &str, text: &str) {
    let _ = writeln!(out, "        {key}: |-");
    for line in text.lines() {
        let _ = writeln!(out, "          {line}");
    }
}

/// In quotes where only the quote itself is special.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Comment lines of at most 120 columns.
fn comment(out: &mut String, indent: &str, text: &str) {
    const COLUMNS: usize = 120;
    let mut line = format!("{indent}#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > COLUMNS {
            let _ = writeln!(out, "{line}");
            line = format!("{indent}#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_what_was_described() {
        let group = Group {
            name: "a",
            about: "Of a kind.",
            rules: vec![
                Rule::Record(Record { name: "b:c", about: "It is.", labels: vec![("d", "e")], expr: "f\n+ g".into() }),
                Rule::Alert(Alert {
                    name: "High",
                    expr: "b:c > 1".into(),
                    hold: "1m",
                    severity: Severity::Warning,
                    summary: "it's {{ $value }}",
                    description: "too much".into(),
                }),
            ],
        };
        assert_eq!(
            group.text().split_once('\n').unwrap().1,
            "# Of a kind.\ngroups:\n  - name: a\n    rules:\n      # It is.\n      - record: b:c\n        labels:\n          d: 'e'\n        \
             expr: |-\n          f\n          + g\n      - alert: High\n        expr: |-\n          b:c > 1\n        for: 1m\n        \
             labels:\n          severity: warning\n        annotations:\n          summary: 'it''s {{ $value }}'\n          \
             description: 'too much'\n          runbook: dashboards/RUNBOOK.md#high\n"
        );
    }
}
