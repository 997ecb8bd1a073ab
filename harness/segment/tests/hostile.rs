//! A reader takes whatever it is given: it says why it can't read it, or reads it. It never panics.
// Safe code throughout: nothing here for Miri, which would take hours.
#![cfg(all(not(loom), not(miri)))]

mod common;

use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::Segment;
use common::everything::read_everything;
use heapgate_segment::layout::{
    ABI_VERSION, Counters, Gauge, Header, LayoutError, Level, MAGIC, MAX_PHASES, OWNERS_OFFSET, Operation,
    PHASE_STRIDE, PhaseRecord, SLOT_STRIDE, Slot, format, phases_offset, segment_bytes, slots_offset,
};
use proptest::prelude::*;

/// The header's words that say what it is, in order.
const ABI_VERSION_WORD: usize = 1;
const SLOT_COUNT_WORD: usize = 3;
/// The last of them.
const COUNTER_WORDS_WORD: usize = 7;

/// A segment of one slot, that a process wrote.
fn segment() -> Vec<AtomicU64> {
    let segment = Segment::attached(1);
    let thread = segment.thread(1);
    for kind in 0..3 {
        let phase = segment.writer.begin_phase(kind, thread.slot);
        thread.alloc(100);
        thread.record(Operation::Alloc, 50, kind == 1, 1);
        phase.set_gauge(Gauge::RegionBytes, 5);
        phase.close(1, 2, thread.slot);
        if kind < 2 {
            phase.end();
        }
    }
    segment.words.iter().map(|word| AtomicU64::new(word.load(Relaxed))).collect()
}

fn words(values: impl IntoIterator<Item = u64>) -> Vec<AtomicU64> {
    values.into_iter().map(AtomicU64::new).collect()
}

#[test]
fn a_sound_segment_is_read() {
    assert_eq!(read_everything(&segment()), Ok(()));
}

#[test]
fn another_version_is_refused_and_both_are_named() {
    let words = segment();
    for (version, age) in [(0, "older"), (ABI_VERSION + 1, "newer"), (u64::MAX, "newer")] {
        words[ABI_VERSION_WORD].store(version, Relaxed);
        let error = read_everything(&words).unwrap_err();
        assert_eq!(error, LayoutError::Version { found: version });
        let message = error.to_string();
        for part in [version.to_string(), age.to_owned(), ABI_VERSION.to_string()] {
            assert!(message.contains(&part), "{message}");
        }
    }
}

#[test]
fn a_version_is_looked_at_before_anything_that_depends_on_it() {
    // All that is common to two versions is the first two words.
    let words = words([MAGIC, ABI_VERSION + 1].into_iter().chain(std::iter::repeat_n(u64::MAX, OWNERS_OFFSET / 8)));
    assert_eq!(read_everything(&words), Err(LayoutError::Version { found: ABI_VERSION + 1 }));
}

#[test]
fn a_segment_cut_at_any_length_is_refused() {
    let words = segment();
    for length in 0..words.len() {
        let error = heapgate_segment::reader::Reader::new(&words[..length]).unwrap_err();
        let needed = if length * 8 < OWNERS_OFFSET { OWNERS_OFFSET } else { segment_bytes(1) };
        assert_eq!(error, LayoutError::TooShort { bytes: length * 8, needed });
    }
}

#[test]
fn a_segment_may_be_followed_by_other_bytes() {
    let mut words = segment();
    words.extend(self::words([u64::MAX; 1000]));
    assert_eq!(read_everything(&words), Ok(()));
}

#[test]
fn no_word_of_the_layout_may_be_changed() {
    let words = segment();
    for word in 0..=COUNTER_WORDS_WORD {
        let sound = words[word].load(Relaxed);
        for value in [0, sound.wrapping_sub(1), sound + 1, sound << 1, 1 << 63, u64::MAX] {
            words[word].store(value, Relaxed);
            // 0 is the number of slots less one.
            assert!(read_everything(&words).is_err(), "word {word} is {value}");
        }
        words[word].store(sound, Relaxed);
    }
    assert_eq!(read_everything(&words), Ok(()));
}

#[test]
fn more_slots_than_there_are_bytes_are_refused() {
    let words = segment();
    let total_bytes_word = SLOT_COUNT_WORD - 1;
    for slots in [2, 1 << 16] {
        words[SLOT_COUNT_WORD].store(slots, Relaxed);
        words[total_bytes_word].store(segment_bytes(slots as usize) as u64, Relaxed);
        let error = read_everything(&words).unwrap_err();
        assert_eq!(error, LayoutError::TooShort { bytes: segment_bytes(1), needed: segment_bytes(slots as usize) });
    }
}

#[test]
fn a_segment_of_one_value_past_its_layout_is_read() {
    let words = segment();
    for value in [1, 1 << 31, 1 << 63, i64::MAX as u64, u64::MAX] {
        words.iter().skip(COUNTER_WORDS_WORD + 1).for_each(|word| word.store(value, Relaxed));
        assert_eq!(read_everything(&words), Ok(()));
    }
}

/// A value that someone might put where it doesn't belong.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..=MAX_PHASES as u64 + 1,
        (0u32..64).prop_map(|bit| 1 << bit),
        (0u32..64).prop_map(|bit| (1u64 << bit).wrapping_neg()),
        Just(u64::MAX),
        Just(i64::MAX as u64),
    ]
}

/// A word of a segment of one slot: mostly of those that steer the reader.
fn place() -> impl Strategy<Value = usize> {
    let phase = |index: usize| (phases_offset(1) + index * PHASE_STRIDE) / 8;
    let slot = |index: usize| (slots_offset(1) + index * SLOT_STRIDE) / 8;
    prop_oneof![
        4 => COUNTER_WORDS_WORD + 1..size_of::<Header>() / 8,
        1 => 0..=COUNTER_WORDS_WORD,
        2 => (0..2usize, 0..size_of::<Slot>() / 8).prop_map(move |(index, word)| slot(index) + word),
        // What precedes the two snapshots.
        4 => (0..MAX_PHASES, 0..(size_of::<PhaseRecord>() - 2 * size_of::<Counters>()) / 8)
            .prop_map(move |(index, word)| phase(index) + word),
        2 => (0..MAX_PHASES, 0..size_of::<PhaseRecord>() / 8).prop_map(move |(index, word)| phase(index) + word),
        1 => 0..segment_bytes(1) / 8,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_words_are_refused(values in prop::collection::vec(value(), 0..2000), with_magic in any::<bool>()) {
        let words = words(values);
        if let Some(first) = words.first().filter(|_| with_magic) {
            first.store(MAGIC, Relaxed);
        }
        prop_assert!(read_everything(&words).is_err());
    }

    #[test]
    fn a_segment_with_changed_words_is_read_or_refused(changes in prop::collection::vec((place(), value()), 1..60)) {
        let words = segment();
        for &(place, value) in &changes {
            words[place].store(value, Relaxed);
        }
        let sound = changes.iter().all(|&(place, _)| place > COUNTER_WORDS_WORD);
        // Refused for no other reason than its layout.
        prop_assert!(read_everything(&words).is_ok() || !sound);
    }

    #[test]
    fn any_bits_past_the_layout_are_read(seed in any::<u64>()) {
        let mut bits = seed | 1;
        let words = words(std::iter::repeat_with(|| {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            bits
        }).take(segment_bytes(1) / 8));
        format(&words, 1, Level::Count, 1);
        prop_assert_eq!(read_everything(&words), Ok(()));
    }
}
