//! Watching a stretch of one thread's work from inside the process: for assertions in tests.

use std::fmt;
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::OnceLock;

use heapgate_segment::layout::{DEFAULT_SLOTS, Level, Slot};
use heapgate_segment::tally::{Live, Tally};

use crate::attach::{self, AttachError, level, session};
use crate::thread;

/// Counts what the calling thread does from [`begin`](Self::begin) to [`end`](Self::end). Other threads are not counted,
/// so tests that run in parallel don't disturb each other. Watches nest.
///
/// The first one in a process that has no segment attaches one of the process's own. From then on every thread of the
/// process counts, at level `count`; before, and in a process that watches nothing, there is no cost.
///
/// ```
/// use heapgate_alloc::{Telemetry, ThreadWatch};
/// use std::alloc::System;
///
/// #[global_allocator]
/// static ALLOCATOR: Telemetry<System> = Telemetry::new(System);
///
/// let watch = ThreadWatch::begin()?;
/// let text = String::from("one object");
/// let watched = watch.end();
/// assert_eq!((watched.allocations, watched.peak_live_bytes), (1, 10));
/// # drop(text);
/// # Ok::<(), heapgate_alloc::WatchError>(())
/// ```
#[derive(Debug)]
#[must_use = "what is not ended tells nothing"]
pub struct ThreadWatch {
    slot: &'static Slot,
    before: Tally,
    /// The highest point of the watches around this one.
    outer: Live,
    /// Allocations that watches had made in this thread when this one began.
    probes: u64,
    /// Bound to its thread, whose slot it reads.
    not_send: PhantomData<*const ()>,
}

/// What a thread did while it was watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// Calls of `alloc`, `alloc_zeroed` and `realloc` that succeeded.
    pub allocations: u64,
    /// Calls of `realloc` among them.
    pub reallocations: u64,
    /// Calls of `dealloc`.
    pub deallocations: u64,
    /// Bytes asked for; by `realloc`, the whole new size.
    pub allocated_bytes: u64,
    /// Most objects alive at one time, over those alive at the start.
    pub peak_live_objects: u64,
    /// Most bytes alive at one time, over those alive at the start.
    pub peak_live_bytes: u64,
    /// Objects alive at the end, over those at the start; negative if objects of before were freed.
    pub left_objects: i64,
    /// The same in bytes.
    pub left_bytes: i64,
}

/// Why a thread can't be watched. It is never taken for one that allocates nothing.
#[derive(Debug)]
pub enum WatchError {
    /// No segment could be made or attached.
    Attach(&'static AttachError),
    /// Calls of this thread don't pass through a [`crate::Telemetry`].
    NotInstalled,
    /// The level is `off`: somebody set it from outside, or this process is a forked child.
    Off,
    /// All slots belong to other threads.
    NoSlot,
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attach(error) => write!(f, "nothing can be counted: {error}"),
            Self::NotInstalled => f.write_str("nothing is counted: the global allocator is not heapgate's"),
            Self::Off => f.write_str("nothing is counted: the level is off, or this is a forked child"),
            Self::NoSlot => {
                f.write_str("this thread has no counters: all slots of the segment are taken, or the thread is ending")
            }
        }
    }
}

impl std::error::Error for WatchError {}

impl ThreadWatch {
    /// Starts to count what this thread does.
    ///
    /// # Errors
    /// If it can't be counted.
    pub fn begin() -> Result<Self, WatchError> {
        attach_own().map_err(WatchError::Attach)?;
        if level() == Level::Off as u64 {
            return Err(WatchError::Off);
        }
        // What the watches around this one have seen so far; a thread without a slot has none.
        let outer = thread::current().map_or_else(Live::default, thread::highest);
        thread::add_probes(if thread::current().is_some() { 2 } else { 0 });
        // The first counted call of a thread claims its slot; the second must show in it.
        probe();
        let slot = thread::current().ok_or(if thread::has_counted() {
            WatchError::NoSlot
        } else {
            WatchError::NotInstalled
        })?;
        let before = slot.tally();
        probe();
        if slot.tally().objects_allocated == before.objects_allocated {
            // They were not counted: the watches around this one must not take them off.
            thread::add_probes(2u64.wrapping_neg());
            return Err(WatchError::Off);
        }
        thread::flush(slot);
        let before = slot.tally();
        thread::set_highest(before.live());
        Ok(Self { slot, before, outer, probes: thread::probes(), not_send: PhantomData })
    }

    /// What this thread did since.
    #[must_use]
    pub fn end(self) -> Watched {
        let now = self.slot.tally();
        let (start, left, highest) = (self.before.live(), now.live(), thread::highest(self.slot));
        // Watches within this one are not what is watched: each object of one byte, freed at once.
        let probes = thread::probes().wrapping_sub(self.probes);
        let reallocations = now.realloc_calls.wrapping_sub(self.before.realloc_calls);
        let since = |now: u64, before: u64| now.wrapping_sub(before).wrapping_sub(probes);
        Watched {
            allocations: since(now.objects_allocated, self.before.objects_allocated).wrapping_add(reallocations),
            reallocations,
            deallocations: since(now.objects_freed, self.before.objects_freed),
            allocated_bytes: since(now.bytes_allocated, self.before.bytes_allocated),
            peak_live_objects: highest.objects.wrapping_sub(start.objects).max(0).unsigned_abs(),
            peak_live_bytes: highest.bytes.wrapping_sub(start.bytes).max(0).unsigned_abs(),
            left_objects: left.objects.wrapping_sub(start.objects),
            left_bytes: left.bytes.wrapping_sub(start.bytes),
        }
    }
}

/// Also where the watched code panics: the watches around this one go on as if it had ended.
impl Drop for ThreadWatch {
    fn drop(&mut self) {
        thread::set_highest(self.outer.max(thread::highest(self.slot)));
    }
}

/// One allocation of one byte that no optimisation removes.
fn probe() {
    drop(black_box(Box::new(0u8)));
}

/// Attaches a segment of this process's own, unless there is one. Once: what failed is remembered.
fn attach_own() -> Result<(), &'static AttachError> {
    static ATTACHED: OnceLock<Result<(), AttachError>> = OnceLock::new();
    // The look is inside, so that a thread that comes while another attaches waits until the level is there too.
    let attached = ATTACHED.get_or_init(|| {
        if attach::state().is_some() {
            return Ok(());
        }
        match attach::attach_private(DEFAULT_SLOTS, Level::Count, 1) {
            // The program attached one itself meanwhile.
            Err(AttachError::Taken) if session().is_some() => Ok(()),
            result => result,
        }
    });
    attached.as_ref().copied()
}
