//! A forked child goes on with a private copy of the range, whatever other threads were doing.
#![cfg(not(miri))]

use heapgate_region::{MAX_OBJECT_BYTES, Region, is_ours, scope};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

static REGION: Region<System> = Region::new(System);

/// Fills and frees a few chunks' worth of blocks. True if each kept its contents.
fn churn(rounds: u8) -> bool {
    let layout = Layout::from_size_align(MAX_OBJECT_BYTES, 8).unwrap();
    (0..rounds).all(|round| {
        scope(|| {
            // SAFETY: the size is not 0, and each block is freed once with its layout.
            let blocks: [*mut u8; 12] = std::array::from_fn(|_| unsafe { REGION.alloc(layout) });
            blocks.iter().enumerate().for_each(|(i, block)| {
                // SAFETY: the block is live and that long.
                unsafe { block.write_bytes(round ^ i as u8, MAX_OBJECT_BYTES) }
            });
            blocks.iter().enumerate().all(|(i, block)| {
                // SAFETY: the block is live and filled; this is its last use.
                let last = unsafe { block.add(MAX_OBJECT_BYTES - 1).read() };
                // SAFETY: as above.
                unsafe { REGION.dealloc(*block, layout) };
                is_ours(*block) && last == round ^ i as u8
            })
        })
    })
}

/// Forks, runs `child` in the child, and returns whether it said true within a minute.
fn forked(child: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child calls only the region, `System` (which glibc keeps usable) and `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            // SAFETY: ends a child that hangs.
            unsafe { libc::alarm(60) };
            let code = if child() { 0 } else { 1 };
            // SAFETY: leaves without the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        pid => {
            let mut status = -1;
            // SAFETY: waits for our own child.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            status == 0
        }
    }
}

#[test]
fn a_child_forked_in_a_scope_has_the_objects_and_goes_on() {
    scope(|| {
        let layout = Layout::new::<[u8; 100]>();
        // SAFETY: the size is not 0.
        let block = unsafe { REGION.alloc(layout) };
        // SAFETY: the block is 100 bytes long.
        unsafe { block.write_bytes(7, 100) };
        assert!(forked(|| {
            // SAFETY: the child's copy of a live block, freed once in the child.
            let intact = unsafe { *block == 7 && *block.add(99) == 7 };
            // SAFETY: as above.
            unsafe { REGION.dealloc(block, layout) };
            intact && churn(5)
        }));
        // SAFETY: the parent's block is still live.
        assert_eq!(unsafe { *block }, 7);
        // SAFETY: freed once in the parent.
        unsafe { REGION.dealloc(block, layout) };
    });
}

#[test]
fn a_child_forked_amid_other_threads_frees_never_hangs() {
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    churn(1);
                }
            });
        }
        let all_well = (0..50).all(|_| forked(|| churn(3)));
        stop.store(true, Ordering::Relaxed);
        assert!(all_well);
    });
}
