//! A scoped bump arena for code that was not written for one.
//!
//! [`Region<A>`](Region) is a [`GlobalAlloc`](std::alloc::GlobalAlloc). Inside [`scope`] the calling thread's
//! allocations are bumped from chunks of [`CHUNK_BYTES`] in one reserved range of addresses; outside a scope, and for
//! blocks above [`MAX_OBJECT_BYTES`], they go to `A`. A pointer is told by its address, so blocks may be freed
//! anywhere, any time, by any thread.
//!
//! ```
//! use heapgate_region::{Region, scope, stats};
//! use std::alloc::System;
//!
//! #[global_allocator]
//! static ALLOCATOR: Region<System> = Region::new(System);
//!
//! // The words live and die in the scope; the total leaves it by value.
//! let letters = scope(|| {
//!     let words: Vec<String> = "an arena for any code".split(' ').map(String::from).collect();
//!     words.iter().map(String::len).sum::<usize>()
//! });
//! assert_eq!(letters, 17);
//!
//! // The result was made in the scope and outlives it: valid for as long as it is held, and counted.
//! let kept: String = scope(|| "escapes".to_string());
//! assert_eq!(kept, "escapes");
//! # if heapgate_region::available() {
//! assert_eq!(stats().escaped_objects, 1);
//! # }
//! ```
//!
//! # Why it is memory-safe
//! A chunk counts its live objects. Its memory is used again only when it holds none, or, above a mark, when
//! everything that was allocated above that mark is known to be dead. So an object that escapes its scope stays valid
//! and pins its chunk: it costs memory, never correctness.
//!
//! # What it costs
//! The owning thread allocates and frees in its current chunk with plain loads and stores. A free in any other chunk
//! (of another thread, or one that this thread has filled) is one locked subtraction. Holes are not filled: memory that
//! is freed out of order comes back when its chunk is empty, when its scope ends, or when it is the last block. A
//! pinned chunk stays whole. Outside a scope the price is two comparisons that fail, to allocate as to free.
//!
//! # What is never released
//! In a process that counts into a segment (heapgate-alloc), each open scope and each [`Arena`] is noted there with its thread,
//! its age and the line that made it: `heapgate leaks` names those that are not given back. It costs a scope a
//! reading of the coarse clock and some stores, and one load without a segment.
//!
//! # What is shared
//! The range, its chunks and the counters belong to the process: every `Region<A>` in it draws on them, and a scope
//! holds for all of them on its thread. A block must go back through a `Region` whose `A` is the one that made it.
//! When the range can't be reserved, all goes to `A`; [`status`] says why.

#[cfg(not(target_pointer_width = "64"))]
compile_error!("heapgate-region reserves gigabytes of addresses: it needs 64-bit pointers");

mod alloc;
mod arena;
mod bump;
mod chunk;
mod local;
mod os;
mod range;
mod scope;
mod stats;
#[cfg(test)]
mod testing;

pub use alloc::Region;
pub use arena::Arena;
pub use local::MAX_OBJECT_BYTES;
pub use range::{CHUNK_BYTES, Status, available, is_ours, status};
pub use scope::{MAX_LEVELS, purge, scope};
pub use stats::{ESCAPES_KEPT, Escape, Stats, open_scopes, recent_escapes, stats};
