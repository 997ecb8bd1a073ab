//! A row for Apache Otava (once Hunter), which looks for change points in a CSV file with a row for each run: the time,
//! the commit, and a column for each cell and metric, with the median. Header and row are one line each, so a history
//! grows by `tail -n +2 run.csv >>history.csv`, as long as the same matrix is run (the header then is the same).
//!
//! The format: apache/otava, `otava/importer.py` (`CsvImporter`). Its test configuration names the columns, with
//! `direction: -1` where less is better.

use super::{human, series};
use crate::report::Report;

/// `report` as a header and a row.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut header = vec!["time".to_owned(), "commit".to_owned(), "machine".to_owned()];
    let mut row = vec![
        // With its zone: without one it is read as local time.
        format!("{}Z", human::date_time(report.created_unix_s)),
        report.fingerprint.build.commit.clone(),
        report.fingerprint.machine.class(),
    ];
    for series in series::all(report) {
        header.push(format!("{} {}", series.name, series.metric));
        row.push(series.summary().0.to_string());
    }
    let line = |fields: Vec<String>| fields.iter().map(|f| quoted(f)).collect::<Vec<_>>().join(",") + "\n";
    line(header) + &line(row)
}

/// A field, in quotes where it needs them (RFC 4180).
fn quoted(field: &str) -> String {
    let field = field.replace(['\r', '\n'], " ");
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing;

    #[test]
    fn an_allocator_with_a_comma_stays_one_field() {
        let mut report = testing::report(1, 1);
        report.trials[0].cell.allocator = "jemalloc:a=1,b=\"2\"".into();
        let text = render(&report);
        assert!(text.contains(",\"tokenize/hf-wordpiece/alloc=jemalloc:a=1,b=\"\"2\"\"/batch=32 peak_rss_bytes\","));
        assert_eq!(text.lines().count(), 2);
    }
}
