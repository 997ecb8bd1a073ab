//! One stack with its sums, found by its hash.
//!
//! Open addressing. A thread claims an empty entry by writing its hash there; others that find the same hash add their
//! counts at once, before the claimer has written the frames, since the hash alone says where they belong. Two places with
//! one 64-bit hash would be taken for one: with 10,000 of them that has a chance of 3 in 10^12.

use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Relaxed, Release},
};

use super::sampling::Sample;
use super::{MAX_FRAMES, Place};

/// Entries that are looked at before a stack is given up. A table that is half full needs 2 on average.
const PROBES: usize = 64;

/// Words that begin every entry; 0 in `KEY` is an empty one.
pub(super) mod word {
    pub(crate) const KEY: usize = 0;
    /// 0 until the frames are there.
    pub(crate) const DEPTH: usize = 1;
    /// Thread, phase, operation and kind: see [`super::labels`].
    pub(crate) const LABELS: usize = 2;
}

/// Words of a stack that allocates.
pub(super) mod stack {
    pub(crate) const SAMPLES: usize = 3;
    pub(crate) const CALLS: usize = 4;
    pub(crate) const BYTES: usize = 5;
    /// Bits of `f64`s.
    pub(crate) const CALLS_VARIANCE: usize = 6;
    pub(crate) const BYTES_VARIANCE: usize = 7;
    pub(crate) const LIVE_OBJECTS: usize = 8;
    pub(crate) const LIVE_BYTES: usize = 9;
    /// What was live at the last peak, if that is not what is now: see `live`.
    pub(crate) const PEAK_OBJECTS: usize = 10;
    pub(crate) const PEAK_BYTES: usize = 11;
    pub(crate) const EPOCH: usize = 12;
    pub(crate) const FREED: usize = 13;
    pub(crate) const TEMPORARIES: usize = 14;
    /// Bits of an `f64`, ticks.
    pub(crate) const LIFETIME: usize = 15;
    pub(crate) const FRAMES: usize = 16;
}

/// Words of a stack of slow calls.
pub(super) mod stall {
    pub(crate) const CALLS: usize = 3;
    pub(crate) const TICKS: usize = 4;
    pub(crate) const MAX_TICKS: usize = 5;
    pub(crate) const FRAMES: usize = 8;
}

pub(super) const STACK_WORDS: usize = stack::FRAMES + MAX_FRAMES;
pub(super) const STALL_WORDS: usize = stall::FRAMES + MAX_FRAMES;

/// What makes two entries of one stack: thread in 32 bits, phase in 16, operation and kind in 8 each.
fn labels(place: &Place<'_>) -> u64 {
    let (operation, kind) = place.stall.map_or((0, 0), |(operation, kind)| (operation as u64, kind as u64));
    u64::from(place.thread) | (place.phase & 0xFFFF) << 32 | operation << 48 | kind << 56
}

/// Thread, phase, operation, kind.
pub(super) fn of_labels(labels: u64) -> (u32, u64, u64, u64) {
    ((labels & 0xFFFF_FFFF) as u32, (labels >> 32) & 0xFFFF, (labels >> 48) & 0xFF, labels >> 56)
}

/// The entry of `place`, made if there is none; `None` if there is no room.
pub(super) fn find<const WORDS: usize>(entries: &[[AtomicU64; WORDS]], place: &Place<'_>) -> Option<usize> {
    let frames = &place.frames[..place.frames.len().min(MAX_FRAMES)];
    let labels = labels(place);
    let key = hash(frames.iter().copied().chain([labels]));
    // The remainder is below the length, which is a usize; of no entries there is none.
    let first = key.checked_rem(entries.len() as u64)? as usize;
    for index in (first..entries.len()).chain(0..first).take(PROBES) {
        let entry = &entries[index];
        let found = match entry[word::KEY].load(Relaxed) {
            // AcqRel only so that the claim is not reordered with what the claimer writes after it; readers pair
            // with the depth's Release.
            0 => entry[word::KEY].compare_exchange(0, key, AcqRel, Relaxed),
            found => Err(found),
        };
        match found {
            Ok(_) => {
                entry[word::LABELS].store(labels, Relaxed);
                for (word, &frame) in entry[WORDS - MAX_FRAMES..].iter().zip(frames) {
                    word.store(frame, Relaxed);
                }
                // Release: who sees the depth sees the frames.
                entry[word::DEPTH].store(frames.len() as u64, Release);
                return Some(index);
            }
            Err(found) if found == key => return Some(index),
            Err(_) => {}
        }
    }
    None
}

pub(super) fn add_sample(entry: &[AtomicU64; STACK_WORDS], sample: Sample) {
    entry[stack::SAMPLES].fetch_add(1, Relaxed);
    entry[stack::CALLS].fetch_add(sample.calls, Relaxed);
    entry[stack::BYTES].fetch_add(sample.bytes, Relaxed);
    add(&entry[stack::CALLS_VARIANCE], sample.variances[0]);
    add(&entry[stack::BYTES_VARIANCE], sample.variances[1]);
}

pub(super) fn add_stall(entry: &[AtomicU64; STALL_WORDS], calls: u64, ticks: u64) {
    entry[stall::CALLS].fetch_add(calls, Relaxed);
    entry[stall::TICKS].fetch_add(ticks.saturating_mul(calls), Relaxed);
    entry[stall::MAX_TICKS].fetch_max(ticks, Relaxed);
}

/// Adds to an `f64` that others add to. It tries again only when another has added, so somebody always gets on.
pub(super) fn add(word: &AtomicU64, more: f64) {
    if more != 0.0 {
        let _ = word.fetch_update(Relaxed, Relaxed, |bits| Some((f64::from_bits(bits) + more).to_bits()));
    }
}

/// FNV-1a over whole words, and the finish of SplitMix64 to spread it; never 0, which means empty.
pub(super) fn hash(words: impl Iterator<Item = u64>) -> u64 {
    let x = words.fold(0xCBF2_9CE4_8422_2325_u64, |hash, word| {
        (hash ^ word).wrapping_mul(0x0000_0100_0000_01B3).rotate_left(23)
    });
    spread(x).max(1)
}

/// SplitMix64's finish (Steele, Lea and Flood, OOPSLA 2014): every bit of the result depends on all of `x`.
pub(super) fn spread(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
