use super::*;
use crate::layout::PhaseKind;

const SMALL: Capacity = Capacity { stacks: 8, stalls: 4, live: 64 };

fn table_of(capacity: Capacity) -> Vec<AtomicU64> {
    let words: Vec<AtomicU64> = (0..capacity.words()).map(|_| AtomicU64::new(0)).collect();
    format(&words, capacity, &Settings::exact());
    words
}

fn at(frames: &[u64]) -> Place<'_> {
    Place { frames, phase: phase_word(PhaseKind::Measure as u64), thread: 0, stall: None }
}

fn record(table: &StackTable<'_>, frames: &[u64], bytes: u64) {
    table.record(&at(frames), Sample::new(bytes, ALWAYS), Object { tracked_at: None, now: 0 });
}

fn allocate(table: &StackTable<'_>, frames: &[u64], bytes: u64, address: u64, now: u64) {
    table.record(&at(frames), Sample::new(bytes, ALWAYS), Object { tracked_at: Some(address), now });
}

#[test]
fn what_is_sampled_seldom_has_a_small_table_of_live_objects_and_all_of_them_the_largest() {
    let live = |settings: Settings| Capacity::of_trial(&settings).live;
    assert_eq!(Capacity::of_trial(&Settings::exact()), Capacity::TRIAL);
    assert_eq!(live(Settings::stalls(10_000)), 1 << 12);
    // 2²⁴ objects and 2³² bytes, at the default rates 2¹⁴ and 2¹¹ samples.
    assert_eq!(live(Settings::sampled()), 1 << 15);
    assert_eq!(live(Settings { byte_period: 1, ..Settings::NOTHING }), Capacity::TRIAL.live);
}

#[test]
fn samples_of_one_stack_add_up_by_phase_and_thread() {
    let words = table_of(SMALL);
    let table = StackTable::new(&words).unwrap();
    let [main, worker] = [b"main\0\0\0\0\0\0\0\0\0\0\0\0", b"worker-7\0\0\0\0\0\0\0\0"].map(|name| table.thread(name));
    assert_eq!((main, worker, table.thread(b"main\0\0\0\0\0\0\0\0\0\0\0\0")), (0, 1, 0));
    record(&table, &[1, 2, 3], 10);
    record(&table, &[1, 2], 7);
    record(&table, &[1, 2, 3], 20);
    let elsewhere = Place { thread: worker, phase: 0, ..at(&[1, 2, 3]) };
    table.record(&elsewhere, Sample::new(5, ALWAYS), Object { tracked_at: None, now: 0 });
    let mut read = table.read();
    read.stacks.sort_by(|a, b| a.bytes.total_cmp(&b.bytes));
    let found: Vec<_> = read
        .stacks
        .iter()
        .map(|stack| (stack.frames.as_slice(), phase_kind(stack.phase), stack.thread, stack.samples, stack.bytes))
        .collect();
    let expected: [(&[u64], _, _, _, _); 3] = [
        (&[1, 2, 3], None, 1, 1, 5.0),
        (&[1, 2], Some(PhaseKind::Measure), 0, 1, 7.0),
        (&[1, 2, 3], Some(PhaseKind::Measure), 0, 2, 30.0),
    ];
    assert_eq!(found, expected);
    assert_eq!((read.settings, read.samples, read.full), (Settings::exact(), 4, 0));
    assert_eq!(read.threads, ["main", "worker-7"]);
}

#[test]
fn the_257th_name_is_the_others() {
    let words = table_of(SMALL);
    let table = StackTable::new(&words).unwrap();
    let name = |number: u64| {
        let mut name = [0; NAME_BYTES];
        name[..8].copy_from_slice(format!("t{number:07}").as_bytes());
        name
    };
    let numbers: Vec<u32> = (0..260).map(|number| table.thread(&name(number))).collect();
    assert!(numbers.iter().take(256).copied().eq(0..256));
    assert!(numbers[256..].iter().all(|&number| number == MAX_THREADS as u32));
    table.record(&Place { thread: 256, ..at(&[1]) }, Sample::new(1, ALWAYS), Object { tracked_at: None, now: 0 });
    let read = table.read();
    assert_eq!(read.threads[read.stacks[0].thread as usize], "(others)");
    assert_eq!(read.threads.len(), 257);
}

#[test]
fn a_full_table_counts_what_it_drops_and_keeps_what_it_has() {
    let words = table_of(Capacity { stacks: 4, stalls: 1, live: 2 });
    let table = StackTable::new(&words).unwrap();
    (0..10).for_each(|stack| record(&table, &[stack, 1], 1));
    (0..10).for_each(|stack| record(&table, &[stack, 1], 1));
    (0..3).for_each(|stack| table.record_stall(&at(&[stack]), 1, 5));
    let read = table.read();
    assert_eq!((read.stacks.len(), read.samples, read.full), (4, 20, 12));
    assert!(read.stacks.iter().all(|stack| stack.samples == 2));
    assert_eq!((read.stalls.len(), read.stalls_full), (1, 2));

    let kept = read.stacks[0].frames.clone();
    (0..5).for_each(|object| allocate(&table, &kept, 10, 4096 + object * 16, 0));
    let read = table.read();
    let stack = read.stacks.iter().find(|stack| stack.frames == kept).unwrap();
    assert_eq!((read.untracked, stack.live_objects, stack.samples), (3, 2.0, 7));
}

#[test]
fn a_deep_stack_keeps_its_innermost_frames() {
    let words = table_of(SMALL);
    let table = StackTable::new(&words).unwrap();
    record(&table, &(1..=200).collect::<Vec<_>>(), 1);
    assert_eq!(table.read().stacks[0].frames, (1..=MAX_FRAMES as u64).collect::<Vec<_>>());
}

#[test]
fn slow_calls_are_summed_by_operation_and_kind() {
    let words = table_of(SMALL);
    let table = StackTable::new(&words).unwrap();
    table.set_ns_per_tick(0.5);
    let of = |operation, kind| Place { stall: Some((operation, kind)), ..at(&[9]) };
    table.record_stall(&of(Operation::Alloc, StallKind::FreshMapping), 1, 100);
    table.record_stall(&of(Operation::Alloc, StallKind::FreshMapping), 1, 300);
    table.record_stall(&of(Operation::Dealloc, StallKind::Purge), 64, 20);
    let mut stalls = table.read().stalls;
    stalls.sort_by_key(|stall| stall.operation);
    let found: Vec<_> = stalls.iter().map(|s| (s.operation, s.kind, s.calls, s.ns, s.max_ns)).collect();
    assert_eq!(found, [(0, StallKind::FreshMapping, 2, 200, 150), (3, StallKind::Purge, 64, 640, 10)]);
}

/// What a program of allocations and frees does, kept in the plainest way.
#[derive(Default)]
struct Model {
    live: std::collections::HashMap<u64, (u64, u64, u64)>,
    stacks: std::collections::HashMap<u64, Sums>,
    peak_bytes: u64,
    peak: std::collections::HashMap<u64, (u64, u64)>,
}

#[derive(Default, Clone, Copy)]
struct Sums {
    calls: u64,
    freed: u64,
    temporaries: u64,
    lifetime: u64,
}

impl Model {
    fn allocate(&mut self, stack: u64, bytes: u64, address: u64, now: u64) {
        self.live.insert(address, (stack, bytes, now));
        self.stacks.entry(stack).or_default().calls += 1;
        let all: u64 = self.live.values().map(|object| object.1).sum();
        if all > self.peak_bytes {
            self.peak_bytes = all;
            self.peak = self.by_stack();
        }
    }

    fn free(&mut self, address: u64, now: u64, is_temporary: bool) {
        let (stack, _, since) = self.live.remove(&address).unwrap();
        let sums = self.stacks.entry(stack).or_default();
        sums.freed += 1;
        sums.temporaries += u64::from(is_temporary);
        sums.lifetime += now - since;
    }

    fn by_stack(&self) -> std::collections::HashMap<u64, (u64, u64)> {
        let mut sums = std::collections::HashMap::new();
        for &(stack, bytes, _) in self.live.values() {
            let sum: &mut (u64, u64) = sums.entry(stack).or_default();
            *sum = (sum.0 + 1, sum.1 + bytes);
        }
        sums
    }
}

#[test]
fn live_peak_lifetimes_and_temporaries_are_those_of_a_model() {
    const STEPS: u64 = if cfg!(miri) { 60 } else { 50_000 };
    let words = table_of(Capacity { stacks: 64, stalls: 1, live: if cfg!(miri) { 128 } else { 4096 } });
    let table = StackTable::new(&words).unwrap();
    table.set_ns_per_tick(1.0);
    let (mut model, mut random, mut addresses, mut last) = (Model::default(), 7_u64, Vec::new(), 0);
    for now in 0..STEPS {
        random = entry::spread(random.wrapping_add(0x9E37_79B9_7F4A_7C15));
        // Grows and shrinks in turns.
        let grows = if now / 1000 % 2 == 0 { 5 } else { 3 };
        if random % 8 < grows || addresses.is_empty() {
            let (stack, bytes, address) = (random >> 32 & 15, 1 + (random >> 40 & 1023), 4096 + now * 16);
            allocate(&table, &[stack, 1], bytes, address, now);
            model.allocate(stack, bytes, address, now);
            addresses.push(address);
            last = address;
        } else {
            let address = addresses.swap_remove((random >> 20) as usize % addresses.len());
            assert!(table.may_track(address), "the filter loses none");
            let tracked = table.take(address).expect("it is tracked");
            if random % 64 == 7 {
                // A realloc that failed.
                table.put_back(address, &tracked);
                addresses.push(address);
                continue;
            }
            table.ended(&tracked, now, address == last);
            model.free(address, now, address == last);
            assert_eq!(table.take(address), None);
        }
    }
    let read = table.read();
    let live = model.by_stack();
    assert_eq!((read.untracked, read.full, read.stacks.len()), (0, 0, model.stacks.len()));
    assert_eq!(read.peak_live_bytes, model.peak_bytes as f64);
    for stack in &read.stacks {
        let number = stack.frames[0];
        let (sums, live) = (model.stacks[&number], live.get(&number).copied().unwrap_or_default());
        let peak = model.peak.get(&number).copied().unwrap_or_default();
        let expected = [sums.calls, sums.freed, sums.temporaries, sums.lifetime, live.0, live.1, peak.0, peak.1];
        let found = [
            stack.calls,
            stack.freed,
            stack.temporaries,
            stack.lifetime_ns,
            stack.live_objects,
            stack.live_bytes,
            stack.peak_objects,
            stack.peak_bytes,
        ];
        assert_eq!(found, expected.map(|value| value as f64), "stack {number}");
    }
}

#[test]
fn an_address_whose_end_went_unseen_is_not_live_twice() {
    let words = table_of(SMALL);
    let table = StackTable::new(&words).unwrap();
    allocate(&table, &[1], 100, 4096, 0);
    allocate(&table, &[2], 10, 4096, 0);
    let read = table.read();
    let live: f64 = read.stacks.iter().map(|stack| stack.live_bytes).sum();
    assert_eq!((live, read.untracked), (10.0, 1));
}

#[test]
fn the_filter_loses_no_address_however_many_share_a_counter() {
    const OBJECTS: u64 = if cfg!(miri) { 60 } else { 30_000 };
    let words = table_of(Capacity { stacks: 1, stalls: 1, live: if cfg!(miri) { 256 } else { 1 << 17 } });
    let table = StackTable::new(&words).unwrap();
    // 8,192 counters: 30,000 objects bring each to about 4.
    let address = |object: u64| 4096 + object * 16;
    (0..OBJECTS).for_each(|object| allocate(&table, &[1], 1, address(object), 0));
    assert_eq!(table.read().untracked, 0);
    for object in (0..OBJECTS).rev() {
        assert!(table.may_track(address(object)));
        table.ended(&table.take(address(object)).expect("tracked"), 1, false);
    }
    let read = table.read();
    assert_eq!((read.stacks[0].live_objects, read.stacks[0].freed), (0.0, OBJECTS as f64));
    // All counters are down again: none got stuck, as none had 15 objects.
    assert!((0..OBJECTS).all(|object| !table.may_track(address(object))));
}

#[test]
fn a_counter_that_is_full_stays_so_and_leaves_its_neighbours_alone() {
    let words = table_of(SMALL);
    let live = StackTable::new(&words).unwrap().live;
    let others: Vec<u64> = (1..2000).map(|object| 4096 + object * 16).collect();
    (0..300).for_each(|_| live.raise(4096));
    assert!(others.iter().filter(|&&other| live.may_have(other)).count() < 5, "only who shares the counter");
    (0..300).for_each(|_| live.lower(4096));
    assert!(live.may_have(4096));
    others.iter().for_each(|&other| live.lower(other));
    assert!(others.iter().filter(|&&other| live.may_have(other)).count() < 5, "nothing was borrowed");
}

#[test]
fn threads_that_sample_the_same_stacks_lose_nothing() {
    const EACH: u64 = if cfg!(miri) { 16 } else { 20_000 };
    let words = table_of(Capacity { stacks: 64, stalls: 4, live: if cfg!(miri) { 128 } else { 1024 } });
    let table = StackTable::new(&words).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            scope.spawn(move || {
                for i in 0..EACH {
                    let address = (thread << 32) + 4096 + i * 16;
                    allocate(&table, &[i % 16, 3, 4], i % 16, address, 1);
                    table.ended(&table.take(address).expect("tracked"), 3, true);
                }
            });
        }
    });
    table.set_ns_per_tick(1.0);
    let read = table.read();
    assert_eq!((read.stacks.len(), read.full, read.untracked), (16, 0, 0));
    let sum = |of: fn(&Stack) -> f64| read.stacks.iter().map(of).sum::<f64>();
    assert_eq!(sum(|s| s.calls), (4 * EACH) as f64);
    assert_eq!((sum(|s| s.freed), sum(|s| s.temporaries)), ((4 * EACH) as f64, (4 * EACH) as f64));
    assert_eq!((sum(|s| s.lifetime_ns), sum(|s| s.live_objects)), ((8 * EACH) as f64, 0.0));
    assert!(read.stacks.iter().all(|stack| stack.bytes == stack.calls * stack.frames[0] as f64));
}

#[test]
fn words_that_are_no_table_are_refused_whatever_they_hold() {
    let words = table_of(SMALL);
    assert_eq!(StackTable::new(&words[..10]).unwrap_err(), TableError::NotATable);
    assert!(matches!(StackTable::new(&words[..words.len() - 1]), Err(TableError::Capacity { .. })));
    for word in [header::STACKS, header::STALLS, header::LIVE] {
        let before = words[word].load(Relaxed);
        for capacity in [0, before + 1, MAX_ENTRIES as u64 + 1, u64::MAX] {
            words[word].store(capacity, Relaxed);
            assert!(matches!(StackTable::new(&words).unwrap_err(), TableError::Capacity { .. }), "{capacity}");
        }
        words[word].store(before, Relaxed);
    }
    words[header::VERSION].store(1, Relaxed);
    assert_eq!(StackTable::new(&words).unwrap_err(), TableError::Version(1));
    words.iter().for_each(|word| word.store(u64::MAX, Relaxed));
    assert_eq!(StackTable::new(&words).unwrap_err(), TableError::NotATable);
}

#[test]
fn a_table_of_any_words_is_read_and_written_without_harm() {
    let mut random = 1_u64;
    let rounds = if cfg!(miri) { 1 } else { 200 };
    for round in 0..rounds {
        let words = table_of(SMALL);
        for word in words.iter().skip(header::BYTE_PERIOD) {
            random = entry::spread(random.wrapping_add(0x9E37_79B9_7F4A_7C15));
            word.store([u64::MAX, random, f64::NAN.to_bits(), random % 300][(round % 4) as usize], Relaxed);
        }
        let table = StackTable::new(&words).unwrap();
        for address in [0, 1, 4096, u64::MAX] {
            allocate(&table, &[1, address], u64::MAX, address, u64::MAX);
            if table.may_track(address)
                && let Some(tracked) = table.take(address)
            {
                table.ended(&tracked, 0, true);
            }
        }
        table.record_stall(&at(&[1]), u64::MAX, u64::MAX);
        let _ = table.thread(&[0xFF; NAME_BYTES]);
        let read = table.read();
        assert!(read.stacks.iter().all(|stack| (stack.thread as usize) < read.threads.len()));
        assert!(read.stalls.iter().all(|stall| (stall.thread as usize) < read.threads.len()));
        for stack in &read.stacks {
            let numbers =
                [stack.calls, stack.bytes, stack.bytes_variance, stack.live_bytes, stack.peak_bytes, stack.lifetime_ns];
            assert!(numbers.into_iter().all(|number| number.is_finite() && number >= 0.0), "{stack:?}");
        }
    }
}
