//! The agent, held up within a purge: by a hook of an arena that does not return in its thread. And a program that works on.

use std::ffi::{CStr, c_uint, c_void};
use std::hint::black_box;
use std::ptr::{from_mut, null_mut};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use heapgate_alloc::control::{self, ControlError};
use heapgate_alloc::segment::setting::Setting;
use tikv_jemalloc_sys::{extent_hooks_t, mallctl};

use crate::by_agent::is_agent;

static IS_HELD: AtomicBool = AtomicBool::new(false);
static IS_RELEASED: AtomicBool = AtomicBool::new(false);

/// Pages are to be given back: not before it is released, if it is the agent who does it.
unsafe extern "C" fn give_back(_: *mut extent_hooks_t, _: *mut c_void, _: usize, _: bool, _: c_uint) -> bool {
    if is_agent() {
        IS_HELD.store(true, SeqCst);
        wait_for(&IS_RELEASED);
    }
    // It does not unmap, so jemalloc goes on to what keeps the addresses.
    true
}

/// So that a test that went wrong ends.
fn wait_for(flag: &AtomicBool) {
    const LONGEST: Duration = Duration::from_secs(120);
    let begin = Instant::now();
    while !flag.load(SeqCst) && begin.elapsed() < LONGEST {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads and writes a control of jemalloc's.
fn jemalloc<T>(control: &CStr, old: Option<&mut T>, new: Option<&mut T>) {
    let mut size = size_of::<T>();
    let new_bytes = if new.is_some() { size } else { 0 };
    let [old, new] = [old, new].map(|value| value.map_or(null_mut(), |value| from_mut(value).cast::<c_void>()));
    let size_at = if old.is_null() { null_mut() } else { &raw mut size };
    // SAFETY: the name is a C string; the places are null or hold a `T`, whose size jemalloc compares with the control's.
    assert_eq!(unsafe { mallctl(control.as_ptr(), old, size_at, new, new_bytes) }, 0, "{control:?}");
}

/// An arena whose pages the agent does not get rid of, with pages to give back.
pub fn arena() -> u32 {
    let mut hooks: *mut extent_hooks_t = null_mut();
    jemalloc(c"arena.0.extent_hooks", Some(&mut hooks), None);
    // SAFETY: jemalloc gave a pointer to the hooks of an arena, which stay.
    let hooks = Box::new(extent_hooks_t { dalloc: Some(give_back), ..unsafe { *hooks } });
    let (mut hooks, mut arena) = (Box::into_raw(hooks), 0_u32);
    let (old, new) = (from_mut(&mut arena).cast(), from_mut(&mut hooks).cast());
    let mut size = size_of::<u32>();
    // SAFETY: the control takes a pointer to hooks, which are never freed, and gives a number of 32 bits.
    let code = unsafe { mallctl(c"arenas.create".as_ptr(), old, &raw mut size, new, size_of_val(&hooks)) };
    assert_eq!(code, 0);
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        bind(arena);
        drop((0..8).map(|_| black_box(vec![1_u8; 1 << 20])).collect::<Vec<_>>());
        done.send(()).expect("somebody waits");
        // With its last thread, an arena of the program's own loses its pages.
        loop {
            std::thread::park();
        }
    });
    is_done.recv().expect("the thread lives");
    arena
}

fn bind(mut arena: u32) {
    jemalloc(c"thread.arena", None, Some(&mut arena));
}

/// As much work as it is in eight threads, four of them in `arena`, all of it while the agent is held.
pub fn work(arena: u32) {
    const THREADS: u32 = 8;
    const ROUNDS: u32 = 5_000;
    wait_for(&IS_HELD);
    assert!(IS_HELD.load(SeqCst), "the agent has not come to the hook");
    let change = || control::set(Setting::DirtyDecayMs, 1);
    let busy = change().expect_err("the agent makes another");
    assert!(matches!(busy, ControlError::Busy), "{busy}");
    assert_eq!(control::get(Setting::DirtyDecayMs).expect("known"), -1);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                if thread % 2 == 0 {
                    bind(arena);
                }
                let mut kept: Vec<Vec<u8>> = Vec::new();
                let mut state = u64::from(thread) + 1;
                for _ in 0..ROUNDS {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // From 8 bytes to 1 MiB: from caches, slabs and pages of their own.
                    kept.push(black_box(vec![0; 8 << ((state >> 33) % 18)]));
                    if kept.len() > 20 {
                        kept.swap_remove((state >> 40) as usize % kept.len());
                    }
                }
            });
        }
    });
    assert!(IS_HELD.load(SeqCst) && !IS_RELEASED.load(SeqCst));
}

pub fn release() {
    IS_RELEASED.store(true, SeqCst);
}
