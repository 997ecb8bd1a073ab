//! The bytes of ABI version 5, and what is refused.

use super::*;

use crate::arenas::{ArenaRecord, LevelRecord, PlaceRecord, ScopeThreadRecord, Table};
use crate::groups::{GROUPS_OFFSET, GroupRecord};
use crate::mailbox::MAILBOX_OFFSET;
use crate::requests::RequestRecord;
use crate::steering::STEERING_OFFSET;

macro_rules! offsets {
    ($type:ident: $($field:ident)*) => { [$(offset_of!($type, $field)),*] };
}

// What a reader relies on that was built from an earlier edit of this file. A number that changes here is a new
// ABI_VERSION.

#[test]
fn version_5_of_the_header_has_each_field_at_its_place() {
    assert_eq!(ABI_VERSION, 5);
    assert_eq!(
        offsets!(Header: magic abi_version total_bytes slot_count slot_stride phase_count phase_stride counter_words),
        [0, 8, 16, 24, 32, 40, 48, 56]
    );
    assert_eq!(offsets!(Header: pid clock interrupted_split attached_at), [64, 72, 80, 88]);
    assert_eq!(offsets!(Header: level sample_period supervised was_off), [104, 112, 120, 128]);
    assert_eq!(offsets!(Header: slots_used claims overflow_claims phases_begun), [136, 144, 152, 160]);
    assert_eq!(offsets!(Header: held released sums), [168, 172, 256]);
    assert_eq!(offsets!(Header: identity gauges_set gauges), [384, 592, 600]);
    assert_eq!(offsets!(Header: arenas_created arenas_finalized arenas_untracked), [920, 928, 936]);
    assert_eq!(offsets!(SharedIdentity: start_time published_unix_ns service version allocator), [0, 8, 16, 80, 144]);
    assert_eq!(offsets!(Sums: objects bytes peak_objects peak_bytes), [0, 8, 16, 24]);
}

#[test]
fn version_5_of_a_slot_has_each_field_at_its_place() {
    assert_eq!(
        offsets!(Slot: added_objects added_bytes room_objects room_bytes busy countdown random touched counters),
        [0, 8, 16, 24, 32, 40, 48, 56, 64]
    );
    assert_eq!(offsets!(Counters: objects_freed bytes_freed realloc_old_bytes class_freed), [0, 8, 16, 24]);
    assert_eq!(offsets!(Counters: objects_allocated bytes_allocated), [2040, 2048]);
    assert_eq!(offsets!(Counters: alloc_zeroed_calls alloc_zeroed_bytes), [2056, 2064]);
    assert_eq!(offsets!(Counters: realloc_calls realloc_new_bytes failed_calls), [2072, 2080, 2088]);
    assert_eq!(offsets!(Counters: class_allocated latencies), [2096, 4112]);
    assert_eq!(offsets!(LatencyGroup: clean interrupted), [0, 512]);
    assert_eq!((LatencyGroup::clean_offset(1, 17), LatencyGroup::interrupted_offset(2, 35)), (5016, 6296));
    assert_eq!(size_of::<Counters>(), 31_760);
}

#[test]
fn version_5_of_a_phase_has_each_field_at_its_place() {
    assert_eq!(
        offsets!(PhaseRecord: kind state units checksum peak_objects peak_bytes begin_at end_at),
        [0, 8, 16, 24, 32, 40, 48, 64]
    );
    assert_eq!(offsets!(PhaseRecord: gauges_set gauges begin end), [80, 88, 408, 32_168]);
    assert_eq!((Gauge::JemallocAllocated as usize, Gauge::RegionEscapedObjects as usize), (0, 16));
}

#[test]
#[cfg_attr(miri, ignore = "tables are small there")]
fn version_5_of_a_segment_has_each_part_at_its_place() {
    assert_eq!(
        (slots_offset(1), phases_offset(1), segment_bytes(1)),
        (8192, 73_728, 1_122_304 + ARENAS_BYTES + REQUESTS_BYTES)
    );
    assert_eq!(
        (slots_offset(256), phases_offset(256), segment_bytes(256)),
        (8192, 8_429_568, 9_478_144 + ARENAS_BYTES + REQUESTS_BYTES)
    );
    assert_eq!((slots_offset(513), ARENAS_BYTES, REQUESTS_BYTES), (12_288, 131_072, 40_960));
    assert_eq!((Shape::trial(1).arenas_offset(), Shape::trial(1).requests_offset()), (1_122_304, 1_253_376));
    assert_eq!(Shape { slots: 64, phases: 0 }.bytes(), 2_138_112 + ARENAS_BYTES + REQUESTS_BYTES);
}

#[test]
#[cfg_attr(miri, ignore = "tables are small there")]
fn version_5_of_the_registry_has_each_field_at_its_place() {
    assert_eq!(offsets!(Table: last_ns next threads_untracked places threads arenas), [0, 8, 16, 64, 24_640, 61_504]);
    assert_eq!(
        offsets!(PlaceRecord: key ready line created finalized longest_ns escaping_scopes escaped_objects escaped_bytes text),
        [0, 8, 16, 24, 32, 40, 48, 56, 64, 80]
    );
    assert_eq!(offsets!(ArenaRecord: id place thread created_ns bytes thread_name), [0, 8, 16, 24, 32, 40]);
    assert_eq!(offsets!(ScopeThreadRecord: owner thread_name levels), [0, 8, 64]);
    assert_eq!(offsets!(LevelRecord: id place begun_ns bytes), [0, 8, 16, 24]);
}

#[test]
fn version_5_of_the_header_s_page_has_each_part_at_its_place() {
    assert_eq!((size_of::<Header>(), GROUPS_OFFSET, MAILBOX_OFFSET, STEERING_OFFSET), (1024, 1024, 2048, 3072));
    assert_eq!(
        offsets!(GroupRecord: name share dirty_decay_ms muzzy_decay_ms arenas whole_process gauges_set gauges),
        [0, 32, 40, 48, 56, 64, 72, 80]
    );
    assert_eq!((offsets!(RequestRecord: sum_ns buckets), size_of::<RequestRecord>()), ([0, 8], 4672));
}

#[test]
#[should_panic(expected = "a segment has 1 to 65536 slots")]
fn a_segment_without_slots_is_not_made() {
    format(&[], 0, Level::Count, 1);
}

#[test]
#[should_panic(expected = "room for 1 slots")]
fn a_segment_is_not_made_where_it_has_no_room() {
    format(&[], 1, Level::Count, 1);
}
