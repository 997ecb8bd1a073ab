//! The allocator of these tests: `Telemetry<Jemalloc>`, and a count of the calls that the agent's thread makes.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use heapgate_alloc::Telemetry;
use tikv_jemallocator::Jemalloc;

pub struct ByAgent(pub Telemetry<Jemalloc>);

/// The agent's thread, once it is watched.
static AGENT: AtomicI32 = AtomicI32::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static THREAD: Cell<i32> = const { Cell::new(0) };
}

/// Whether the calling thread is the agent's. It allocates nothing.
pub fn is_agent() -> bool {
    if THREAD.get() == 0 {
        // SAFETY: gettid has no requirement.
        THREAD.set(unsafe { libc::gettid() });
    }
    THREAD.get() == AGENT.load(Relaxed)
}

/// From now on its calls are counted.
pub fn watch() {
    let tasks = std::fs::read_dir("/proc/self/task").expect("there").map(|task| task.expect("readable").path());
    let is_it = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "heapgate-agent")
    };
    let agent = tasks.into_iter().find(is_it).expect("an agent");
    let number = agent.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    AGENT.store(number.expect("a number"), Relaxed);
}

/// The calls of the allocator that the agent's thread has made since.
pub fn calls() -> u64 {
    CALLS.load(Relaxed)
}

fn count() {
    if is_agent() {
        CALLS.fetch_add(1, Relaxed);
    }
}

// SAFETY: all is done by the allocator within, with what the caller gave; the count neither allocates nor unwinds.
unsafe impl GlobalAlloc for ByAgent {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        // SAFETY: as the caller promises; the pointer came from the allocator within.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises; the pointer came from the allocator within.
        unsafe { self.0.realloc(pointer, layout, size) }
    }
}
