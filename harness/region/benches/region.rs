//! What one operation costs in a region, beside bumpalo, jemalloc and the system's allocator.
//!
//! One trace of small objects, as a tokenizer makes them, is replayed in scopes by each contender in turn; rounds
//! alternate, so that a noisy moment hits all alike; the least is of the round disturbed least. The replay itself
//! (reading the trace, writing the first bytes of each block) is measured with an allocator that does nothing, and
//! shown: figures include it unless they say `net`.
//!
//! `cargo bench -p heapgate-region`

use bumpalo::Bump;
use heapgate_region::{Region, scope, stats};
use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use tikv_jemallocator::Jemalloc;

static REGION: Region<System> = Region::new(System);
static JEMALLOC: Jemalloc = Jemalloc;
static SYSTEM: System = System;

/// Operations in one scope: few enough for the branch predictor to learn, as it learns a program's own loops.
const OPERATIONS: usize = 2_000;
/// Scopes in one round.
const SCOPES: usize = 100;
const ROUNDS: usize = 201;

#[derive(Clone, Copy)]
enum Operation {
    Alloc { slot: u16, bytes: u16 },
    Grow { slot: u16, bytes: u16 },
    Free { slot: u16 },
}

/// A repeatable source of numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// Sizes from 8 to 256 bytes, most of them small; nine frees in ten of the newest block; one operation in twelve
/// doubles a block. Everything is freed at the end.
fn trace() -> Vec<Operation> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut live: Vec<(u16, u16)> = Vec::new();
    let mut unused: Vec<u16> = (0..OPERATIONS as u16).rev().collect();
    let mut operations = Vec::new();
    let free_one = |live: &mut Vec<(u16, u16)>, unused: &mut Vec<u16>, at: usize| {
        let (slot, _) = live.remove(at);
        unused.push(slot);
        Operation::Free { slot }
    };
    while operations.len() + live.len() < OPERATIONS {
        let newest = live.len().wrapping_sub(1);
        match random.below(12) {
            0 if !live.is_empty() && live[newest].1 <= 128 => {
                live[newest].1 *= 2;
                operations.push(Operation::Grow { slot: live[newest].0, bytes: live[newest].1 });
            }
            1..=5 if !live.is_empty() => {
                let older = random.below(10) == 0;
                let at = if older { random.below(live.len() as u64) as usize } else { newest };
                operations.push(free_one(&mut live, &mut unused, at));
            }
            _ => {
                let bytes = 8 << random.below(4);
                let bytes = (bytes + random.below(bytes)).min(256) as u16;
                let slot = unused.pop().expect("a slot for each operation");
                live.push((slot, bytes));
                operations.push(Operation::Alloc { slot, bytes });
            }
        }
    }
    while !live.is_empty() {
        let at = live.len() - 1;
        operations.push(free_one(&mut live, &mut unused, at));
    }
    operations
}

/// The three calls of the trace, as one allocator serves them.
trait Contender {
    fn alloc(&mut self, layout: Layout) -> *mut u8;
    /// # Safety
    /// `block` is live with this layout.
    unsafe fn free(&mut self, block: *mut u8, layout: Layout);
    /// # Safety
    /// `block` is live with this layout, and `bytes` is above its size.
    unsafe fn grow(&mut self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8;
    /// All that the scope does.
    fn scope(&mut self, body: impl FnOnce(&mut Self)) {
        body(self);
    }
}

/// Calls through the trait, as the standard library calls a global allocator.
struct Global<A: GlobalAlloc + 'static>(&'static A);

impl<A: GlobalAlloc> Contender for Global<A> {
    #[inline]
    fn alloc(&mut self, layout: Layout) -> *mut u8 {
        // SAFETY: no operation has 0 bytes.
        unsafe { self.0.alloc(layout) }
    }
    #[inline]
    unsafe fn free(&mut self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { self.0.dealloc(block, layout) }
    }
    #[inline]
    unsafe fn grow(&mut self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { self.0.realloc(block, layout, bytes) }
    }
}

struct InScope(Global<Region<System>>);

impl Contender for InScope {
    #[inline]
    fn alloc(&mut self, layout: Layout) -> *mut u8 {
        self.0.alloc(layout)
    }
    #[inline]
    unsafe fn free(&mut self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { self.0.free(block, layout) }
    }
    #[inline]
    unsafe fn grow(&mut self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { self.0.grow(block, layout, bytes) }
    }
    fn scope(&mut self, body: impl FnOnce(&mut Self)) {
        scope(|| body(self));
    }
}

/// The explicit arena: frees are nothing, growth is a new block.
struct Arena(Bump);

impl Contender for Arena {
    #[inline]
    fn alloc(&mut self, layout: Layout) -> *mut u8 {
        self.0.alloc_layout(layout).as_ptr()
    }
    #[inline]
    unsafe fn free(&mut self, _: *mut u8, _: Layout) {}
    #[inline]
    unsafe fn grow(&mut self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        let grown = self.0.alloc_layout(Layout::from_size_align(bytes, layout.align()).expect("a small size")).as_ptr();
        // SAFETY: both blocks are live and distinct, and the old one is the shorter.
        unsafe { grown.copy_from_nonoverlapping(block, layout.size()) };
        grown
    }
    fn scope(&mut self, body: impl FnOnce(&mut Self)) {
        body(self);
        self.0.reset();
    }
}

/// No allocator: what the replay costs by itself.
struct Nothing(Box<[u64; 64]>);

impl Contender for Nothing {
    #[inline]
    fn alloc(&mut self, _: Layout) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
    #[inline]
    unsafe fn free(&mut self, _: *mut u8, _: Layout) {}
    #[inline]
    unsafe fn grow(&mut self, block: *mut u8, _: Layout, _: usize) -> *mut u8 {
        block
    }
}

/// This thread's processor time in nanoseconds: what a busy neighbour takes is not counted.
fn cpu_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place, and the clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Replays the trace in `SCOPES` scopes. Returns nanoseconds per operation.
#[inline(never)]
fn replay(contender: &mut impl Contender, trace: &[Operation], blocks: &mut [(*mut u8, Layout)]) -> f64 {
    let layout = |bytes: u16| Layout::from_size_align(usize::from(bytes), 8).expect("a small size");
    let start = cpu_ns();
    for _ in 0..SCOPES {
        contender.scope(|contender| {
            for operation in black_box(trace) {
                match *operation {
                    Operation::Alloc { slot, bytes } => {
                        let block = contender.alloc(layout(bytes));
                        // SAFETY: every block has at least 8 bytes, aligned to 8.
                        unsafe { block.cast::<u64>().write(u64::from(bytes)) };
                        blocks[usize::from(slot)] = (block, layout(bytes));
                    }
                    Operation::Grow { slot, bytes } => {
                        let (block, old) = blocks[usize::from(slot)];
                        // SAFETY: the trace grows only live blocks.
                        let block = unsafe { contender.grow(block, old, usize::from(bytes)) };
                        blocks[usize::from(slot)] = (block, layout(bytes));
                    }
                    Operation::Free { slot } => {
                        let (block, layout) = blocks[usize::from(slot)];
                        // SAFETY: the trace frees each live block once.
                        unsafe { contender.free(block, layout) };
                    }
                }
            }
        });
    }
    (cpu_ns() - start) as f64 / (SCOPES * trace.len()) as f64
}

/// The median and the least.
fn summary(mut figures: Vec<f64>) -> [f64; 2] {
    figures.sort_by(f64::total_cmp);
    [figures[figures.len() / 2], figures[0]]
}

fn main() {
    // `cargo test --benches` runs this too: a few rounds show that it works.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 3 };
    let trace = trace();
    let mut blocks = vec![(std::ptr::null_mut(), Layout::new::<u64>()); OPERATIONS];
    let mut nothing = Nothing(Box::new([0; 64]));
    let mut region = InScope(Global(&REGION));
    let mut arena = Arena(Bump::new());
    let (mut outside, mut jemalloc, mut system) = (Global(&REGION), Global(&JEMALLOC), Global(&SYSTEM));

    let names = ["replay alone", "bumpalo", "region", "jemalloc", "system", "region over system, no scope"];
    let mut figures: [Vec<f64>; 6] = Default::default();
    let before = stats();
    for round in 0..=rounds {
        let round_figures = [
            replay(&mut nothing, &trace, &mut blocks),
            replay(&mut arena, &trace, &mut blocks),
            replay(&mut region, &trace, &mut blocks),
            replay(&mut jemalloc, &trace, &mut blocks),
            replay(&mut system, &trace, &mut blocks),
            replay(&mut outside, &trace, &mut blocks),
        ];
        // The first round warms caches and pages.
        if round > 0 {
            figures.iter_mut().zip(round_figures).for_each(|(all, one)| all.push(one));
        }
    }
    let after = stats();
    let [replay_alone, bumpalo, region, ..] = figures.clone().map(summary);

    println!(
        "{} operations a scope, {SCOPES} scopes a round, {rounds} rounds; ns of processor time per operation",
        trace.len()
    );
    println!("{:<28} {:>8} {:>8} {:>8} {:>8} {:>10}", "", "median", "net", "least", "net", "region is");
    for (name, [median, least]) in names.iter().zip(figures.clone().map(summary)) {
        let net = [median - replay_alone[0], least - replay_alone[1]];
        println!("{name:<28} {median:>8.2} {:>8.2} {least:>8.2} {:>8.2} {:>9.2}x", net[0], net[1], region[0] / median);
    }
    let net = |i: usize| (region[i] - replay_alone[i]) / (bumpalo[i] - replay_alone[i]);
    println!("net of the replay, region is {:.2}x bumpalo (least: {:.2}x), which does not free", net(0), net(1));
    println!(
        "{} chunk acquisitions in {} scopes",
        after.chunk_acquisitions - before.chunk_acquisitions,
        after.scopes - before.scopes
    );
}
