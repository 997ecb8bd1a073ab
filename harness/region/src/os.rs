//! All that this crate asks of the operating system. Under Miri, which has no page protection, the range is one
//! zeroed block of the system allocator, and what the kernel would do to pages is done to bytes.

use std::ffi::c_void;

/// Reserves `bytes` of addresses, aligned to `align` (a power of two) and not yet usable.
///
/// # Errors
/// The error number, as under `RLIMIT_AS` (`ENOMEM`).
#[cfg(not(miri))]
pub(crate) fn reserve(bytes: usize, align: usize) -> Result<*mut u8, i32> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // PROT_NONE is not charged as committed memory, whatever the overcommit policy; `commit` is, chunk by chunk.
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no memory that exists.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes + align, libc::PROT_NONE, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL));
    }
    // The slack before and after is left mapped: it costs addresses only.
    Ok(start.cast::<u8>().map_addr(|addr| addr.next_multiple_of(align)))
}

#[cfg(miri)]
pub(crate) fn reserve(bytes: usize, align: usize) -> Result<*mut u8, i32> {
    use std::alloc::{GlobalAlloc, Layout, System};
    let layout = Layout::from_size_align(bytes, align).map_err(|_| libc::EINVAL)?;
    // SAFETY: the size is a non-zero constant.
    let start = unsafe { System.alloc_zeroed(layout) };
    if start.is_null() { Err(libc::ENOMEM) } else { Ok(start) }
}

/// Gives back a range from [`reserve`].
///
/// # Safety
/// All three are as they were there, and nobody uses the range.
#[cfg(not(miri))]
pub(crate) unsafe fn unreserve(start: *mut u8, bytes: usize, _align: usize) {
    // The slack around it stays mapped: how much lay before is forgotten, and it costs addresses only.
    // SAFETY: the caller's contract.
    unsafe { libc::munmap(start.cast(), bytes) };
}

#[cfg(miri)]
pub(crate) unsafe fn unreserve(start: *mut u8, bytes: usize, align: usize) {
    use std::alloc::{GlobalAlloc, Layout, System};
    // SAFETY: the caller's contract: the size and alignment are those of the allocation.
    unsafe { System.dealloc(start, Layout::from_size_align_unchecked(bytes, align)) };
}

/// Makes `bytes` at `start` readable and writable; they read as zero until written. False when the kernel won't.
///
/// # Safety
/// The span is page-aligned, inside the range from [`reserve`], and holds no object.
pub(crate) unsafe fn commit(start: *mut u8, bytes: usize) -> bool {
    if cfg!(miri) {
        return true;
    }
    // SAFETY: the caller's contract: the span is ours, so the change of protection concerns nobody else.
    unsafe { libc::mprotect(start.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) == 0 }
}

/// Gives the pages back; they read as zero from now on. False when the kernel kept them.
///
/// # Safety
/// As for [`commit`], on a span that was committed.
pub(crate) unsafe fn decommit(start: *mut u8, bytes: usize) -> bool {
    if cfg!(miri) {
        // SAFETY: the caller's contract: the span is committed and nobody holds an object in it.
        unsafe { start.write_bytes(0, bytes) };
        return true;
    }
    // SAFETY: the caller's contract: no object in the span, so nobody misses its contents.
    unsafe { libc::madvise(start.cast(), bytes, libc::MADV_DONTNEED) == 0 }
}

/// Makes a key whose `handler` runs at the exit of each thread that armed it.
///
/// # Errors
/// The error number, `EAGAIN` when the process has used up its keys.
pub(crate) fn exit_key(handler: unsafe extern "C" fn(*mut c_void)) -> Result<libc::pthread_key_t, i32> {
    let mut key = 0;
    // SAFETY: `key` is a valid place, and the handler may run on any thread at any time after.
    match unsafe { libc::pthread_key_create(&mut key, Some(handler)) } {
        0 => Ok(key),
        error => Err(error),
    }
}

/// Deletes a key that no thread has armed.
pub(crate) fn delete_key(key: libc::pthread_key_t) {
    // SAFETY: the key is one that `exit_key` made.
    unsafe { libc::pthread_key_delete(key) };
}

/// Arms `key` for the calling thread.
pub(crate) fn arm_exit(key: libc::pthread_key_t) -> bool {
    // Any value but null will do: the handler finds its state by thread, not by this pointer.
    // SAFETY: the key was made by `exit_key` and is never deleted; the value is never read through.
    unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(1)) == 0 }
}

/// The kernel's id of the calling thread. Asked anew each time, so it is right in a forked child too.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place; the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    (now.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(now.tv_nsec as u64)
}
