//! `heapgate top --once`: the list as plain text, or as JSON.

use serde::Serialize;

use super::columns::{Column, fitting};
use super::number::fit;
use super::state::{Process, State};

/// The list in `width` columns.
pub fn table(state: &State, width: usize) -> String {
    let columns = fitting(width);
    let line = |cell: &dyn Fn(Column) -> String| {
        let cells = columns.iter().map(|&(column, width)| fit(&cell(column), width, column.is_number()));
        format!("{}\n", cells.collect::<Vec<_>>().join(" ").trim_end())
    };
    let rows = state.rows();
    if rows.is_empty() {
        return format!("no published process in {}\n", state.folder);
    }
    let mut out = line(&|column| column.title().to_owned());
    for process in rows {
        out.push_str(&line(&|column| column.cell(process)));
    }
    out
}

#[derive(Serialize)]
struct List<'a> {
    /// Over which the rates are, s.
    interval_s: f64,
    processes: Vec<Row<'a>>,
    unreadable: &'a [String],
}

#[derive(Serialize)]
struct Row<'a> {
    service: &'a str,
    pid: u32,
    version: &'a str,
    allocator: &'a str,
    level: &'static str,
    alive: bool,
    threads: u64,
    /// Absent where the level was off for a time: frees went unseen.
    live_objects: Option<i64>,
    live_bytes: Option<i64>,
    rss_bytes: Option<u64>,
    allocations: u64,
    allocations_per_s: Option<f64>,
    stall_p99_ns: Option<f64>,
    stall_max_ns: Option<f64>,
}

impl<'a> Row<'a> {
    fn of(process: &'a Process) -> Self {
        let (reading, rates) = (&process.reading, process.rates);
        Self {
            service: &reading.service,
            pid: reading.id.pid,
            version: &reading.version,
            allocator: &reading.allocator,
            level: reading.level.name(),
            alive: !process.is_dead(),
            threads: reading.threads,
            live_objects: (!reading.was_off).then_some(reading.live_objects),
            live_bytes: (!reading.was_off).then_some(reading.live_bytes),
            rss_bytes: reading.rss_bytes,
            allocations: reading.allocations,
            allocations_per_s: rates.map(|rates| rates.allocations_per_s),
            stall_p99_ns: rates.and_then(|rates| rates.stall_p99_ns),
            stall_max_ns: rates.and_then(|rates| rates.stall_max_ns),
        }
    }
}

/// The list as JSON.
///
/// # Errors
/// None is known: all parts have a JSON form.
pub fn json(state: &State) -> Result<String, serde_json::Error> {
    let processes = state.rows().into_iter().map(Row::of).collect();
    let list = List { interval_s: state.interval.as_secs_f64(), processes, unreadable: &state.problems };
    serde_json::to_string_pretty(&list)
}

#[cfg(test)]
mod tests {
    use super::super::testing::busy_state;
    use super::*;

    #[test]
    fn the_list_is_a_table_of_80_columns() {
        let table = table(&busy_state(), 80);
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
        insta::assert_snapshot!(table);
    }

    #[test]
    fn json_has_what_the_table_has_in_full() {
        let json: serde_json::Value = serde_json::from_str(&json(&busy_state()).unwrap()).unwrap();
        let tokenizer = &json["processes"][0];
        assert_eq!((&tokenizer["service"], &tokenizer["pid"]), (&"tokenizer".into(), &4_194_303.into()));
        assert_eq!(tokenizer["live_bytes"], 51 << 20);
        assert_eq!(tokenizer["allocations_per_s"], 309_000.0);
        assert_eq!(json["processes"][2]["alive"], false);
        assert_eq!(json["processes"][2]["stall_max_ns"], serde_json::Value::Null);
    }
}
