//! Assertions on what a thread allocates, for ordinary tests.

use heapgate_alloc::{ThreadWatch, Watched};

/// Runs `work` and counts what this thread allocates meanwhile. What other threads do is not counted, so tests that run in
/// parallel don't disturb each other; what `work` leaves to other threads isn't either.
///
/// # Panics
/// If it can't be counted, for instance because the crate lacks [`test_allocator!`](crate::test_allocator). A test that
/// counts nothing never passes.
///
/// ```
/// heapgate_bench::test_allocator!();
///
/// # fn main() {
/// let (text, watched) = heapgate_bench::watch(|| "four words of text".to_owned());
/// assert_eq!((watched.allocations, watched.left_bytes), (1, 18));
/// # drop(text);
/// # }
/// ```
#[track_caller]
pub fn watch<R>(work: impl FnOnce() -> R) -> (R, Watched) {
    let watch = match ThreadWatch::begin() {
        Ok(watch) => watch,
        Err(error) => panic!(
            "{error}; a test that counts allocations needs `heapgate_bench::test_allocator!();` once in its crate, and no other global allocator"
        ),
    };
    let result = work();
    (result, watch.end())
}

/// The limit of an assertion, of whatever type of integer.
///
/// # Panics
/// If it is negative.
#[doc(hidden)]
#[track_caller]
pub fn limit(number: impl TryInto<u64>) -> u64 {
    number.try_into().unwrap_or_else(|_| panic!("a limit is not negative"))
}

/// Makes heapgate's the global allocator of a crate of tests, so that its tests can count.
///
/// Without arguments it is [`Allocator`](crate::Allocator), with the switch of allocators; `test_allocator!(MiMalloc =
/// MiMalloc)` counts in front of an allocator of your own.
#[macro_export]
macro_rules! test_allocator {
    () => {
        #[global_allocator]
        static HEAPGATE_ALLOCATOR: $crate::Allocator = $crate::allocator();
    };
    ($allocator:ty = $new:expr) => {
        #[global_allocator]
        static HEAPGATE_ALLOCATOR: $crate::Telemetry<$allocator> = $crate::Telemetry::new($new);
    };
}

/// Asserts how many allocation calls (`alloc`, `alloc_zeroed`, `realloc`) a closure makes on this thread; returns what the
/// closure returns.
///
/// ```
/// heapgate_bench::test_allocator!();
///
/// # fn main() {
/// use heapgate_bench::assert_allocations;
///
/// let words: Vec<&str> = assert_allocations!(<= 3, || "a text of five words".split(' ').collect());
/// assert_eq!(words.len(), 5);
/// assert_allocations!(== 1, || Box::new(7));
/// # }
/// ```
///
/// # Panics
/// If it makes another number, or [can't be counted](crate::watch).
#[macro_export]
macro_rules! assert_allocations {
    ($compare:tt $limit:expr, $work:expr $(,)?) => {{
        let limit = $crate::limit($limit);
        let (result, watched) = $crate::watch($work);
        if !(watched.allocations $compare limit) {
            ::core::panic!(
                "{} allocations ({} of them reallocations, {} bytes in all), and there should be {} {limit}: {}",
                watched.allocations,
                watched.reallocations,
                watched.allocated_bytes,
                ::core::stringify!($compare),
                ::core::stringify!($work),
            );
        }
        result
    }};
}

/// Asserts that a closure allocates nothing on this thread; returns what the closure returns. It may free.
///
/// ```
/// heapgate_bench::test_allocator!();
///
/// # fn main() {
/// let words = heapgate_bench::assert_no_allocations!(|| "a text of five words".split(' ').count());
/// assert_eq!(words, 5);
/// # }
/// ```
///
/// # Panics
/// If it does, or [can't be counted](crate::watch).
#[macro_export]
macro_rules! assert_no_allocations {
    ($work:expr $(,)?) => {
        $crate::assert_allocations!(== 0, $work)
    };
}

/// Asserts how many bytes a closure has alive at one time on this thread, over what was alive before; returns what the
/// closure returns. The limit is in bytes, or a literal in `KiB`, `MiB` or `GiB`.
///
/// ```
/// heapgate_bench::test_allocator!();
///
/// # fn main() {
/// use heapgate_bench::assert_peak_live;
///
/// assert_peak_live!(< 1 MiB, || vec![0u8; 4096].len());
/// assert_peak_live!(<= 4096, || vec![0u8; 4096].len());
/// # }
/// ```
///
/// # Panics
/// If it has another number, or [can't be counted](crate::watch).
#[macro_export]
macro_rules! assert_peak_live {
    (@bytes $compare:tt $limit:expr, $shown:expr, $work:expr) => {{
        let limit = $crate::limit($limit);
        let (result, watched) = $crate::watch($work);
        if !(watched.peak_live_bytes $compare limit) {
            ::core::panic!(
                "{} bytes alive at one time (in at most {} objects), and there should be {} {}: {}",
                watched.peak_live_bytes,
                watched.peak_live_objects,
                ::core::stringify!($compare),
                $shown,
                ::core::stringify!($work),
            );
        }
        result
    }};
    ($compare:tt $number:literal $unit:ident, $work:expr $(,)?) => {
        $crate::assert_peak_live!(@bytes $compare ($number * $crate::bytes::$unit),
            ::core::concat!(::core::stringify!($number), " ", ::core::stringify!($unit)), $work)
    };
    ($compare:tt $limit:expr, $work:expr $(,)?) => {
        $crate::assert_peak_live!(@bytes $compare ($limit), ::core::concat!(::core::stringify!($limit), " bytes"), $work)
    };
}

/// Units of [`assert_peak_live!`](crate::assert_peak_live).
#[expect(non_upper_case_globals, reason = "the units as they are written")]
pub mod bytes {
    /// One byte.
    pub const B: u64 = 1;
    /// 1024 bytes.
    pub const KiB: u64 = 1 << 10;
    /// 1024 KiB.
    pub const MiB: u64 = 1 << 20;
    /// 1024 MiB.
    pub const GiB: u64 = 1 << 30;
}
