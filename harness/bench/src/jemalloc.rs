//! jemalloc's own figures, and asking it to give memory back.

use std::ffi::{CStr, CString};
use std::io;

pub(crate) use heapgate_alloc::gauges::jemalloc as gauges;

/// jemalloc's number for "all arenas" in `arena.<i>` names (`MALLCTL_ARENAS_ALL`).
const ALL_ARENAS: usize = 4096;

/// Gives all unused dirty pages back to the kernel.
///
/// # Errors
/// What jemalloc said.
pub(crate) fn purge() -> io::Result<()> {
    call(c"thread.tcache.flush")?;
    call(&CString::new(format!("arena.{ALL_ARENAS}.purge"))?)
}

/// Calls a control that has no value.
fn call(name: &CStr) -> io::Result<()> {
    use std::ptr::null_mut;
    // SAFETY: `name` is a C string; null for input and output is what a control without value takes, and others refuse.
    match unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), null_mut(), null_mut(), null_mut(), 0) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Writes the heap profile to the file `path`.
///
/// # Errors
/// If profiling is off (`opt.prof`), or the file can't be written.
pub(crate) fn dump_heap(path: &CStr) -> io::Result<()> {
    let mut path = path.as_ptr();
    // SAFETY: `prof.dump` reads a pointer to a C string, whose size is that of a pointer; it writes nothing back.
    let code = unsafe {
        tikv_jemalloc_sys::mallctl(
            c"prof.dump".as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            (&raw mut path).cast(),
            size_of_val(&path),
        )
    };
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

/// Whether this build of jemalloc has the option `name`.
#[cfg(test)]
pub(crate) fn has_option(name: &str) -> bool {
    let mut mib = [0; 4];
    let depth = format!("opt.{name}").matches('.').count() + 1;
    tikv_jemalloc_ctl::raw::name_to_mib(format!("opt.{name}\0").as_bytes(), &mut mib[..depth]).is_ok()
}
