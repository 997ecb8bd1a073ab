//! What a process that can be steered says of its settings: what they are, how often each was changed, and what its soft limit
//! makes it do. In the header's page of the segment, behind the mailbox; a process without an agent leaves zeros.

use core::mem::size_of;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{Relaxed, Release},
};

use crate::layout::OWNERS_OFFSET;
use crate::setting::{MAX_SETTINGS, Setting};

/// Where it lies in the segment.
pub const STEERING_OFFSET: usize = 3072;

/// The words of it.
#[derive(Debug)]
#[repr(C)]
pub struct SharedSteering {
    /// Not 0: an agent thread takes requests.
    started: AtomicU64,
    changes: [AtomicU64; MAX_SETTINGS],
    values: [AtomicU64; MAX_SETTINGS],
    /// Bit N: the value of setting N is known.
    known: AtomicU64,
    refusals: AtomicU64,
    soft_limit_step: AtomicU64,
    soft_limit_steps: AtomicU64,
    soft_limit_purges: AtomicU64,
    soft_limit_asks: AtomicU64,
}

const WORDS: usize = size_of::<SharedSteering>() / 8;

// The ABI: see `layout`.
const _: () = assert!(STEERING_OFFSET + size_of::<SharedSteering>() <= OWNERS_OFFSET && WORDS == 39);

/// The process's end of it.
impl SharedSteering {
    /// Says that requests are taken.
    pub fn start(&self) {
        self.started.store(1, Release);
    }

    /// Records the value that a setting has.
    pub fn set_value(&self, setting: Setting, value: i64) {
        self.values[setting as usize].store(value.cast_unsigned(), Relaxed);
        self.known.fetch_or(1 << setting as u64, Release);
    }

    /// Records a change that was asked for and made.
    pub fn changed(&self, setting: Setting) {
        self.changes[setting as usize].fetch_add(1, Relaxed);
    }

    /// Records a request that was refused.
    pub fn refused(&self) {
        self.refusals.fetch_add(1, Relaxed);
    }

    /// Records the step of the soft limit that is in force, by its number.
    pub fn soft_limit_step(&self, step: u64) {
        self.soft_limit_step.store(step, Relaxed);
        self.soft_limit_steps.fetch_add(1, Relaxed);
    }

    /// Records that the soft limit made the process purge.
    pub fn soft_limit_purged(&self) {
        self.soft_limit_purges.fetch_add(1, Relaxed);
    }

    /// Records that it made it ask the program to give memory back.
    pub fn soft_limit_asked(&self) {
        self.soft_limit_asks.fetch_add(1, Relaxed);
    }
}

/// A copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steering {
    changes: [u64; MAX_SETTINGS],
    values: [u64; MAX_SETTINGS],
    known: u64,
    /// Requests that were refused.
    pub refusals: u64,
    /// The step of the soft limit in force, 0 for none; 4 asks the program.
    pub soft_limit_step: u64,
    /// Times that the step changed.
    pub soft_limit_steps: u64,
    /// Purges that the soft limit made.
    pub soft_limit_purges: u64,
    /// Times that it asked the program to give memory back.
    pub soft_limit_asks: u64,
}

impl Steering {
    /// Reads it by `word`, which gives the word at an offset of the segment; `None` of a process that takes no requests.
    pub(crate) fn read(word: impl Fn(usize) -> u64) -> Option<Self> {
        let mut words = (0..WORDS).map(|index| word(STEERING_OFFSET + index * 8));
        let mut next = || words.next().unwrap_or(0);
        if next() == 0 {
            return None;
        }
        Some(Self {
            changes: core::array::from_fn(|_| next()),
            values: core::array::from_fn(|_| next()),
            known: next(),
            refusals: next(),
            soft_limit_step: next(),
            soft_limit_steps: next(),
            soft_limit_purges: next(),
            soft_limit_asks: next(),
        })
    }

    /// The value of a setting, where it is known.
    #[must_use]
    pub fn value(&self, setting: Setting) -> Option<i64> {
        let number = setting as usize;
        (self.known & (1 << number) != 0).then(|| self.values[number].cast_signed())
    }

    /// How often it was changed by a request.
    #[must_use]
    pub fn changes(&self, setting: Setting) -> u64 {
        self.changes[setting as usize]
    }

    /// How often any was.
    #[must_use]
    pub fn all_changes(&self) -> u64 {
        self.changes.iter().fold(0, |sum, &count| sum.wrapping_add(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a block of `shared`, as a reader of the segment finds them.
    fn read(shared: &SharedSteering) -> Option<Steering> {
        let words = core::ptr::from_ref(shared).cast::<AtomicU64>();
        // SAFETY: the block is repr(C) and made of WORDS words, all atomics; the index is below that.
        Steering::read(|offset| unsafe { &*words.add((offset - STEERING_OFFSET) / 8) }.load(Relaxed))
    }

    fn zeros() -> SharedSteering {
        // SAFETY: all of it is atomics, of which zero is a value.
        unsafe { core::mem::zeroed() }
    }

    #[test]
    fn what_a_process_says_is_what_a_reader_finds() {
        let shared = zeros();
        assert_eq!(read(&shared), None, "nobody has started");
        shared.start();
        shared.set_value(Setting::DirtyDecayMs, -1);
        shared.changed(Setting::DirtyDecayMs);
        shared.changed(Setting::SoftLimitBytes);
        shared.refused();
        shared.soft_limit_step(3);
        shared.soft_limit_purged();
        shared.soft_limit_asked();
        let read = read(&shared).unwrap();
        assert_eq!((read.value(Setting::DirtyDecayMs), read.value(Setting::MuzzyDecayMs)), (Some(-1), None));
        assert_eq!((read.changes(Setting::DirtyDecayMs), read.all_changes(), read.refusals), (1, 2, 1));
        assert_eq!((read.soft_limit_step, read.soft_limit_steps), (3, 1));
        assert_eq!((read.soft_limit_purges, read.soft_limit_asks), (1, 1));
    }
}
