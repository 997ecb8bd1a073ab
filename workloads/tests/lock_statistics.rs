//! jemalloc's statistics of its locks, read by the program that jemalloc serves.
//!
//! Its own `main`: the threads of a test harness would take locks too.

use std::hint::black_box;

use heapgate_workloads::jemalloc::{Locks, reset_locks};

#[global_allocator]
static ALLOCATOR: heapgate_bench::Switch = heapgate_bench::Switch;

/// More than any thread cache keeps: each block is a visit to the arena.
const LARGE: usize = 4 << 20;
const BLOCKS: u64 = 500;

fn large_blocks_take_page_locks() {
    reset_locks().expect("jemalloc has statistics");
    let before = Locks::read().expect("jemalloc has statistics");
    for _ in 0..BLOCKS {
        drop(black_box(Vec::<u8>::with_capacity(LARGE)));
    }
    let after = Locks::read().expect("jemalloc has statistics");
    let taken = after.pages.acquisitions - before.pages.acquisitions;
    assert!(taken >= 2 * BLOCKS, "{taken}");
}

fn small_blocks_beyond_the_cache_take_bin_locks() {
    let before = Locks::read().expect("jemalloc has statistics");
    let blocks: Vec<Box<u64>> = (0..100_000).map(Box::new).collect();
    drop(black_box(blocks));
    let after = Locks::read().expect("jemalloc has statistics");
    assert!(after.bins.acquisitions > before.bins.acquisitions + 100);
}

fn a_reset_forgets() {
    let before = Locks::read().expect("jemalloc has statistics");
    reset_locks().expect("jemalloc has statistics");
    let after = Locks::read().expect("jemalloc has statistics");
    assert!(after.pages.acquisitions < before.pages.acquisitions / 2, "{before:?} {after:?}");
    assert!(after.bins.acquisitions < before.bins.acquisitions / 2, "{before:?} {after:?}");
}

fn one_thread_waits_for_nobody() {
    let locks = Locks::read().expect("jemalloc has statistics");
    for waits in [locks.bins, locks.pages] {
        assert_eq!((waits.waits, waits.total_ns, waits.max_ns), (0, 0, 0));
    }
}

fn main() {
    let tests: [(&str, fn()); 4] = [
        ("large_blocks_take_page_locks", large_blocks_take_page_locks),
        ("small_blocks_beyond_the_cache_take_bin_locks", small_blocks_beyond_the_cache_take_bin_locks),
        ("one_thread_waits_for_nobody", one_thread_waits_for_nobody),
        ("a_reset_forgets", a_reset_forgets),
    ];
    for (name, test) in tests {
        test();
        println!("test {name} ... ok");
    }
    println!("{} passed, 0 failed", tests.len());
}
