//! What the unit tests share.

use crate::Region;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, PoisonError};

pub(crate) static REGION: Region<System> = Region::new(System);

/// Runs `test` on a thread of its own while no other test runs: the counters are the process's, and a joined thread
/// has given back its chunks.
pub(crate) fn isolated<R: Send>(test: impl FnOnce() -> R + Send) -> R {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|threads| match threads.spawn(test).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// A block of `size` bytes, filled with `byte`, that knows how to check and free itself; it may cross threads.
pub(crate) struct Block {
    pub ptr: *mut u8,
    pub layout: Layout,
    byte: u8,
}

// SAFETY: a block is plain memory with one owner, and `Region` allows frees from any thread.
unsafe impl Send for Block {}

impl Block {
    pub(crate) fn new(size: usize, align: usize, byte: u8) -> Self {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: no test asks for a size of 0.
        let ptr = unsafe { REGION.alloc(layout) };
        assert!(!ptr.is_null());
        assert_eq!(ptr.addr() % align, 0);
        // SAFETY: the block is `size` bytes long and new.
        unsafe { ptr.write_bytes(byte, size) };
        Self { ptr, layout, byte }
    }

    pub(crate) fn small(byte: u8) -> Self {
        Self::new(64, 8, byte)
    }

    pub(crate) fn zeroed(size: usize) -> Self {
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: no test asks for a size of 0.
        let ptr = unsafe { REGION.alloc_zeroed(layout) };
        assert!(!ptr.is_null());
        Self { ptr, layout, byte: 0 }
    }

    pub(crate) fn resize(&mut self, size: usize) {
        // SAFETY: the block is live with this layout, and `size` is not 0.
        let ptr = unsafe { REGION.realloc(self.ptr, self.layout, size) };
        assert!(!ptr.is_null());
        let kept = size.min(self.layout.size());
        self.ptr = ptr;
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        // SAFETY: the block is `size` bytes long, and `kept` is no more.
        unsafe { ptr.add(kept).write_bytes(self.byte, size - kept) };
    }

    pub(crate) fn holds(&self) -> bool {
        // SAFETY: the block is live and was filled to its size.
        let bytes = unsafe { std::slice::from_raw_parts(self.ptr, self.layout.size()) };
        // All equal the next, so all equal the first: two comparisons of memory, which Miri does fast.
        bytes[0] == self.byte && bytes[1..] == bytes[..bytes.len() - 1]
    }

    pub(crate) fn is_ours(&self) -> bool {
        crate::is_ours(self.ptr)
    }

    pub(crate) fn free(self) {
        assert!(self.holds(), "contents changed before the free");
        // SAFETY: the block is live with this layout, and `self` is consumed.
        unsafe { REGION.dealloc(self.ptr, self.layout) }
    }
}
