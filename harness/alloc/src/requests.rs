//! Requests that the program has finished, for a comparison of groups.

use std::time::Duration;

use crate::attach::{is_forked, state};

/// Says that this process has finished a request, and how long it took: where all of it is one group, as `HEAPGATE_GROUP`
/// makes it (docs/live-ab.md). Of a process that is none this does nothing; groups of its threads have
/// [`finished`](crate::groups::Running::finished) of their own.
pub fn request_finished(elapsed: Duration) {
    if state().is_some_and(|state| state.writer.group(1).is_whole_process()) {
        record(1, elapsed);
    }
}

/// Counts a request of group `number`.
pub(crate) fn record(number: usize, elapsed: Duration) {
    if let Some(state) = state().filter(|_| !is_forked()) {
        state.writer.requests(number).record(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
    }
}
