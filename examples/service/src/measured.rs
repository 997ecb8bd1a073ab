//! Where the service's figures go: a segment in the runtime folder, where the agent of this machine finds it.

use std::time::Duration;

use heapgate_alloc::Publication;
use heapgate_alloc::control::Control;

/// How often the figures that only this process knows are put into its segment.
const REFRESH: Duration = Duration::from_secs(1);

/// Counts and is published from now on (`HEAPGATE_VERSION` says under which version), and keeps jemalloc's figures fresh for whoever reads from outside. What fails here
/// costs the figures, not the service.
pub(crate) fn begin() {
    let publication = Publication::new("tokenizer").allocator("jemalloc").profiling();
    if let Err(error) = publication.publish() {
        eprintln!("tokenizer-service: {error}; running on unmeasured");
    }
    // Settings while it runs, and a soft limit: where the operator asks for them by HEAPGATE_CONTROL=1 or HEAPGATE_SOFT_LIMIT.
    if let Some(control) = Control::from_environment()
        && let Err(error) = control.start()
    {
        eprintln!("tokenizer-service: {error}; its settings stay as they are");
    }
    let refreshed = heapgate_alloc::every(REFRESH, |session| {
        // Without jemalloc's statistics its figures are absent, all others are there.
        for (gauge, value) in heapgate_prometheus::jemalloc::gauges().into_iter().flatten() {
            session.set_gauge(gauge, value);
        }
    });
    if let Err(error) = refreshed {
        eprintln!("tokenizer-service: no thread for jemalloc's figures: {error}");
    }
}
