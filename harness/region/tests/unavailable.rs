//! Without room for the range the program runs on the inner allocator, and is told why. Each case is a child of this
//! executable under its own limit: a process reserves once.

use heapgate_region::{Region, Status, available, is_ours, scope, stats, status};
use std::alloc::System;
use std::process::Command;

#[global_allocator]
static ALLOCATOR: Region<System> = Region::new(System);

/// Each case: the argument that names it, and what the child does.
const CASES: [(&str, fn()); 3] = [
    ("too_few_addresses_means_no_range_and_no_harm", || {
        limit(libc::RLIMIT_AS, 512 << 20);
        assert_eq!(status(), Status::Unused);
        assert!(!available());
        assert_eq!(status(), Status::Unavailable { errno: libc::ENOMEM });
        let text = scope(|| "x".repeat(100));
        assert!(!is_ours(text.as_ptr()) && text.len() == 100);
        assert_eq!((stats().objects, stats().escaped_objects), (0, 0));
    }),
    ("fewer_addresses_mean_a_smaller_range", || {
        limit(libc::RLIMIT_AS, 6 << 30);
        let text = scope(|| "x".repeat(100));
        assert!(is_ours(text.as_ptr()));
        assert_eq!(status(), Status::Active { range_bytes: 4 << 30 });
    }),
    ("a_chunk_that_is_not_committed_means_the_inner_allocator", || {
        // Memory that the inner allocator keeps: under the limit it can get no more either. The last stays on top, so
        // that the heap is not trimmed.
        let mut kept: Vec<Vec<u8>> = (0..65).map(|_| vec![1; 16 << 10]).collect();
        kept.drain(..64);
        assert!(available());
        limit(libc::RLIMIT_DATA, 0);
        let texts = scope(|| [1, 2].map(|n| vec![n; 1000]));
        assert!(texts.iter().all(|text| !is_ours(text.as_ptr())));
        assert_eq!((stats().exhausted_fallbacks, stats().chunks_in_use), (2, 0));
    }),
];

/// Sets the soft and hard limit `resource` to `bytes`.
#[allow(clippy::useless_conversion, reason = "the type of a resource differs between C libraries")]
fn limit(resource: libc::__rlimit_resource_t, bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `limit` is a valid value.
    assert_eq!(unsafe { libc::setrlimit(resource.into(), &limit) }, 0);
}

fn main() {
    if cfg!(miri) {
        // No limits and no children there.
        return;
    }
    let asked = std::env::args().nth(1);
    if let Some((_, case)) = CASES.iter().find(|(name, _)| asked.as_deref() == Some(name)) {
        return case();
    }
    let this = std::env::current_exe().expect("the test's own path");
    for (name, _) in CASES {
        let child = Command::new(&this).arg(name).status().expect("the test starts itself");
        assert!(child.success(), "{name}: {child}");
        println!("test {name} ... ok");
    }
}
