//! Walks the stack, inside an allocator's call.
//!
//! **How a stack is found.** By `_Unwind_Backtrace` of the compiler's runtime, which std links and panics use. Frame
//! pointers would be ten times as fast, but neither std nor most people's programs are built with them, and a chain that
//! breaks at the first C library ends or, worse, misleads. The tables that unwinding reads are in every executable, and
//! a sampled call stands at a call instruction, where they are right.
//!
//! **Why that is safe in an allocator.** Finding the tables goes through glibc's `_dl_find_object` (2.35), which takes
//! no lock; before it, libgcc took the loader's, and deadlocked with `dlopen`. So without it sampling is refused. Neither
//! libgcc (12 or later) nor glibc allocates on that path, and what is set up at the first use is done before `main`,
//! when sampling is switched on. (That libgcc is of version 12 or later is not checked: a distribution with glibc
//! 2.35 has it. Where frames are registered by hand, as just-in-time compilers do, libgcc 12 takes a lock of its
//! own.) There is no state between calls: a panic under way, or a signal at any point, finds nothing half done. A
//! walk ends at a function that a signal interrupted: its tables need not be right at that very instruction (in
//! libgcc's `_Unwind_RaiseException` they are not while it overwrites its own frame, and a walk through it crashed in
//! our stress test), and a handler's allocations are the handler's. Should anything below allocate through us after
//! all, or a signal handler do so meanwhile, a flag keeps it from sampling in its turn. It takes 2 to 3 KiB of the
//! stack.

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

pub(super) use walk::{collect, is_lock_free};

#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
mod walk {
    use super::Frames;
    use std::ffi::{c_int, c_void};

    /// `_Unwind_Reason_Code`: go on, and what ends a walk without meaning an end of the stack.
    const NO_REASON: c_int = 0;
    const NORMAL_STOP: c_int = 4;

    // The Itanium C++ ABI's unwinding interface, from the library that std itself links.
    unsafe extern "C" {
        fn _Unwind_Backtrace(
            trace: unsafe extern "C" fn(context: *mut c_void, argument: *mut c_void) -> c_int,
            argument: *mut c_void,
        ) -> c_int;
        fn _Unwind_GetIPInfo(context: *mut c_void, interrupted: *mut c_int) -> usize;
    }

    pub(in crate::stacks) fn is_lock_free() -> bool {
        // SAFETY: dlsym takes a handle and a C string.
        unsafe { !libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()).is_null() }
    }

    #[inline]
    pub(in crate::stacks) fn collect(frames: &mut Frames) {
        // SAFETY: `on_frame` is called with `frames` while this call lasts, one frame at a time, and does not unwind. How
        // the walk ended does not matter: what it found stands.
        unsafe { _Unwind_Backtrace(on_frame, std::ptr::from_mut(frames).cast()) };
    }

    unsafe extern "C" fn on_frame(context: *mut c_void, argument: *mut c_void) -> c_int {
        let mut interrupted = 0;
        // SAFETY: `collect` passed a `Frames` that nothing else uses meanwhile; `context` is the unwinder's own, and
        // `interrupted` is valid for the call to fill in.
        let (frames, address) =
            unsafe { (&mut *argument.cast::<Frames>(), _Unwind_GetIPInfo(context, &raw mut interrupted)) };
        // Beyond what a signal interrupted nothing is followed: see the head of this file.
        if address != 0 && frames.push(address as u64) && interrupted == 0 { NO_REASON } else { NORMAL_STOP }
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(miri))))]
mod walk {
    use super::Frames;

    pub(in crate::stacks) fn is_lock_free() -> bool {
        false
    }

    pub(in crate::stacks) fn collect(_: &mut Frames) {}
}
