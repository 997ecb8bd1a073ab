//! Walks the stack, inside an allocator's call.
//!
//! **How a stack is found.** By the tables of unwinding, which are in every executable and which a sampled call, that stands at
//! a call instruction, finds right. Frame pointers would need no tables, but most people's programs are built without, and a
//! chain that breaks at the first C library ends or, worse, misleads. Two walks read the tables. `_Unwind_Backtrace` of the
//! compiler's runtime, which std links and panics use, reads them anew for each frame, which takes 100 ns and more. So what
//! they say of a call site is kept (`rules`), as one word for each, and most walks only follow those: a few ns a frame.
//! Where anything is out of the ordinary (code that `dlclose` may unmap, a signal's frame, a caller that is not found by the
//! stack's or the frame's pointer) the whole walk is the runtime's.
//!
//! **Why that is safe in an allocator.** Finding the tables goes through glibc's `_dl_find_object` (2.35), which takes
//! no lock; before it, libgcc took the loader's, and deadlocked with `dlopen`. So without it sampling is refused. Neither
//! libgcc (12 or later) nor glibc allocates on that path, and what is set up at the first use is done before `main`,
//! when sampling is switched on. (That libgcc is of version 12 or later is not checked: a distribution with glibc
//! 2.35 has it. Where frames are registered by hand, as just-in-time compilers do, libgcc 12 takes a lock of its
//! own.) There is no state between calls but the kept words, each of which is whole by itself: a panic under way, or a
//! signal at any point, finds nothing half done. A walk ends at a function that a signal interrupted: its tables need not be
//! right at that very instruction (in libgcc's `_Unwind_RaiseException` they are not while it overwrites its own frame, and a
//! walk through it crashed in our stress test), and a handler's allocations are the handler's. It takes 2 to 3 KiB of the
//! stack.
//!
//! With debug assertions each walk by kept rules is repeated by the runtime, and must have found the same.

#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
mod runtime;

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu", not(miri)))]
mod call_frames;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu", not(miri)))]
mod rules;

use heapgate_segment::stacks::MAX_FRAMES;

/// Return addresses, the innermost first.
pub(super) struct Frames {
    addresses: [u64; MAX_FRAMES],
    len: usize,
}

impl Frames {
    pub(super) const fn new() -> Self {
        Self { addresses: [0; MAX_FRAMES], len: 0 }
    }

    /// False when there is no more room.
    #[cfg_attr(
        not(all(target_os = "linux", target_env = "gnu", not(miri))),
        expect(dead_code, reason = "nothing walks")
    )]
    #[inline]
    fn push(&mut self, address: u64) -> bool {
        let Some(place) = self.addresses.get_mut(self.len) else { return false };
        *place = address;
        self.len += 1;
        self.len < MAX_FRAMES
    }

    pub(super) fn taken(&self) -> &[u64] {
        self.addresses.get(..self.len).unwrap_or(&self.addresses)
    }
}

pub(super) use walk::{collect, warm_up};

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu", not(miri)))]
mod walk {
    use super::{Frames, rules, runtime};

    /// Whether stacks can be taken here; sets up what that needs.
    pub(in crate::stacks) fn warm_up() -> bool {
        let possible = runtime::is_lock_free();
        if possible {
            rules::set_up();
            // Each walks once, that what is done at the first time is done.
            let mut frames = Frames::new();
            runtime::walk(&mut frames);
            collect(&mut frames);
        }
        possible
    }

    #[inline(never)]
    pub(in crate::stacks) fn collect(frames: &mut Frames) {
        frames.len = 0;
        if !rules::walk(frames) {
            frames.len = 0;
            runtime::walk(frames);
        } else if cfg!(debug_assertions) {
            let mut expected = Frames::new();
            runtime::walk(&mut expected);
            // The first is in this function, at another instruction.
            if frames.taken().get(1..) != expected.taken().get(1..) {
                // A panic would allocate.
                std::process::abort();
            }
        }
    }
}

#[cfg(all(not(target_arch = "x86_64"), target_os = "linux", target_env = "gnu", not(miri)))]
mod walk {
    use super::{Frames, runtime};

    pub(in crate::stacks) fn warm_up() -> bool {
        let possible = runtime::is_lock_free();
        if possible {
            runtime::walk(&mut Frames::new());
        }
        possible
    }

    #[inline(never)]
    pub(in crate::stacks) fn collect(frames: &mut Frames) {
        runtime::walk(frames);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
mod walk {
    use super::Frames;

    pub(in crate::stacks) fn warm_up() -> bool {
        false
    }

    pub(in crate::stacks) fn collect(_: &mut Frames) {}
}
