//! The dashboards. Each panel's description says what is shown, and what to do when it looks bad.

mod ci;
mod rollout;
mod service;

use heapgate_prometheus::catalogue::MetricId;

use crate::board::{Board, Variable};
use crate::selector::{Selector, live};

/// All of them.
pub(crate) fn all() -> [Board; 3] {
    [service::board(), rollout::board(), ci::board()]
}

/// What Prometheus scrapes processes by. One at a time: a process that is scraped itself and by an agent too would be counted twice.
fn job_variable() -> Variable {
    Variable { name: "job", label: "Job", of: "job", series: live(MetricId::Up).to_string(), many: false }
}

/// The window of rates: Grafana takes one that holds four scrapes.
const WINDOW: &str = "$__rate_interval";

/// Series of the chosen job.
fn of_job(series: Selector) -> Selector {
    series.with("job", "$job")
}
