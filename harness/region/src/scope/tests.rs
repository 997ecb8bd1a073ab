//! What scopes promise: nesting, reuse, escapes, and threads that come and go.

use super::*;
use crate::stats;
use crate::testing::{Block, isolated};
use crate::{CHUNK_BYTES, MAX_OBJECT_BYTES, Stats};

/// What `f` added to the counters.
fn counted(f: impl FnOnce()) -> Stats {
    let before = stats();
    f();
    let after = stats();
    Stats {
        scopes: after.scopes - before.scopes,
        chunk_acquisitions: after.chunk_acquisitions - before.chunk_acquisitions,
        escaping_scopes: after.escaping_scopes - before.escaping_scopes,
        escaped_objects: after.escaped_objects - before.escaped_objects,
        escaped_bytes: after.escaped_bytes - before.escaped_bytes,
        ..after
    }
}

/// Holds only for a type that is not `Send`: for one that is, both impls fit and the call is ambiguous.
trait NotSend<Which> {
    fn holds() {}
}
impl<T> NotSend<()> for T {}
impl<T: Send> NotSend<u8> for T {}

#[test]
fn an_open_scope_is_not_send() {
    <Open as NotSend<_>>::holds();
}

#[test]
fn a_scope_that_frees_all_gives_its_chunk_to_the_next() {
    isolated(|| {
        let mut addresses = Vec::new();
        let count = counted(|| {
            for _ in 0..10 {
                let blocks = scope(|| {
                    let blocks = [1, 2, 3].map(Block::small);
                    let address = blocks[0].ptr.addr();
                    // In order of allocation, so that no free is of the last block but one.
                    blocks.into_iter().for_each(Block::free);
                    address
                });
                addresses.push(blocks);
            }
        });
        assert_eq!(count.chunk_acquisitions, 1);
        assert!(addresses.iter().all(|address| *address == addresses[0]));
    });
}

#[test]
fn a_scope_longer_than_a_chunk_uses_it_again_when_it_runs_empty() {
    isolated(|| {
        let count = counted(|| {
            scope(|| {
                for round in 0..20 {
                    let blocks = [1, 2, 3].map(|byte| Block::new(MAX_OBJECT_BYTES, 1, byte + round));
                    blocks.into_iter().for_each(Block::free);
                }
            });
        });
        assert_eq!(count.chunk_acquisitions, 1);
    });
}

#[test]
fn scope_escape_pins_its_chunk() {
    isolated(|| {
        let in_use = stats().chunks_in_use;
        let escaped = scope(|| Block::small(9));
        for byte in 0..20 {
            scope(|| [1, 2, 3].map(|n| Block::new(MAX_OBJECT_BYTES, 1, byte + n)).into_iter().for_each(Block::free));
            assert!(escaped.holds());
        }
        assert!(stats().chunks_in_use > in_use);
        escaped.free();
        purge();
        assert_eq!(stats().chunks_in_use, in_use);
    });
}

#[test]
fn memory_above_an_escaped_object_is_used_again() {
    isolated(|| {
        let escaped = scope(|| Block::small(9));
        let count = counted(|| {
            let mut first = None;
            for byte in 0..10 {
                scope(|| {
                    let blocks = [1, 2].map(|n| Block::new(MAX_OBJECT_BYTES, 1, byte + n));
                    assert_eq!(blocks[0].ptr, *first.get_or_insert(blocks[0].ptr));
                    blocks.into_iter().for_each(Block::free);
                });
            }
        });
        assert_eq!(count.chunk_acquisitions, 0);
        assert!(escaped.holds());
        escaped.free();
    });
}

#[test]
fn the_end_of_an_inner_scope_leaves_the_outer_one_alone() {
    isolated(|| {
        scope(|| {
            let outer = Block::small(1);
            let inner = scope(|| {
                Block::small(2).free();
                Block::small(3)
            });
            let after = Block::small(4);
            assert!(after.is_ours());
            assert!(outer.holds() && inner.holds() && after.holds());
            [outer, inner, after].into_iter().for_each(Block::free);
        });
    });
}

#[test]
fn memory_of_an_inner_scope_is_used_again_under_a_live_outer_one() {
    isolated(|| {
        scope(|| {
            let outer = Block::small(1);
            let run = |byte| {
                scope(|| {
                    let blocks = [byte, byte + 1].map(Block::small);
                    let address = blocks[0].ptr.addr();
                    blocks.into_iter().for_each(Block::free);
                    address
                })
            };
            assert_eq!(run(10), run(20));
            assert!(outer.holds());
            outer.free();
        });
    });
}

#[test]
fn an_inner_scope_may_free_what_the_outer_one_made() {
    isolated(|| {
        let count = counted(|| {
            scope(|| {
                let (first, last) = (Block::small(1), Block::small(2));
                let inner = scope(|| {
                    last.free();
                    first.free();
                    Block::small(3)
                });
                let next = Block::small(4);
                assert!(inner.holds());
                inner.free();
                next.free();
            });
        });
        // The inner scope's block and nothing of the outer's.
        assert_eq!((count.escaping_scopes, count.escaped_objects, count.escaped_bytes), (1, 1, 64));
    });
}

#[test]
fn an_object_that_outlives_two_scopes_counts_for_both() {
    isolated(|| {
        let count = counted(|| scope(|| scope(|| Block::small(1))).free());
        assert_eq!((count.scopes, count.escaping_scopes, count.escaped_objects), (2, 2, 2));
    });
}

#[test]
fn escapes_are_exact_over_many_chunks_and_frees_of_older_objects() {
    isolated(|| {
        let old: Vec<Block> = (0..8).map(|byte| scope(|| Block::new(MAX_OBJECT_BYTES / 2, 1, byte))).collect();
        let mut kept = Vec::new();
        let count = counted(|| {
            scope(|| {
                let mut made: Vec<Block> = (0..40).map(|byte| Block::new(MAX_OBJECT_BYTES / 2, 1, byte)).collect();
                old.into_iter().for_each(Block::free);
                made.drain(..33).for_each(Block::free);
                made[0].resize(100);
                kept = made;
            });
        });
        let bytes = 6 * MAX_OBJECT_BYTES / 2 + 100;
        assert_eq!((count.escaped_objects, count.escaped_bytes), (7, bytes as u64));
        kept.into_iter().for_each(Block::free);
    });
}

#[test]
fn what_other_threads_freed_is_no_escape_when_the_chunk_is_empty() {
    isolated(|| {
        let count = counted(|| {
            scope(|| {
                let blocks = [1, 2, 3].map(Block::small);
                std::thread::scope(|threads| {
                    threads.spawn(|| blocks.into_iter().for_each(Block::free));
                });
            });
        });
        assert_eq!(count.escaping_scopes, 0);
    });
}

#[test]
fn a_panic_ends_its_scope() {
    isolated(|| {
        let unwound = std::panic::catch_unwind(|| {
            scope(|| {
                assert!(Block::small(1).is_ours());
                std::panic::resume_unwind(Box::new("out of two scopes"))
            })
        });
        assert!(unwound.is_err());
        let after = Block::small(2);
        assert!(!after.is_ours());
        after.free();
    });
}

#[test]
fn scopes_deeper_than_the_levels_still_bump_and_end() {
    fn nest(depth: usize) {
        scope(|| {
            let block = Block::small(depth as u8);
            assert!(block.is_ours());
            if depth > 0 {
                nest(depth - 1);
            }
            block.free();
        });
    }
    isolated(|| {
        let count = counted(|| nest(2 * MAX_LEVELS));
        assert_eq!((count.scopes, count.escaped_objects), (2 * MAX_LEVELS as u64 + 1, 0));
        let after = Block::small(1);
        assert!(!after.is_ours());
        after.free();
    });
}

#[test]
fn objects_outlive_the_thread_that_made_them() {
    isolated(|| {
        let in_use = stats().chunks_in_use;
        let block = std::thread::spawn(|| scope(|| Block::small(5))).join().unwrap();
        assert_eq!(stats().chunks_in_use, in_use + 1);
        assert!(block.holds());
        block.free();
        assert_eq!(stats().chunks_in_use, in_use);
    });
}

#[test]
fn a_thread_that_exits_returns_its_chunk_to_the_next() {
    isolated(|| {
        let address = || std::thread::spawn(|| scope(|| Block::small(1).freed_at())).join().unwrap();
        assert_eq!(address(), address());
    });
}

#[test]
fn a_scope_after_the_exit_handler_uses_the_inner_allocator() {
    isolated(|| {
        // SAFETY: the handler may run at any time on the thread it is for.
        unsafe { crate::local::on_thread_exit(std::ptr::null_mut()) };
        let block = scope(|| Block::small(1));
        assert!(!block.is_ours());
        block.free();
    });
}

#[test]
fn purged_memory_reads_as_zero_and_is_counted() {
    isolated(|| {
        purge();
        scope(|| Block::new(1000, 1, 0xAA).free());
        assert_eq!(purge(), 1000);
        scope(|| {
            let zeroed = Block::zeroed(1000);
            assert!(zeroed.holds());
            zeroed.free();
        });
    });
}

#[test]
fn a_full_chunk_that_empties_late_is_reused() {
    isolated(|| {
        let per_chunk = CHUNK_BYTES / MAX_OBJECT_BYTES;
        scope(|| {
            let full: Vec<Block> = (0..per_chunk).map(|byte| Block::new(MAX_OBJECT_BYTES, 1, byte as u8)).collect();
            let address = full[0].ptr;
            let pin = Block::small(7);
            full.into_iter().for_each(Block::free);
            let again: Vec<Block> = (0..per_chunk).map(|byte| Block::new(MAX_OBJECT_BYTES, 1, byte as u8)).collect();
            assert!(again.iter().any(|block| block.ptr == address));
            again.into_iter().for_each(Block::free);
            pin.free();
        });
    });
}

impl Block {
    fn freed_at(self) -> usize {
        let address = self.ptr.addr();
        self.free();
        address
    }
}
