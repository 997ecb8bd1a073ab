//! Grafana dashboards, recording and alerting rules: written from short descriptions, with the names of metrics taken from
//! their catalogues, so that a metric which is renamed there is renamed here too, and one that is gone does not compile.
//!
//! - `selector`: series in PromQL; - `panel` and `board`: Grafana's JSON; - `boards/`: the three dashboards; - `rules`: rule
//!   files for Prometheus, and what they hold: `recording`, `rollout`, `alerts`.
//!
//! [`files`] is everything that is generated. A test compares it with what is in the tree; `HEAPGATE_BLESS=1 cargo test -p
//! heapgate-dashboards` writes it anew.

mod alerts;
mod board;
mod boards;
mod panel;
mod recording;
mod rollout;
mod rules;
mod selector;
#[cfg(test)]
mod tests;

/// Every generated file: its path in this folder, and its text.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let boards = boards::all().into_iter().map(|board| (format!("grafana/{}.json", board.uid), board.text()));
    let rules = [recording::group(), rollout::group(), alerts::group()]
        .map(|group| (format!("prometheus/rules/{}.yml", group.name), group.text()));
    boards.chain(rules).collect()
}
