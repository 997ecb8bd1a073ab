//! What the standard library does not tell of this machine.

use std::ffi::CStr;

/// Size of a page, bytes.
#[must_use]
pub fn page_bytes() -> u64 {
    // SAFETY: sysconf has no memory requirement.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The C library and its version.
#[must_use]
pub fn libc_version() -> String {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: returns a C string that lives as long as the library.
        let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
        format!("glibc {}", version.to_string_lossy())
    }
    #[cfg(not(target_env = "gnu"))]
    "unknown".to_owned()
}

/// The kernel's release, for instance `6.18.44`.
#[must_use]
pub fn kernel_release() -> String {
    // SAFETY: an all-zero utsname is a valid value of that plain C struct.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is valid for the call to fill in.
    if unsafe { libc::uname(&raw mut name) } != 0 {
        return String::new();
    }
    // SAFETY: on success the kernel has put a C string there.
    unsafe { CStr::from_ptr(name.release.as_ptr()) }.to_string_lossy().into_owned()
}
