//! Published files: what a copy says is what the segment says; what is no such file is refused (`refused`).

mod common;
#[path = "published/refused.rs"]
mod refused;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use heapgate_segment::clock::ClockKind;
use heapgate_segment::groups::GroupSettings;
use heapgate_segment::histogram::{BUCKETS, bucket_bounds, bucket_of};
use heapgate_segment::identity::Identity;
use heapgate_segment::layout::{
    Gauge, InterruptedSplit, LayoutError, Level, Operation, SLOT_STRIDE, Shape, Slot, slots_offset,
};
use heapgate_segment::map::Mapping;
use heapgate_segment::published::{self, Buffer, Created, Entry, NewFile, ReadError, Settled};
use heapgate_segment::reader::Reader;
use heapgate_segment::writer::{Attachment, Writer};
use proptest::prelude::*;

use common::everything::read_everything;

/// A process id that no process has: beyond the kernel's greatest.
const NOBODY: u32 = 1 << 23;
const STARTED: u64 = 77;
const SLOTS: usize = 6;
/// A thread that made no call for so long is taken for quiet.
const LONG: Duration = Duration::from_secs(12);

struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("heapgate-published-{name}-{}", std::process::id()));
        // What a process of this number may have left.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn entry(&self) -> Entry {
        Entry::new(&self.0, "tokenizer", NOBODY, STARTED)
    }

    /// A published file, as a process would make it.
    fn publish(&self) -> Service {
        let Created { mut file, mapping } = published::create(&self.0, SLOTS, Level::Sampled, 8).unwrap();
        let (base, bytes) = mapping.raw();
        // SAFETY: the mapping is page-aligned and holds `bytes` bytes; it outlives the writer, which `Service` keeps it with.
        let writer = unsafe { Writer::from_raw(base, bytes) }.unwrap();
        let attachment =
            Attachment { pid: NOBODY, clock: ClockKind::Monotonic, interrupted_split: InterruptedSplit::Available };
        assert!(writer.attach(attachment));
        let entry = self.entry();
        writer.identify(&Identity {
            service: "tokenizer",
            version: "1.2.3",
            allocator: "jemalloc",
            start_time: STARTED,
            published_unix_ns: 5,
        });
        file.appear(&entry).unwrap();
        Service { entry, file, mapping, writer }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Where a slot says which groups of latencies it has touched: see `layout`'s tests.
const TOUCHED: usize = 56;

struct Service {
    entry: Entry,
    file: NewFile,
    mapping: Mapping,
    writer: Writer,
}

impl Service {
    fn direct(&self) -> Reader<'_> {
        Reader::new(self.mapping.words()).unwrap()
    }

    /// Counts in all slots but one, and in the shared one.
    fn work(&self) {
        for thread in 1..=SLOTS as u64 {
            let slot = self.writer.claim(thread).unwrap();
            for size in 1..40 * thread {
                if slot.count_alloc(size) {
                    slot.settle(self.writer.sums());
                }
            }
            if slot.count_dealloc(1) || slot.count_realloc(2, 2000 * thread) {
                slot.settle(self.writer.sums());
            }
            slot.record::<false>(Operation::Alloc, 50 * thread, false, 8);
            slot.record::<false>(Operation::Dealloc, 1 << (5 * thread), thread == 2, 8);
            if thread == 3 {
                self.writer.retire(slot);
            }
        }
        self.writer.overflow().count_alloc_shared(self.writer.sums(), 123);
        self.writer.set_gauge(Gauge::RegionEscapedObjects, 42);
    }
}

/// What a copy says of process-wide figures is what the original says.
fn same(copy: Reader<'_>, original: Reader<'_>) {
    assert!(copy.totals() == original.totals());
    assert_eq!((copy.live(), copy.tally()), (original.live(), original.tally()));
    assert_eq!(copy.peaks(), original.peaks());
    assert_eq!((copy.slots_used(), copy.threads()), (original.slots_used(), original.threads()));
    assert_eq!(copy.threads_now(), original.threads_now());
    assert_eq!((copy.level(), copy.sample_period()), (original.level(), original.sample_period()));
    assert_eq!((copy.was_off(), copy.clock()), (original.was_off(), original.clock()));
    assert_eq!((copy.pid(), copy.attached_at()), (original.pid(), original.attached_at()));
    assert_eq!((copy.service(), copy.version()), (original.service(), original.version()));
    assert_eq!((copy.allocator(), copy.start_time()), (original.allocator(), original.start_time()));
    assert_eq!(copy.published_unix_ns(), original.published_unix_ns());
    assert_eq!(copy.gauge(Gauge::RegionEscapedObjects), original.gauge(Gauge::RegionEscapedObjects));
    let latencies = |reader: Reader<'_>| {
        let mut clean = [0; BUCKETS];
        (reader.add_latencies(&mut clean), clean)
    };
    assert_eq!(latencies(copy), latencies(original));
    assert!(copy.phases().is_empty());
}

#[test]
fn a_copy_says_what_the_segment_says() {
    let place = Place::new("copy");
    let service = place.publish();
    let mut buffer = Buffer::new();
    assert_eq!(buffer.reader().unwrap_err(), LayoutError::NotASegment);
    service.entry.read(&mut buffer).unwrap();
    same(buffer.reader().unwrap(), service.direct());
    service.work();
    service.entry.read(&mut buffer).unwrap();
    let copy = buffer.reader().unwrap();
    same(copy, service.direct());
    assert_eq!(
        (copy.service().as_str(), copy.version().as_str(), copy.allocator().as_str()),
        ("tokenizer", "1.2.3", "jemalloc")
    );
    assert_eq!((copy.gauge(Gauge::RegionEscapedObjects), copy.gauge(Gauge::RegionScopes)), (Some(42), None));
    assert!(copy.totals().live_objects() > 2 * 40 && copy.peaks().objects > 2 * 40);
    let mut name = [0; 64];
    assert_eq!(copy.service_in(&mut name), "tokenizer");
    // A service marks no phases, and a workload that is run as one does no harm.
    let phase = service.writer.begin_phase(2, None);
    phase.set_gauge(Gauge::Steps, 1);
    phase.close(1, 1, None);
    phase.end();
    assert!(service.direct().phases().is_empty());
}

#[test]
fn slots_stay_their_groups_and_a_copy_adds_them_up_by_group() {
    let place = Place::new("groups");
    let service = place.publish();
    let mut buffer = Buffer::new();
    let group = |number, name, whole_process| {
        let settings = GroupSettings { name, share: 0.5, dirty_decay_ms: 10_000, muzzy_decay_ms: -1, whole_process };
        service.writer.group(number).define(&settings);
    };
    group(1, "control", false);
    group(2, "strict", false);
    let count = |slot: &Slot, objects: u64| {
        for _ in 0..objects {
            if slot.count_alloc(8) {
                slot.settle(service.writer.sums());
            }
        }
        slot.record::<false>(Operation::Alloc, 100, false, objects);
    };
    // One of no group, one of each, and a second owner of the slot of group 2.
    count(service.writer.claim(1).unwrap(), 1);
    count(service.writer.claim_first(2, 1).unwrap(), 10);
    let strict = service.writer.claim_first(3, 2).unwrap();
    count(strict, 5);
    service.writer.retire(strict);
    let other = service.writer.claim_first(4, 1).unwrap();
    assert!(!std::ptr::eq(other, strict), "group 2's slot is none of group 1's, free or not");
    let again = service.writer.claim_in(5, 2).unwrap();
    assert!(std::ptr::eq(again, strict));
    count(again, 15);
    // A slot that was used by threads of no group is never one's of a group.
    let free = service.writer.claim(6).unwrap();
    service.writer.retire(free);
    assert!(!std::ptr::eq(service.writer.claim_in(7, 2).unwrap(), free));

    service.entry.read(&mut buffer).unwrap();
    for reader in [buffer.reader().unwrap(), service.direct()] {
        let groups = reader.groups();
        let found: Vec<_> = groups
            .iter()
            .map(|group| {
                let totals = reader.group_totals(group);
                (group.name.as_str(), totals.objects_allocated(), totals.timed_calls()[0].0)
            })
            .collect();
        assert_eq!(found, [("control", 10, 10), ("strict", 20, 20)]);
        assert_eq!((groups[1].dirty_decay_ms, groups[1].muzzy_decay_ms), (10_000, -1));
        assert_eq!((reader.totals().objects_allocated(), reader.threads_now()), (31, 5));
    }
    same(buffer.reader().unwrap(), service.direct());

    group(3, "whole", true);
    service.entry.read(&mut buffer).unwrap();
    let reader = buffer.reader().unwrap();
    assert_eq!(reader.group_totals(&reader.groups()[2]).objects_allocated(), 31);
}

#[test]
fn requests_are_their_group_s_whichever_thread_finishes_them() {
    const EACH: u64 = 1_000;
    let place = Place::new("requests");
    let service = place.publish();
    let mut buffer = Buffer::new();
    for (number, name) in [(1, "control"), (2, "strict"), (3, "idle")] {
        let settings = GroupSettings { name, share: 0.3, dirty_decay_ms: 0, muzzy_decay_ms: 0, whole_process: false };
        service.writer.group(number).define(&settings);
    }
    let writer = service.writer;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                for request in 1..=EACH {
                    writer.requests(1).record(1_000);
                    writer.requests(2).record(request * 1_000_000_000);
                }
            });
        }
    });
    // Beyond the scale: it counts, and the sum goes on.
    writer.requests(2).record(u64::MAX);
    service.entry.read(&mut buffer).unwrap();
    for reader in [buffer.reader().unwrap(), service.direct()] {
        let found: Vec<_> = reader.groups().iter().map(|group| reader.group_requests(group)).collect();
        let [Some(control), Some(strict), None] = &found[..] else { panic!("{found:?}") };
        assert_eq!((control.count(), control.sum_ns), (2 * EACH, 2 * EACH * 1_000));
        assert_eq!(control.buckets[bucket_of(1_000)], 2 * EACH);
        assert_eq!(strict.count(), 2 * EACH + 1);
        assert_eq!(strict.sum_ns, EACH * (EACH + 1) * 1_000_000_000 + (1 << 50));
        let beyond = (1..=EACH).filter(|s| s * 1_000_000_000 >= bucket_bounds(BUCKETS - 1).0).count() as u64;
        assert_eq!(strict.buckets[BUCKETS - 1], 2 * beyond + 1);
    }

    // Another file, whose groups have finished nothing, and one without groups: nothing is left of the first.
    let other = Place::new("requests-of-another");
    let service = other.publish();
    service.entry.read(&mut buffer).unwrap();
    let settings =
        GroupSettings { name: "control", share: 1.0, dirty_decay_ms: 0, muzzy_decay_ms: 0, whole_process: true };
    service.writer.group(1).define(&settings);
    service.entry.read(&mut buffer).unwrap();
    let reader = buffer.reader().unwrap();
    assert_eq!(reader.group_requests(&reader.groups()[0]), None);
}

#[test]
fn a_file_appears_whole_for_its_user_alone_and_takes_its_predecessors_place() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new("appear");
    let unnamed = published::create(&place.0, 1, Level::Count, 1).unwrap();
    assert_eq!(published::list(&place.0).unwrap(), []);
    drop(unnamed);
    assert_eq!(fs::read_dir(&place.0).unwrap().count(), 0);

    let first = place.publish();
    first.work();
    let second = place.publish();
    assert_eq!(published::list(&place.0).unwrap(), [place.entry()]);
    let metadata = fs::metadata(&second.entry.path).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    assert_eq!(metadata.len(), Shape { slots: SLOTS, phases: 0 }.bytes() as u64);
    assert!(metadata.blocks() * 512 >= metadata.len(), "all of it is allocated");
    let mut buffer = Buffer::new();
    place.entry().read(&mut buffer).unwrap();
    assert_eq!(buffer.reader().unwrap().totals().allocation_calls(), 0);
}

#[test]
fn a_process_lives_while_it_has_its_segment_wherever_its_number_counts() {
    let place = Place::new("alive");
    let Service { entry, file, mapping, .. } = place.publish();
    assert!(entry.is_alive() && !entry.is_in_proc());
    // To read it doesn't end the lock, nor does closing the file, as programs do with descriptors they don't know.
    entry.read(&mut Buffer::new()).unwrap();
    drop(file);
    assert!(entry.is_alive());
    drop(mapping);
    assert!(!entry.is_alive());
    entry.read(&mut Buffer::new()).unwrap();
    entry.remove().unwrap();
    entry.remove().unwrap();
    assert!(matches!(entry.read(&mut Buffer::new()), Err(ReadError::Io(_))));
}

#[test]
fn the_level_can_be_set_from_outside() {
    let place = Place::new("level");
    let service = place.publish();
    service.writer.sample_stacks(true);
    service.entry.set_level(Level::Exact).unwrap();
    assert_eq!((service.direct().level(), service.direct().was_off()), (Level::Exact, false));
    assert_ne!(service.writer.level_word().load(Relaxed), Level::Exact as u64, "stacks are still sampled");
    service.entry.set_level(Level::Off).unwrap();
    service.entry.set_level(Level::Count).unwrap();
    assert_eq!((service.direct().level(), service.direct().was_off()), (Level::Count, true));
    let other = Entry { pid: NOBODY - 1, ..service.entry.clone() };
    assert!(matches!(other.set_level(Level::Off), Err(ReadError::OtherProcess { .. })));
    assert_eq!(service.direct().level(), Level::Count);
}

#[test]
fn a_call_that_was_timed_long_after_it_was_counted_is_seen_with_the_next_one_or_after_minutes() {
    let place = Place::new("late");
    let service = place.publish();
    service.work();
    let (mut buffer, mut settled) = (Buffer::new(), Settled::default());
    let (began, mut readings) = (Instant::now(), 0);
    let mut read_is_right = |after: Duration| {
        readings += 1;
        service.entry.read_again(&mut buffer, &mut settled, began + after).unwrap();
        buffer.reader().unwrap().totals() == service.direct().totals()
    };
    let slot = service.writer.claim(77).unwrap();
    let _ = slot.count_dealloc(5);
    let late = || slot.record::<false>(Operation::Dealloc, 1 << 30, false, 1);
    // Within the time that a thread has to be quiet for, all is seen at once.
    assert!(read_is_right(Duration::ZERO) && read_is_right(LONG / 4));
    late();
    assert!(read_is_right(LONG / 3) && read_is_right(LONG) && read_is_right(LONG * 2));
    // Another group of latencies is a sign, the same one is none.
    late();
    assert!(!read_is_right(LONG * 3));
    let _ = slot.count_dealloc(5);
    assert!(read_is_right(LONG * 4) && read_is_right(LONG * 5) && read_is_right(LONG * 6));
    late();
    assert!(!read_is_right(LONG * 7) && read_is_right(LONG * 40));
}

#[test]
fn a_free_is_never_seen_before_its_allocation_though_one_of_the_threads_was_quiet() {
    let place = Place::new("quiet");
    let service = place.publish();
    let (one, other) = (service.writer.claim(1).unwrap(), service.writer.claim(2).unwrap());
    let (turn, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The one allocates and the other frees, in bursts with rests between, in which both are quiet.
            while !stop.load(Relaxed) {
                for _ in 0..20 {
                    let _ = one.count_alloc(100);
                    let _ = other.count_dealloc(100);
                }
                let before = turn.load(Relaxed);
                while turn.load(Relaxed) < before + 3 && !stop.load(Relaxed) {
                    std::thread::yield_now();
                }
            }
        });
        let (mut buffer, mut settled) = (Buffer::new(), Settled::default());
        let began = Instant::now();
        let mut below = 0;
        for round in 0..5_000 {
            service.entry.read_again(&mut buffer, &mut settled, began + round * LONG).unwrap();
            turn.fetch_add(1, Relaxed);
            // Counted, not asserted: the thread would run on.
            below += usize::from(buffer.reader().unwrap().live().0 < 0);
        }
        stop.store(true, Relaxed);
        assert_eq!(below, 0);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bits_past_the_layout_are_copied_as_they_are_read(seed in any::<u64>(), used in 0..=SLOTS as u64 + 1) {
        let place = Place::new("bits");
        let service = place.publish();
        let mut bits = seed | 1;
        // Past what says whose it is, up to its end; what was said before stays.
        for word in service.mapping.words().iter().skip(75) {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            word.store(bits, Relaxed);
        }
        for word in [9, 10, 13, 15, 16, 18, 19, 20, 32, 33, 34, 35] {
            service.mapping.words()[word].store(seed.rotate_left(word as u32), Relaxed);
        }
        service.mapping.words()[17].store(used, Relaxed);
        // What a slot says it has not touched is left out by one reader and not by the other.
        for slot in 0..=SLOTS {
            service.mapping.words()[(slots_offset(SLOTS) + slot * SLOT_STRIDE + TOUCHED) / 8].store(u64::MAX, Relaxed);
        }
        let mut buffer = Buffer::new();
        service.entry.read(&mut buffer).unwrap();
        same(buffer.reader().unwrap(), service.direct());
    }

    #[test]
    fn what_is_remembered_of_quiet_threads_changes_no_figure(
        steps in prop::collection::vec((0..9_u64, 0..SLOTS as u64 + 2, 0..40_u32), 1..60),
    ) {
        let place = Place::new("settled");
        let service = place.publish();
        let sums = service.writer.sums();
        let (mut buffer, mut settled) = (Buffer::new(), Settled::default());
        let mut now = Instant::now();
        let mut slots = Vec::new();
        for (step, thread, amount) in steps {
            let (bytes, ticks) = (u64::from(amount) * 100, 1 << amount);
            match (step, slots.get(thread as usize).copied()) {
                (0, _) => slots.extend(service.writer.claim(thread + 1)),
                (1, Some(_)) => service.writer.retire(slots.swap_remove(thread as usize)),
                (2, Some(slot)) => {
                    if slot.count_alloc(bytes) {
                        slot.settle(sums);
                    }
                    slot.record::<false>(Operation::Alloc, ticks, amount % 3 == 0, 1);
                }
                (3, Some(slot)) => {
                    if slot.count_dealloc(bytes) || slot.count_realloc(bytes, 7) {
                        slot.settle(sums);
                    }
                    slot.record::<false>(Operation::Dealloc, ticks, false, 8);
                }
                (4, Some(slot)) => slot.count_failed::<false>(),
                (5, _) => service.writer.overflow().count_alloc_shared(sums, bytes),
                _ => now += Duration::from_secs(u64::from(amount)),
            }
            service.entry.read_again(&mut buffer, &mut settled, now).unwrap();
            same(buffer.reader().unwrap(), service.direct());
        }
    }
}

#[test]
fn a_published_segment_is_a_segment() {
    let place = Place::new("segment");
    let service = place.publish();
    service.work();
    read_everything(service.mapping.words()).unwrap();
}
