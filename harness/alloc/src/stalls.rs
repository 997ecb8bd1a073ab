//! One thread's time in the allocator, stretch by stretch: for figures that a measured program makes of it.

use std::marker::PhantomData;
use std::time::Duration;

use heapgate_segment::clock::Anchor;
use heapgate_segment::layout::{Level, SAMPLES_STACKS, Slot};

use crate::attach::{clock, level, state};
use crate::thread;

/// The time that the calling thread spends in allocator calls that nothing interrupts. It neither allocates nor costs
/// the calls anything: it sums the histograms that are kept anyway.
///
/// ```
/// // Where every call is timed:
/// if let Some(mut stalls) = heapgate_alloc::ThreadStalls::begin() {
///     drop(vec![0u8; 1000]);
///     println!("{:?}", stalls.lap());
/// }
/// ```
#[derive(Debug)]
pub struct ThreadStalls {
    slot: &'static Slot,
    seconds_per_tick: f64,
    calls: u64,
    ticks: u64,
    /// Bound to its thread, whose slot it reads.
    not_send: PhantomData<*const ()>,
}

impl ThreadStalls {
    /// Starts the first stretch. `None` where not every call is timed (the level is another than `exact`), and in a
    /// thread that has no counters of its own: it has not called the allocator yet, or too many others have.
    #[must_use]
    pub fn begin() -> Option<Self> {
        let state = state().filter(|_| level() & !SAMPLES_STACKS == Level::Exact as u64)?;
        let slot = thread::current()?;
        let rate = || state.writer.attached_at().ticks_per_second(Anchor::now(clock()));
        // A process that has only just begun has to wait for the rate.
        let ticks_per_second = rate().or_else(|| {
            std::thread::sleep(Anchor::RATE_INTERVAL);
            rate()
        })?;
        let (calls, ticks) = (calls(slot), slot.clean_ticks());
        Some(Self { slot, seconds_per_tick: 1.0 / ticks_per_second, calls, ticks, not_send: PhantomData })
    }

    /// The time since this was last called, or since the beginning. Right to 3 %, which is half the width of a bucket.
    /// After a stretch without calls it costs next to nothing, else some microseconds.
    pub fn lap(&mut self) -> Duration {
        let calls = calls(self.slot);
        if calls == self.calls {
            return Duration::ZERO;
        }
        let ticks = self.slot.clean_ticks();
        let lap = ticks.wrapping_sub(self.ticks);
        (self.calls, self.ticks) = (calls, ticks);
        Duration::from_secs_f64(lap as f64 * self.seconds_per_tick)
    }
}

/// Calls that succeeded, of all kinds.
fn calls(slot: &Slot) -> u64 {
    let tally = slot.tally();
    tally.objects_allocated.wrapping_add(tally.objects_freed).wrapping_add(tally.realloc_calls)
}
