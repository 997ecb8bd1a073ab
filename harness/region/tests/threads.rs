//! Many threads that trade blocks: everyone frees what others made, before and after their exit.

use heapgate_region::{MAX_OBJECT_BYTES, Region, scope, stats};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

static REGION: Region<System> = Region::new(System);

/// Chunks in use are the process's: one test at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Block {
    ptr: *mut u8,
    layout: Layout,
    fill: u8,
}

// SAFETY: plain memory with one owner, and a region allows frees from any thread.
unsafe impl Send for Block {}

impl Block {
    fn new(size: usize, fill: u8) -> Self {
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: no size here is 0.
        let ptr = unsafe { REGION.alloc(layout) };
        assert!(!ptr.is_null());
        // SAFETY: the block is `size` bytes long.
        unsafe { ptr.write_bytes(fill, size) };
        Self { ptr, layout, fill }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the block is live and filled.
        let bytes = unsafe { std::slice::from_raw_parts(self.ptr, self.layout.size()) };
        let intact = bytes[0] == self.fill && bytes[1..] == bytes[..bytes.len() - 1];
        // SAFETY: the block is live with this layout, and this is its last use.
        unsafe { REGION.dealloc(self.ptr, self.layout) };
        assert!(intact, "contents changed");
    }
}

/// A repeatable source of numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }
}

/// One thread's part: scopes in which it makes blocks, swaps some with the market and drops the rest.
fn trade(market: &[Mutex<Vec<Block>>], seed: u64, scopes: usize) {
    let mut random = Random(seed);
    for _ in 0..scopes {
        scope(|| {
            let mut mine = Vec::new();
            for _ in 0..random.below(60) {
                let largest = if random.below(20) == 0 { MAX_OBJECT_BYTES } else { 500 };
                let size = 1 + random.below(largest);
                mine.push(Block::new(size, seed as u8));
                if random.below(3) == 0 {
                    mine.swap_remove(random.below(mine.len()));
                }
                if random.below(4) == 0 && !mine.is_empty() {
                    let given = mine.swap_remove(random.below(mine.len()));
                    let mut stall = market[random.below(market.len())].lock().unwrap();
                    stall.push(given);
                    if stall.len() > 20 {
                        let at = random.below(stall.len());
                        mine.push(stall.swap_remove(at));
                    }
                }
            }
        });
    }
}

/// Waits for threads to exit, and so to return their chunks: the end of `thread::scope` waits for their closures only.
fn join_all<const N: usize>(threads: [ScopedJoinHandle<'_, ()>; N]) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn blocks_traded_between_threads_stay_intact_and_every_chunk_comes_back() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = stats();
    let market: Vec<Mutex<Vec<Block>>> = (0..4).map(|_| Mutex::default()).collect();
    let (generations, scopes) = if cfg!(miri) { (2, 2) } else { (20u64, 200) };
    for generation in 0..generations {
        std::thread::scope(|threads| {
            let spawn = |thread: u64| {
                let market = &market;
                threads.spawn(move || trade(market, 1 + generation * 4 + thread, scopes))
            };
            join_all([0, 1, 2, 3].map(spawn));
        });
    }
    let after = stats();
    assert!(after.objects > before.objects);
    let pinned = after.chunks_in_use;
    drop(market);
    let left = stats().chunks_in_use;
    assert!(left == before.chunks_in_use && pinned > left, "{pinned} pinned, {left} left");
}

#[test]
fn the_owner_and_another_thread_empty_a_chunk_together() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let before = stats();
    for _ in 0..if cfg!(miri) { 3 } else { 300 } {
        std::thread::scope(|threads| {
            let owner = threads.spawn(|| {
                let mut blocks: Vec<Block> = scope(|| (0..100).map(|byte| Block::new(64, byte)).collect());
                let half = blocks.split_off(50);
                let other = std::thread::spawn(move || drop(half));
                drop(blocks);
                // Either may be last; the thread that fills the chunk next must see the other's frees.
                scope(|| drop(Block::new(MAX_OBJECT_BYTES, 1)));
                other.join().unwrap();
            });
            join_all([owner]);
        });
    }
    assert_eq!(stats().chunks_in_use, before.chunks_in_use);
}
