//! Steering a process through its segment, from outside: the level, and letting it go on after a stop.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use core::time::Duration;

use crate::layout::{self, Header, LayoutError, Level};

/// The header for control from outside: its level, and releasing a process that holds still.
#[derive(Debug, Clone, Copy)]
pub struct Control<'a>(&'a Header);

impl<'a> Control<'a> {
    /// Takes words that [`crate::reader::Reader::new`] accepts.
    ///
    /// # Errors
    /// Says why they are not a segment.
    ///
    /// # Panics
    /// If the words are not at a multiple of 128 bytes, as a mapping's are.
    pub fn new(words: &'a [AtomicU64]) -> Result<Self, LayoutError> {
        layout::check(words)?;
        // SAFETY: `check` found at least a header's bytes; `words` is aligned to 8 and the header's wider alignment is
        // asserted; all fields are atomics, so any bits are valid, and the borrow keeps the memory alive.
        let header = words.as_ptr().cast::<Header>();
        assert!(header.is_aligned(), "a segment is mapped at a page boundary");
        // SAFETY: as above.
        Ok(Self(unsafe { &*header }))
    }

    /// Changes how much is recorded.
    pub fn set_level(self, level: Level) {
        self.0.set_level(level);
    }

    /// Asks the process to hold still at its start and at each phase's end. To be set before it starts.
    pub fn supervise(self) {
        self.0.supervised.store(1, Release);
    }

    /// How many times the process has stopped to wait. While it equals [`Self::released`], the process is running.
    #[must_use]
    pub fn held(self) -> u32 {
        self.0.held.load(Acquire)
    }

    /// How many times it was released.
    #[must_use]
    pub fn released(self) -> u32 {
        self.0.released.load(Relaxed)
    }

    /// Lets the process go on after its stop number `turn`.
    pub fn release(self, turn: u32) {
        self.0.released.store(turn, Release);
        crate::map::wake(&self.0.released);
    }

    /// Waits until the process stops once more than `held` times, at most for `timeout`.
    pub fn wait_held(self, held: u32, timeout: Duration) {
        crate::map::wait(&self.0.held, held, Some(timeout));
    }
}

impl Header {
    pub(crate) fn set_level(&self, level: Level) {
        // Off until now counts too: what was allocated meanwhile is not known, but its end will be counted.
        let before = Level::from_word(self.level.load(Relaxed));
        if (level == Level::Off || before == Level::Off) && self.pid.load(Relaxed) != 0 {
            self.was_off.store(1, Relaxed);
        }
        // The process itself may switch the sampling of stacks at this moment.
        let with = |word: u64| Some((word & layout::SAMPLES_STACKS) | level as u64);
        let _ = self.level.fetch_update(Relaxed, Relaxed, with);
    }
}
