//! What this program was built from: noted by the build script.

use heapgate_core::report::Build;

/// This build.
pub fn this() -> Build {
    Build {
        heapgate: env!("CARGO_PKG_VERSION").to_owned(),
        rustc: env!("HEAPGATE_BUILD_RUSTC").to_owned(),
        lock_hash: env!("HEAPGATE_BUILD_LOCK_HASH").to_owned(),
        profile: env!("HEAPGATE_BUILD_PROFILE").to_owned(),
        target: env!("HEAPGATE_BUILD_TARGET").to_owned(),
        commit: env!("HEAPGATE_BUILD_COMMIT").to_owned(),
    }
}
