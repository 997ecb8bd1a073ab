//! Feeds the reader bytes that nobody vouches for.
//!
//! The first byte chooses: even, the rest are the words as they are; odd, the rest are changes to a sound segment of
//! one slot, so that the fuzzer need not find the magic and a megabyte of memory by chance.
//!
//! `cargo fuzz run --sanitizer none reader` works with a stable compiler; with the address sanitizer, which has little
//! to find in safe code and halves the speed, it is `cargo +nightly fuzz run reader` or `RUSTC_BOOTSTRAP=1 cargo fuzz
//! run reader`. All need a C++ compiler.
#![no_main]

use std::cell::OnceCell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use heapgate_segment::layout::{self, Level, MAX_PHASES, OWNERS_OFFSET, PHASE_STRIDE, SLOT_STRIDE};
use libfuzzer_sys::fuzz_target;

#[path = "../../tests/common/everything.rs"]
mod everything;

const SLOTS: usize = 1;

/// Where changes go: an offset in bytes, and the words from there. Only the first ones of each part steer the reader;
/// the last part is all there is.
const PARTS: [(usize, usize); 5] = [
    (0, 48),
    (OWNERS_OFFSET, 8),
    (layout::slots_offset(SLOTS), (SLOTS + 1) * SLOT_STRIDE / 8),
    (layout::phases_offset(SLOTS), 51),
    (0, layout::segment_bytes(SLOTS) / 8),
];

/// Bytes of one change: part, phase (or more of the place), place (2), value (8).
const CHANGE: usize = 12;

thread_local! {
    /// A segment is a megabyte: too much to make for each input, so that changes are taken back instead.
    static SEGMENT: OnceCell<Vec<AtomicU64>> = const { OnceCell::new() };
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    if first % 2 == 0 {
        let words: Vec<_> = rest.chunks_exact(8).map(|word| AtomicU64::new(number(word))).collect();
        let _ = everything::read_everything(&words);
        return;
    }
    SEGMENT.with(|segment| {
        let words = segment.get_or_init(|| {
            let words: Vec<_> = (0..layout::segment_bytes(SLOTS) / 8).map(|_| AtomicU64::new(0)).collect();
            layout::format(&words, SLOTS, Level::Count, 1);
            words
        });
        read_changed(words, first, rest);
    });
});

/// Reads `words` with some of them changed, and puts them back. Bits 1 and 2 of `first` say whether the segment is cut
/// short, the upper ones where.
fn read_changed(words: &[AtomicU64], first: u8, changes: &[u8]) {
    let mut undo = Vec::new();
    // More changes than this slow the fuzzer down and show nothing new.
    for change in changes.chunks_exact(CHANGE).take(64) {
        let (start, count) = PARTS[usize::from(change[0]) % PARTS.len()];
        let phase = if start == layout::phases_offset(SLOTS) { usize::from(change[1]) % MAX_PHASES } else { 0 };
        let place = (usize::from(change[1]) << 16 | number(&change[2..4]) as usize) % count;
        let place = (start + phase * PHASE_STRIDE) / 8 + place;
        undo.push((place, words[place].swap(number(&change[4..]), Relaxed)));
    }
    let length = if first & 0b110 == 0b110 { words.len() * usize::from(first >> 3) / 32 } else { words.len() };
    let _ = everything::read_everything(&words[..length]);
    for (place, sound) in undo.into_iter().rev() {
        words[place].store(sound, Relaxed);
    }
}

/// Bytes as a number, the lowest first.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}
