//! What telemetry costs on each call: bare jemalloc against every level, in turn, with one thread and with two.
//!
//! `cargo bench -p heapgate-alloc --bench overhead`. Figures are medians over rounds, ns per operation (an allocation
//! or a free), and their difference from bare jemalloc in the same round.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::os::fd::AsFd;
use std::time::Instant;

use heapgate_alloc::segment::clock::ClockKind;
use heapgate_alloc::segment::control::Control;
use heapgate_alloc::segment::layout::{self, Level};
use heapgate_alloc::segment::map::{Mapping, create_file};
use heapgate_alloc::{Telemetry, attach};
use tikv_jemallocator::Jemalloc;

const ROUNDS: usize = 15;
const OPERATIONS: usize = 2_000_000;
/// Objects alive at one time: enough that frees don't all hit the object just allocated, few enough to stay in cache.
const LIVE: usize = 512;

/// What a program's calls go through: the compiler's own shim, which is a function of its own for every global
/// allocator.
///
/// # Safety
/// As [`GlobalAlloc::alloc`].
#[inline(never)]
unsafe fn alloc(allocator: &impl GlobalAlloc, layout: Layout) -> *mut u8 {
    // SAFETY: the caller's contract.
    unsafe { allocator.alloc(layout) }
}

/// As [`alloc`], for frees.
///
/// # Safety
/// As [`GlobalAlloc::dealloc`].
#[inline(never)]
unsafe fn dealloc(allocator: &impl GlobalAlloc, ptr: *mut u8, layout: Layout) {
    // SAFETY: the caller's contract.
    unsafe { allocator.dealloc(ptr, layout) }
}

/// Frees and allocates at random places of a table; ns per operation.
fn churn(allocator: &impl GlobalAlloc, seed: u64) -> f64 {
    let mut table = [(std::ptr::null_mut::<u8>(), Layout::new::<u64>()); LIVE];
    let mut x = seed;
    let start = Instant::now();
    for _ in 0..OPERATIONS / 2 {
        x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (place, size) = ((x >> 33) as usize % LIVE, 8 + (x >> 50) as usize % 248);
        let (old, layout) = table[place];
        if !old.is_null() {
            // SAFETY: `old` was allocated by this allocator with `layout`, below, and is freed once.
            unsafe { dealloc(allocator, old, layout) };
        }
        let layout = Layout::from_size_align(size, 8).expect("a small size");
        // SAFETY: the size is not 0.
        table[place] = (black_box(unsafe { alloc(allocator, layout) }), layout);
    }
    let ns = start.elapsed().as_nanos() as f64 / OPERATIONS as f64;
    for (old, layout) in table.into_iter().filter(|(old, _)| !old.is_null()) {
        // SAFETY: as above.
        unsafe { dealloc(allocator, old, layout) };
    }
    ns
}

/// [`churn`] on each of `threads` threads; the mean over them.
fn churn_on(threads: usize, allocator: &(impl GlobalAlloc + Sync)) -> f64 {
    let times: Vec<f64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|i| scope.spawn(move || churn(allocator, i as u64 + 1))).collect();
        workers.into_iter().map(|w| w.join().expect("no panic")).collect()
    });
    times.iter().sum::<f64>() / threads as f64
}

/// Two readings of the clock with nothing between, as around every timed call: what no telemetry can be below; ns.
fn clock_pair() -> f64 {
    let clock = ClockKind::detect();
    let start = Instant::now();
    for _ in 0..OPERATIONS {
        black_box(clock.now());
        black_box(clock.now());
    }
    start.elapsed().as_nanos() as f64 / OPERATIONS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    static BARE: Jemalloc = Jemalloc;
    static TELEMETRY: Telemetry<Jemalloc> = Telemetry::new(Jemalloc);

    println!("two readings of the clock: {:.2} ns", median((0..ROUNDS).map(|_| clock_pair()).collect()));
    println!("inert (no segment)");
    for threads in [1, 2] {
        let (mut bare, mut inert) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let before = churn_on(threads, &BARE);
            inert.push(churn_on(threads, &TELEMETRY) - before);
            bare.push(before);
        }
        println!("  {threads} thread(s): bare {:6.2} ns/op, telemetry {:+6.2} ns/op", median(bare), median(inert));
    }

    const SAMPLE_PERIOD: u64 = 64;
    let file = create_file(c"bench", layout::segment_bytes(layout::DEFAULT_SLOTS)).expect("a memory file");
    let mapping = Mapping::new(file.as_fd()).expect("mapped");
    layout::format(mapping.words(), layout::DEFAULT_SLOTS, Level::Off, SAMPLE_PERIOD);
    attach(file.into()).expect("attached");
    let control = Control::new(mapping.words()).expect("just formatted");
    for threads in [1, 2] {
        let mut bare = Vec::new();
        let mut added = vec![Vec::new(); Level::ALL.len()];
        for _ in 0..ROUNDS {
            control.set_level(Level::Off);
            let before = churn_on(threads, &BARE);
            bare.push(before);
            for (level, added) in Level::ALL.into_iter().zip(&mut added) {
                control.set_level(level);
                added.push(churn_on(threads, &TELEMETRY) - before);
            }
        }
        println!("{threads} thread(s): bare jemalloc {:.2} ns/op", median(bare));
        for (level, added) in Level::ALL.into_iter().zip(added) {
            println!("  {:<12} {:+6.2} ns/op", level.name(), median(added));
        }
    }
}
