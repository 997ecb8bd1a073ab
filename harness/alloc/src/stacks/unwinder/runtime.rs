//! The walk of the compiler's runtime.

use std::ffi::{c_int, c_void};

use super::Frames;

/// `_Unwind_Reason_Code`: go on, and what ends a walk without meaning an end of the stack.
const NO_REASON: c_int = 0;
const NORMAL_STOP: c_int = 4;

// The Itanium C++ ABI's unwinding interface, from the library that std itself links.
unsafe extern "C" {
    pub(super) fn _Unwind_Backtrace(
        trace: unsafe extern "C" fn(context: *mut c_void, argument: *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIPInfo(context: *mut c_void, interrupted: *mut c_int) -> usize;
}

pub(super) fn is_lock_free() -> bool {
    // SAFETY: dlsym takes a handle and a C string.
    unsafe { !libc::dlsym(libc::RTLD_DEFAULT, c"_dl_find_object".as_ptr()).is_null() }
}

#[inline(always)]
pub(super) fn walk(frames: &mut Frames) {
    // SAFETY: `on_frame` is called with `frames` while this call lasts, one frame at a time, and does not unwind. How
    // the walk ended does not matter: what it found stands.
    unsafe { _Unwind_Backtrace(on_frame, std::ptr::from_mut(frames).cast()) };
}

unsafe extern "C" fn on_frame(context: *mut c_void, argument: *mut c_void) -> c_int {
    let mut interrupted = 0;
    // SAFETY: `walk` passed a `Frames` that nothing else uses meanwhile; `context` is the unwinder's own, and
    // `interrupted` is valid for the call to fill in.
    let (frames, address) =
        unsafe { (&mut *argument.cast::<Frames>(), _Unwind_GetIPInfo(context, &raw mut interrupted)) };
    // Beyond what a signal interrupted nothing is followed: see the parent's head.
    if address != 0 && frames.push(address as u64) && interrupted == 0 { NO_REASON } else { NORMAL_STOP }
}
