//! The labels that name a process, written out once for its many series.

use prometheus::proto::LabelPair;

/// Names and values that all series of a process have. Values that are empty are left out: to Prometheus that is the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    pairs: Vec<(String, String)>,
    /// As the text format has them, without braces.
    text: String,
}

impl Labels {
    /// Of a process that said so much of itself.
    #[must_use]
    pub fn of_process(service: &str, pid: Option<u32>, allocator: &str, version: &str) -> Self {
        let pid = pid.map_or(String::new(), |pid| pid.to_string());
        let mut labels = Self::default();
        for ((name, _), value) in crate::catalogue::PROCESS_LABELS.into_iter().zip([service, &pid, allocator, version])
        {
            labels.push(name, value);
        }
        labels
    }

    /// Adds a label. Its name must be one that Prometheus takes (`[a-z_]+`, as all of ours are).
    pub fn push(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        push_text(&mut self.text, name, value);
        self.pairs.push((name.to_owned(), value.to_owned()));
    }

    /// Names and values.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// As the text format has them, without braces.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// With those of one series.
    pub(crate) fn protobuf<'a>(&self, series: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<LabelPair> {
        let pair = |(name, value): (&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.to_owned());
            pair.set_value(value.to_owned());
            pair
        };
        self.pairs().map(pair).chain(series.map(pair)).collect()
    }
}

/// Adds `name="value"` to a list of labels, escaped as the text format wants it.
pub(crate) fn push_text(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(name);
    text.push_str("=\"");
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_empty_ones_left_out() {
        let labels = Labels::of_process("a\"b\\c\nd", Some(7), "", "1.0");
        assert_eq!(labels.text(), r#"service="a\"b\\c\nd",pid="7",version="1.0""#);
        assert_eq!(labels.pairs().next(), Some(("service", "a\"b\\c\nd")));
    }
}
