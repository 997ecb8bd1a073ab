//! What a slow call of jemalloc's spends its time with: hooks around its own, which say so
//! ([`heapgate_alloc::mark`]).
//!
//! Installed only where slow calls are looked for: with hooks of others than itself jemalloc takes a longer way to the
//! kernel (it marks the thread as re-entrant, and asks whether an extent can be unmapped instead of knowing), some ten ns
//! beside a system call.

use std::ffi::{CString, c_int, c_void};
use std::io;
use std::ptr::null_mut;
use std::sync::OnceLock;

use heapgate_alloc::segment::probes;
use heapgate_alloc::segment::stacks::StallKind;
use heapgate_alloc::{mark, marks};
use tikv_jemalloc_sys::extent_hooks_t;

/// Above jemalloc's default `oversize_threshold` (8 MiB): the arena for such objects exists only once there was one.
const OVERSIZE_BYTES: usize = 9 << 20;

/// jemalloc's own hooks, all arenas' alike, as they were before ours.
static OWN: OnceLock<extent_hooks_t> = OnceLock::new();

/// Makes jemalloc say in every arena that it has, and in those it will make for threads, when it maps fresh memory and when it
/// gives memory back.
///
/// # Errors
/// What jemalloc said; then no kind is told.
pub(crate) fn install() -> io::Result<()> {
    // SAFETY: the size is not 0, and the block is freed as it was allocated, by the allocator that gave it.
    unsafe {
        let block = tikv_jemalloc_sys::mallocx(OVERSIZE_BYTES, 0);
        if !block.is_null() {
            tikv_jemalloc_sys::dallocx(block, 0);
        }
    }
    let arenas = tikv_jemalloc_ctl::arenas::narenas::read().map_err(|error| io::Error::other(error.to_string()))?;
    let own = hooks_of(0)?;
    // SAFETY: jemalloc gave the address of its arena's hooks, which are constant.
    let own = *OWN.get_or_init(|| unsafe { *own });
    let ours = extent_hooks_t {
        alloc: Some(alloc),
        dalloc: own.dalloc.map(|_| dalloc as _),
        decommit: own.decommit.map(|_| decommit as _),
        purge_lazy: own.purge_lazy.map(|_| purge_lazy as _),
        purge_forced: own.purge_forced.map(|_| purge_forced as _),
        ..own
    };
    // For jemalloc to keep.
    let ours: *mut extent_hooks_t = Box::into_raw(Box::new(ours));
    let set: Vec<io::Result<()>> = (0..arenas).map(|arena| set_hooks(arena, ours)).collect();
    // The last is that of large objects, where it was never made: no thread allocates there yet.
    let refused = set.into_iter().take(arenas.saturating_sub(1).max(1) as usize).find_map(Result::err);
    if let Some(error) = refused {
        return Err(error);
    }
    marks(&[StallKind::FreshMapping, StallKind::Purge]);
    Ok(())
}

fn hooks_of(arena: u32) -> io::Result<*mut extent_hooks_t> {
    let mut hooks: *mut extent_hooks_t = null_mut();
    let mut bytes = size_of_val(&hooks);
    let name = name(arena)?;
    // SAFETY: the name is a C string; the control gives a pointer, for which `hooks` has room.
    let code =
        unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), (&raw mut hooks).cast(), &raw mut bytes, null_mut(), 0) };
    said(code).map(|()| hooks)
}

/// An arena that was not made yet is made by this.
fn set_hooks(arena: u32, mut hooks: *mut extent_hooks_t) -> io::Result<()> {
    let name = name(arena)?;
    let bytes = size_of_val(&hooks);
    // SAFETY: the name is a C string; the control takes a pointer to hooks, which stay for the process's life.
    said(unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), null_mut(), null_mut(), (&raw mut hooks).cast(), bytes) })
}

fn name(arena: u32) -> io::Result<CString> {
    Ok(CString::new(format!("arena.{arena}.extent_hooks"))?)
}

fn said(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// jemalloc's own hook called `name`, with the hooks as it knows them; the value where there is none means "not done".
macro_rules! own {
    ($name:ident($($argument:expr),*), $not_done:expr) => {
        match OWN.get() {
            // SAFETY: jemalloc calls ours as it would call its own, and its own look at no hooks but the arena's number.
            Some(own) => own.$name.map_or($not_done, |hook| unsafe { hook(std::ptr::from_ref(own).cast_mut(), $($argument),*) }),
            None => $not_done,
        }
    };
}

unsafe extern "C" fn alloc(
    _: *mut extent_hooks_t,
    address: *mut c_void,
    bytes: usize,
    alignment: usize,
    zero: *mut bool,
    commit: *mut bool,
    arena: u32,
) -> *mut c_void {
    mark(StallKind::FreshMapping);
    own!(alloc(address, bytes, alignment, zero, commit, arena), null_mut())
}

unsafe extern "C" fn dalloc(
    _: *mut extent_hooks_t,
    address: *mut c_void,
    bytes: usize,
    committed: bool,
    arena: u32,
) -> bool {
    let kept = own!(dalloc(address, bytes, committed, arena), true);
    // With `retain` it keeps the memory, and nothing happened.
    if !kept {
        mark(StallKind::Purge);
    }
    kept
}

unsafe extern "C" fn decommit(
    _: *mut extent_hooks_t,
    address: *mut c_void,
    bytes: usize,
    offset: usize,
    length: usize,
    arena: u32,
) -> bool {
    let kept = own!(decommit(address, bytes, offset, length, arena), true);
    if !kept {
        mark(StallKind::Purge);
    }
    kept
}

unsafe extern "C" fn purge_lazy(
    _: *mut extent_hooks_t,
    address: *mut c_void,
    bytes: usize,
    offset: usize,
    length: usize,
    arena: u32,
) -> bool {
    mark(StallKind::Purge);
    probes::purge(length as u64);
    own!(purge_lazy(address, bytes, offset, length, arena), true)
}

unsafe extern "C" fn purge_forced(
    _: *mut extent_hooks_t,
    address: *mut c_void,
    bytes: usize,
    offset: usize,
    length: usize,
    arena: u32,
) -> bool {
    mark(StallKind::Purge);
    probes::purge(length as u64);
    own!(purge_forced(address, bytes, offset, length, arena), true)
}
