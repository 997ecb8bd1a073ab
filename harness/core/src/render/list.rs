//! What `heapgate list metrics` prints.

use std::fmt::Write;

use super::table::{Side, hanging, lines};
use super::{Options, human};
use crate::config::Config;
use crate::metric::{ALL, Better, Kind};

/// The catalogue of metrics with the limits that `config` gives in general.
#[must_use]
pub fn render(config: &Config, options: Options) -> String {
    let style = options.style;
    let mut rows = vec![["metric", "kind", "better", "limit"].map(str::to_owned).to_vec()];
    rows.extend(ALL.iter().map(|&id| {
        let metric = id.metric();
        let limits = human::limits(metric.unit, config.general_limits(id));
        vec![metric.name.to_owned(), kind(metric.kind).to_owned(), better(metric.better).to_owned(), limits]
    }));
    let mut table = lines(&[Side::Left; 4], &rows).into_iter();
    let mut out = String::new();
    if let Some(header) = table.next() {
        let _ = writeln!(out, "{}", style.dim(&header));
    }
    for (line, id) in table.zip(ALL) {
        let name = id.metric().name;
        let _ = writeln!(out, "{}", line.replacen(name, &style.bold(name), 1));
        for help in hanging("    ", id.metric().help, options.width).lines() {
            let _ = writeln!(out, "{}", style.dim(help));
        }
    }
    out
}

pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Exact => "exact",
        Kind::Noisy => "noisy",
        Kind::Distribution => "distribution",
    }
}

pub(super) fn better(better: Better) -> &'static str {
    match better {
        Better::Lower => "lower",
        Better::Higher => "higher",
    }
}
