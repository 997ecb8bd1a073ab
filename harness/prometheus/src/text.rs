//! Figures in Prometheus's text format (0.0.4), written as they come: the exposition of a thousand processes is longer than
//! an agent's memory is meant to be.

use std::io::{self, Write};

use crate::catalogue::{ALL, GROUP_LABEL, Kind, Metric, MetricId, Source};
use crate::figures::Figures;
use crate::labels::{Labels, push_text};
use crate::stalls::{BOUNDS_S, Histogram};

/// The content type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// So much is written at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The longest that one line of a series gets, but for its labels: name, bound, number.
const LINE_BYTES: usize = 512;

/// Whole numbers up to this are exact in an `f64`, and are written as such.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Writes the metrics of any number of processes, family by family.
///
/// # Errors
/// What `out` says.
pub fn write(processes: &[(&Labels, &Figures)], out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { out, text: Vec::with_capacity(CHUNK_BYTES + LINE_BYTES) };
    for &id in ALL {
        if id.metric().kind == Kind::Histogram {
            page.histograms(id, processes)?;
        } else {
            page.values(id, processes)?;
        }
    }
    page.flush()
}

/// Writes one family of an exporter's own: each series' labels, and its value.
///
/// # Errors
/// What `out` says.
pub fn write_family(id: MetricId, series: &[(Labels, f64)], out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page { out, text: Vec::new() };
    page.head(id.metric());
    for (labels, value) in series {
        page.line(id.metric().name, labels.text(), "", *value)?;
    }
    page.flush()
}

struct Page<'a> {
    out: &'a mut dyn Write,
    text: Vec<u8>,
}

impl Page<'_> {
    fn head(&mut self, metric: &Metric) {
        let Metric { name, kind, help, .. } = metric;
        for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind.name(), "\n"] {
            self.text.extend_from_slice(part.as_bytes());
        }
    }

    fn values(&mut self, id: MetricId, processes: &[(&Labels, &Figures)]) -> io::Result<()> {
        let metric = id.metric();
        let labels: Vec<String> = (0..metric.series()).map(|series| labels_text(metric, series)).collect();
        let mut begun = false;
        for (process, figures) in processes {
            for (value, labels) in figures.series(id).zip(&labels) {
                let Some(value) = value else { continue };
                if !begun {
                    self.head(metric);
                    begun = true;
                }
                self.line(metric.name, process.text(), labels, value)?;
            }
            for group in figures.groups() {
                let Some(value) = group.value(id) else { continue };
                if !begun {
                    self.head(metric);
                    begun = true;
                }
                self.line(metric.name, process.text(), &group_text(&group.name), value)?;
            }
        }
        Ok(())
    }

    fn histograms(&mut self, id: MetricId, processes: &[(&Labels, &Figures)]) -> io::Result<()> {
        let metric = id.metric();
        let series: Vec<HistogramText> =
            (0..metric.series()).map(|series| HistogramText::new(metric, series)).collect();
        let mut begun = false;
        if metric.source == Source::Group {
            return self.group_histograms(id, processes);
        }
        for (process, figures) in processes {
            let Some(stalls) = figures.stalls() else { continue };
            if !begun {
                self.head(metric);
                begun = true;
            }
            for (histogram, texts) in stalls.histograms.iter().zip(&series) {
                self.histogram(process, histogram, texts)?;
            }
        }
        Ok(())
    }

    fn group_histograms(&mut self, id: MetricId, processes: &[(&Labels, &Figures)]) -> io::Result<()> {
        let metric = id.metric();
        let mut begun = false;
        for (process, figures) in processes {
            for group in figures.groups() {
                let Some(histogram) = group.histogram(id) else { continue };
                if !begun {
                    self.head(metric);
                    begun = true;
                }
                self.histogram(process, histogram, &HistogramText::with_labels(metric, group_text(&group.name)))?;
            }
        }
        Ok(())
    }

    fn histogram(&mut self, process: &Labels, of: &Histogram, texts: &HistogramText) -> io::Result<()> {
        for (labels, count) in texts.buckets.iter().zip(of.cumulative.iter().chain([&of.count])) {
            self.line(&texts.bucket, process.text(), labels, *count as f64)?;
        }
        self.line(&texts.sum, process.text(), &texts.labels, of.sum_s)?;
        self.line(&texts.count, process.text(), &texts.labels, of.count as f64)
    }

    fn line(&mut self, name: &str, process: &str, series: &str, value: f64) -> io::Result<()> {
        let text = &mut self.text;
        text.extend_from_slice(name.as_bytes());
        if !(process.is_empty() && series.is_empty()) {
            text.push(b'{');
            text.extend_from_slice(process.as_bytes());
            if !(process.is_empty() || series.is_empty()) {
                text.push(b',');
            }
            text.extend_from_slice(series.as_bytes());
            text.push(b'}');
        }
        text.push(b' ');
        push_number(text, value);
        text.push(b'\n');
        if text.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.text)?;
        self.text.clear();
        Ok(())
    }
}

/// What the lines of one histogram have beside the process's labels and the numbers.
struct HistogramText {
    bucket: String,
    sum: String,
    count: String,
    labels: String,
    /// With the bound of each bucket, the last without one.
    buckets: Vec<String>,
}

impl HistogramText {
    fn new(metric: &Metric, series: usize) -> Self {
        Self::with_labels(metric, labels_text(metric, series))
    }

    fn with_labels(metric: &Metric, labels: String) -> Self {
        let bounds = BOUNDS_S.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let buckets = bounds.map(|bound| {
            let mut labels = labels.clone();
            push_text(&mut labels, "le", &bound);
            labels
        });
        let name = metric.name;
        Self {
            bucket: format!("{name}_bucket"),
            sum: format!("{name}_sum"),
            count: format!("{name}_count"),
            buckets: buckets.collect(),
            labels,
        }
    }
}

fn group_text(name: &str) -> String {
    let mut text = String::new();
    push_text(&mut text, GROUP_LABEL, name);
    text
}

fn labels_text(metric: &Metric, series: usize) -> String {
    let mut text = String::new();
    metric.labels_of(series).for_each(|(name, value)| push_text(&mut text, name, value));
    text
}

/// As the `prometheus` crate writes it. Most numbers are whole, for which this is quicker.
fn push_number(text: &mut Vec<u8>, value: f64) {
    /// Digits of the largest `u64`.
    const DIGITS: usize = 20;
    if value.fract() != 0.0 || value.abs() >= EXACT || (value == 0.0 && value.is_sign_negative()) {
        text.extend_from_slice(value.to_string().as_bytes());
        return;
    }
    if value < 0.0 {
        text.push(b'-');
    }
    let mut rest = value.abs() as u64;
    let mut digits = [0; DIGITS];
    let mut first = DIGITS;
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[first..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::families;
    use crate::process::ProcessFigures;
    use crate::stalls::Scale;
    use crate::testing::Segment;
    use heapgate_segment::layout::{Level, Operation};
    use prometheus::{Encoder, TextEncoder};

    #[test]
    fn it_is_what_the_prometheus_crate_writes() {
        let segment = Segment::attached(Level::Exact);
        let slot = segment.writer.claim(1).unwrap();
        for i in 0..1000u64 {
            let _ = slot.count_alloc(i);
            slot.record::<false>(Operation::Realloc, i * i * i, i % 100 == 0, 3);
        }
        let process = ProcessFigures { resident_bytes: 12345, cpu_s: 1.25, ..ProcessFigures::default() };
        let figures = Figures::read(segment.reader(), Scale::new(1e9).as_ref(), Some(&process));
        let [a, b] = [("tokenizer\"\\\n", 1), ("other", 2)]
            .map(|(name, pid)| Labels::of_process(name, Some(pid), "jemalloc", ""));
        let processes = [(&a, &figures), (&b, &figures)];
        let mut own = Vec::new();
        write(&processes, &mut own).unwrap();
        let mut theirs = Vec::new();
        TextEncoder::new().encode(&families(&processes), &mut theirs).unwrap();
        let (own, theirs) = (String::from_utf8(own).unwrap(), String::from_utf8(theirs).unwrap());
        assert!(own.len() > CHUNK_BYTES / 2 && own.lines().count() > 500);
        for (line, (own, theirs)) in own.lines().zip(theirs.lines()).enumerate() {
            assert_eq!(own, theirs, "line {line}");
        }
        assert_eq!(own, theirs);
    }

    #[test]
    fn numbers_are_written_as_rust_writes_them() {
        for value in [0.0, -0.0, 1.0, -17.0, 0.5, 1e-7, 1e15, EXACT - 1.0, EXACT, 1e300, u64::MAX as f64, -1e18] {
            let mut text = Vec::new();
            push_number(&mut text, value);
            assert_eq!(String::from_utf8(text).unwrap(), value.to_string());
        }
    }

    #[test]
    fn a_family_of_the_agents_own_has_its_head() {
        let mut text = Vec::new();
        write_family(MetricId::AgentProcesses, &[(Labels::default(), 3.0)], &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with("# HELP heapgate_agent_processes ") && text.ends_with("\nheapgate_agent_processes 3\n"),
            "{text}"
        );
    }
}
