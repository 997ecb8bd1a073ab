//! Where the service's figures go: a segment of its own.

use std::os::fd::AsFd;
use std::time::Duration;

use heapgate_alloc::segment::layout::{self, DEFAULT_SLOTS, Level, PhaseKind};
use heapgate_alloc::segment::map::{Mapping, create_file};

/// What the service is called.
pub(crate) const SERVICE: &str = "tokenizer";

/// Names the level, if another than `sampled` is wanted.
const LEVEL_VARIABLE: &str = "HEAPGATE_LEVEL";

/// One call in how many is timed at level `sampled`.
const SAMPLE_PERIOD: u64 = 64;

/// How often the figures that only this process knows are put into its segment.
const REFRESH: Duration = Duration::from_secs(1);

/// Counts from now on, unless a segment was in the environment. What fails here costs the figures, not the service.
pub(crate) fn begin() {
    if heapgate_alloc::session().is_none()
        && let Err(error) = attach()
    {
        eprintln!("tokenizer-service: {error}; running on unmeasured");
    }
}

fn attach() -> Result<(), Box<dyn std::error::Error>> {
    let level = std::env::var(LEVEL_VARIABLE).unwrap_or_default();
    let level = Level::ALL.into_iter().find(|known| known.name() == level).unwrap_or(Level::Sampled);
    let file = create_file(c"heapgate", layout::segment_bytes(DEFAULT_SLOTS))?;
    layout::format(Mapping::new(file.as_fd())?.words(), DEFAULT_SLOTS, level, SAMPLE_PERIOD);
    Ok(heapgate_alloc::attach(file.into())?)
}

/// Keeps jemalloc's figures in the segment fresh, for whoever reads it from outside.
pub(crate) async fn keep_fresh() {
    let Some(session) = heapgate_alloc::session() else { return };
    let phase = session.begin_phase(PhaseKind::Measure as u64);
    let mut ticks = tokio::time::interval(REFRESH);
    loop {
        ticks.tick().await;
        match heapgate_prometheus::jemalloc::gauges() {
            Ok(gauges) => gauges.into_iter().for_each(|(gauge, value)| phase.set_gauge(gauge, value)),
            Err(error) => return eprintln!("tokenizer-service: no statistics from jemalloc: {error}"),
        }
    }
}
