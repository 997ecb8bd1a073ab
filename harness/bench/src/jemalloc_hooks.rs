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

#[cfg(not(test))]
use heapgate_alloc::mark;
use heapgate_alloc::marks;
use heapgate_alloc::segment::probes;
use heapgate_alloc::segment::stacks::StallKind;
#[cfg(test)]
use tests::mark;
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
    let ours = ours()?;
    let set: Vec<io::Result<()>> = (0..arenas).map(|arena| set_hooks(arena, ours)).collect();
    // The last is that of large objects, where it was never made: no thread allocates there yet.
    let refused = set.into_iter().take(arenas.saturating_sub(1).max(1) as usize).find_map(Result::err);
    if let Some(error) = refused {
        return Err(error);
    }
    marks(&[StallKind::FreshMapping, StallKind::Purge]);
    Ok(())
}

/// Hooks around jemalloc's own, for it to keep.
fn ours() -> io::Result<*mut extent_hooks_t> {
    let own = hooks_of(0)?;
    // SAFETY: jemalloc gave the address of its arena's hooks, which are constant.
    let own = *OWN.get_or_init(|| unsafe { *own });
    Ok(Box::into_raw(Box::new(extent_hooks_t {
        alloc: Some(alloc),
        dalloc: own.dalloc.map(|_| dalloc as _),
        decommit: own.decommit.map(|_| decommit as _),
        purge_lazy: own.purge_lazy.map(|_| purge_lazy as _),
        purge_forced: own.purge_forced.map(|_| purge_forced as _),
        ..own
    })))
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

/// Hooks that give a part of an extent back. jemalloc tries one after the other; one that is not done cost no call of the
/// kernel's (decommitting where memory is overcommitted), or was the way to the next.
macro_rules! gives_back {
    ($($name:ident),*) => {$(
        unsafe extern "C" fn $name(
            _: *mut extent_hooks_t,
            address: *mut c_void,
            bytes: usize,
            offset: usize,
            length: usize,
            arena: u32,
        ) -> bool {
            let kept = own!($name(address, bytes, offset, length, arena), true);
            if !kept {
                mark(StallKind::Purge);
                probes::purge(length as u64);
            }
            kept
        }
    )*};
}

gives_back!(decommit, purge_lazy, purge_forced);

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tikv_jemalloc_ctl::raw;
    use tikv_jemalloc_sys::{MALLOCX_ARENA, MALLOCX_TCACHE_NONE, dallocx, mallocx};

    use super::*;

    thread_local! {
        /// Marks of fresh mappings and of purges by this thread: hooks run on the thread that allocates or frees.
        static MARKED: Cell<[u64; 2]> = const { Cell::new([0; 2]) };
    }

    /// In the place of heapgate-alloc's, which takes marks only where slow calls are looked for.
    pub(super) fn mark(kind: StallKind) {
        let [fresh, purges] = MARKED.get();
        MARKED.set(match kind {
            StallKind::FreshMapping => [fresh + 1, purges],
            StallKind::Purge => [fresh, purges + 1],
            other => panic!("{other:?} is not the hooks' to tell"),
        });
    }

    fn marked(run: impl FnOnce()) -> [u64; 2] {
        MARKED.set([0; 2]);
        run();
        MARKED.get()
    }

    /// What jemalloc itself counts of `arena`: bytes that it has mapped, and times that it gave pages back.
    fn counted(arena: u32) -> (usize, u64) {
        tikv_jemalloc_ctl::epoch::advance().unwrap();
        let name = |key: &str| format!("stats.arenas.{arena}.{key}\0").into_bytes();
        // SAFETY: the types are those of the manual: `mapped` and `retained` are size_t, `*_nmadvise` are uint64_t.
        unsafe {
            let bytes = |key| raw::read::<usize>(&name(key)).unwrap();
            let times = |key| raw::read::<u64>(&name(key)).unwrap();
            (bytes("mapped") + bytes("retained"), times("dirty_nmadvise") + times("muzzy_nmadvise"))
        }
    }

    #[test]
    fn fresh_mappings_and_purges_are_marked_as_often_as_jemalloc_counts_them() {
        install().unwrap();
        // An arena of its own: other tests have theirs.
        let (mut arena, mut bytes) = (0_u32, size_of::<u32>());
        let mut hooks = ours().unwrap();
        // SAFETY: the control gives an unsigned, and takes a pointer to hooks, which stay.
        let made = unsafe {
            let new = (&raw mut hooks).cast();
            tikv_jemalloc_sys::mallctl(
                c"arenas.create".as_ptr(),
                (&raw mut arena).cast(),
                &raw mut bytes,
                new,
                size_of_val(&hooks),
            )
        };
        said(made).unwrap();
        for key in ["dirty_decay_ms", "muzzy_decay_ms"] {
            // SAFETY: the control takes an ssize_t.
            unsafe { raw::write(format!("arena.{arena}.{key}\0").as_bytes(), 0_isize).unwrap() };
        }
        let flags = MALLOCX_ARENA(arena as usize) | MALLOCX_TCACHE_NONE;
        // Each larger than all before together: none fits what was kept of them.
        for mib in [1_usize, 8, 32, 128] {
            let (mapped, given_back) = counted(arena);
            let mut block = null_mut();
            // SAFETY: the size is not 0.
            let taking = marked(|| block = unsafe { mallocx(mib << 20, flags) });
            assert!(!block.is_null());
            assert!(counted(arena).0 >= mapped + (mib << 20), "it was mapped");
            assert!(taking[0] >= 1 && taking[1] == 0, "{mib} MiB: {taking:?}");
            // SAFETY: the block is freed once, with the flags that it was allocated with.
            let giving = marked(|| unsafe { dallocx(block, flags) });
            let now = counted(arena);
            assert_eq!((giving[0], giving[1]), (0, now.1 - given_back), "{mib} MiB");
            assert!(giving[1] >= 1, "without decay pages are given back at once");
            // What is kept is not mapped anew.
            // SAFETY: as above.
            let again = marked(|| unsafe { dallocx(mallocx(mib << 20, flags), flags) });
            assert_eq!((again[0], again[1]), (0, counted(arena).1 - now.1));
            assert_eq!(counted(arena).0, now.0);
        }
    }
}
