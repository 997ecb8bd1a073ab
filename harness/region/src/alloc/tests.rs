//! Which allocator serves a call, and what it hands out.

use crate::testing::{Block, REGION, isolated};
use crate::{CHUNK_BYTES, MAX_OBJECT_BYTES, Region, scope, stats};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

#[test]
fn allocations_outside_a_scope_go_to_the_inner_allocator() {
    isolated(|| {
        let before = Block::small(1);
        assert!(!before.is_ours());
        assert!(scope(|| Block::small(2).ours_then_freed()));
        let after = Block::small(3);
        assert!(!after.is_ours());
        before.free();
        after.free();
    });
}

#[test]
fn objects_above_a_quarter_chunk_go_to_the_inner_allocator() {
    isolated(|| {
        scope(|| {
            assert!(Block::new(MAX_OBJECT_BYTES, 1, 1).ours_then_freed());
            let large = Block::new(MAX_OBJECT_BYTES + 1, 1, 2);
            assert!(!large.is_ours());
            large.free();
        });
    });
}

#[test]
fn every_alignment_is_honoured() {
    isolated(|| {
        scope(|| {
            let blocks: Vec<Block> = (0..=CHUNK_BYTES.ilog2() + 1)
                .flat_map(|power| [Block::new(3, 1, 1), Block::new(5, 1 << power, 2)])
                .collect();
            // `Block::new` checks the address.
            blocks.into_iter().for_each(Block::free);
        });
    });
}

#[test]
fn the_last_block_frees_and_grows_in_place() {
    isolated(|| {
        scope(|| {
            let first = Block::small(1);
            let address = first.ptr;
            first.free();
            let mut again = Block::small(2);
            assert_eq!(again.ptr, address);
            again.resize(1000);
            assert_eq!(again.ptr, address);
            again.resize(10);
            assert_eq!(again.ptr, address);
            let next = Block::new(1, 1, 3);
            assert_eq!(next.ptr, address.wrapping_add(10));
            next.free();
            again.free();
        });
    });
}

#[test]
fn a_block_under_another_moves_to_grow_and_stays_to_shrink() {
    isolated(|| {
        scope(|| {
            let mut under = Block::small(1);
            let over = Block::small(2);
            let address = under.ptr;
            under.resize(40);
            assert_eq!(under.ptr, address);
            under.resize(200);
            assert_ne!(under.ptr, address);
            assert!(under.holds() && over.holds());
            under.free();
            over.free();
        });
    });
}

#[test]
fn growth_above_the_limit_moves_to_the_inner_allocator() {
    isolated(|| {
        scope(|| {
            let mut block = Block::small(1);
            block.resize(MAX_OBJECT_BYTES + 1);
            assert!(!block.is_ours() && block.holds());
            block.free();
        });
    });
}

#[test]
fn an_escaped_block_leaves_the_range_when_it_grows_outside_a_scope() {
    isolated(|| {
        let mut block = scope(|| Block::small(1));
        block.resize(65);
        assert!(!block.is_ours() && block.holds());
        block.free();
    });
}

#[test]
fn an_inner_block_stays_with_the_inner_allocator_inside_a_scope() {
    isolated(|| {
        let mut block = Block::small(1);
        scope(|| block.resize(100));
        assert!(!block.is_ours() && block.holds());
        scope(|| block.free());
    });
}

#[test]
fn zeroed_memory_is_zero_in_a_dirty_chunk() {
    isolated(|| {
        for _ in 0..3 {
            scope(|| {
                let dirty = Block::new(1000, 1, 0xAA);
                let zeroed = Block::zeroed(500);
                assert!(zeroed.holds());
                dirty.free();
                zeroed.free();
                let over_both = Block::zeroed(1500);
                assert!(over_both.holds());
                over_both.free();
            });
        }
    });
}

/// Whether the page of `address` is resident.
#[cfg(not(miri))]
fn resident(address: *mut u8) -> bool {
    let mut page = 0u8;
    let start = address.map_addr(|addr| addr & !4095);
    // SAFETY: the page is mapped, and `page` has room for the answer on it.
    assert_eq!(unsafe { libc::mincore(start.cast(), 1, &mut page) }, 0);
    page & 1 == 1
}

#[test]
#[cfg(not(miri))]
fn zeroed_memory_of_a_fresh_chunk_is_not_touched() {
    isolated(|| {
        scope(|| {
            // Other tests' chunks lie on the stack: all but a fresh one are dirty, so purge them.
            crate::purge();
            let zeroed = Block::zeroed(MAX_OBJECT_BYTES);
            assert!(zeroed.is_ours());
            assert!(!resident(zeroed.ptr.wrapping_add(MAX_OBJECT_BYTES / 2)));
            zeroed.free();
        });
    });
}

/// Counts which of its methods were called.
struct Witness([AtomicU32; 4]);

// SAFETY: all is forwarded to `System`.
unsafe impl GlobalAlloc for Witness {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0[0].fetch_add(1, Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        self.0[1].fetch_add(1, Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(ptr, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.0[2].fetch_add(1, Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        self.0[3].fetch_add(1, Relaxed);
        // SAFETY: the caller's contract.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[test]
fn each_method_is_forwarded_as_itself() {
    let region = Region::new(Witness([const { AtomicU32::new(0) }; 4]));
    let layout = Layout::new::<[u64; 4]>();
    // SAFETY: each block is used with its own layout, and freed once.
    unsafe {
        let block = region.alloc(layout);
        let block = region.realloc(block, layout, 64);
        region.dealloc(block, Layout::from_size_align_unchecked(64, layout.align()));
        region.dealloc(region.alloc_zeroed(layout), layout);
    }
    assert_eq!([0, 1, 2, 3].map(|i| region.inner().0[i].load(Relaxed)), [1, 2, 1, 1]);
}

#[test]
#[cfg_attr(miri, ignore = "Miri aborts where malloc returns null")]
fn a_failed_growth_leaves_the_block_as_it_was() {
    isolated(|| {
        let block = scope(|| Block::small(7));
        // SAFETY: the block is live; the size is valid and no machine has it.
        let grown = unsafe { REGION.realloc(block.ptr, block.layout, isize::MAX as usize - 4096) };
        assert!(grown.is_null());
        assert!(block.holds());
        block.free();
    });
}

#[test]
fn a_scope_without_objects_takes_no_chunk() {
    isolated(|| {
        let before = stats();
        scope(|| ());
        assert_eq!(stats().chunk_acquisitions, before.chunk_acquisitions);
    });
}

impl Block {
    fn ours_then_freed(self) -> bool {
        let ours = self.is_ours();
        self.free();
        ours
    }
}
