//! Static probes (USDT) of the provider `heapgate`: what bpftrace, perf or SystemTap can attach to while a program runs.
//!
//! A probe is a `nop` and a note in the executable that says where it lies and in which registers its arguments are. One whose
//! arguments cost something is skipped by a look at its semaphore, a word that the kernel raises while somebody is attached.
//! This file is the one source: `docs/probes.md` is generated from [`ALL`], and a test holds the notes of the real executable
//! to it.

/// One probe, for who documents or checks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Its name; the provider is `heapgate`.
    pub name: &'static str,
    /// When it fires.
    pub help: &'static str,
    /// Names of its arguments, in order (`arg0` is the first), and what each is. All are signed 64-bit words.
    pub arguments: &'static [(&'static str, &'static str)],
    /// Whether it has a semaphore: its arguments are only made while somebody is attached.
    pub has_semaphore: bool,
}

/// Under Miri there is no inline assembly; under loom nothing of this is built.
macro_rules! fire {
    ($macro:ident, $name:ident $(, $value:expr)*) => {{
        #[cfg(not(miri))]
        ::probe::$macro!(heapgate, $name $(, $value)*);
        #[cfg(miri)]
        let _ = ($($value,)*);
    }};
}

macro_rules! probes {
    ($($kind:ident $name:ident { $help:literal $($argument:ident: $about:literal)* })*) => {
        /// Every probe.
        pub const ALL: &[Probe] = &[$(Probe {
            name: stringify!($name),
            help: $help,
            arguments: &[$((stringify!($argument), $about)),*],
            has_semaphore: probes!(@semaphore $kind),
        }),*];

        $(probes!(@function $kind $name $help $($argument)*);)*
    };
    (@semaphore plain) => { false };
    (@semaphore lazy) => { true };
    (@function plain $name:ident $help:literal $($argument:ident)*) => {
        #[doc = $help]
        #[inline(always)]
        pub fn $name($($argument: u64),*) {
            fire!(probe, $name $(, $argument)*);
        }
    };
    (@function lazy $($rest:tt)*) => {};
}

probes! {
    plain stall_start { "A call of the allocator that is to be timed begins. Not before calls that are only counted."
        operation: "0 alloc, 1 alloc_zeroed, 2 realloc, 3 dealloc"
        bytes: "size asked for; of dealloc, the size given back" }
    plain stall_stop { "The timed call has returned, and is not recorded yet."
        operation: "as above"
        bytes: "as above" }
    lazy stall_done { "The timed call was recorded in the segment's histogram."
        ticks: "its time in the segment's clock: the very number whose bucket was counted up"
        ns: "its time in nanoseconds; 0 while the clock's rate is not known yet, some milliseconds after the start"
        bytes: "as above"
        operation: "as above"
        interrupted: "1 if the scheduler interrupted it, else 0"
        weight: "calls that it stands for: 1, or the period of sampling" }
    lazy scope_start { "A region's scope begins."
        scope: "its number in its thread, from 1"
        depth: "scopes around it"
        file: "address of the file's name, where the scope is in the source"
        file_bytes: "length of that name"
        line: "line in that file" }
    plain scope_end { "A region's scope ends."
        scope: "its number in its thread"
        escaped_objects: "objects that outlive it"
        escaped_bytes: "their bytes" }
    plain escape { "A scope ended with objects alive."
        scope: "its number in its thread"
        objects: "objects that outlive it"
        bytes: "their bytes" }
    plain purge { "Pages go back to the kernel: of a region's empty chunks (`heapgate_region::purge`); all that jemalloc can spare (`heapgate tune purge`); one of jemalloc's extents (only in trials whose slow calls are taken: jemalloc's other purges are not seen)."
        bytes: "bytes that had been used in the chunks; by how much RSS fell; bytes of the extent's pages" }
    plain arena_start { "An `Arena` was made."
        arena: "its number in its process, from 1; 0 in a process without a segment" }
    plain arena_end { "An `Arena` was released."
        arena: "its number"
        bytes: "bytes that it held" }
}

/// [`ALL`]'s `stall_done`. `arguments`, in its order, are made only while somebody is attached.
#[inline(always)]
pub fn stall_done(arguments: impl FnOnce() -> [u64; 6]) {
    let made = core::cell::LazyCell::new(arguments);
    fire!(probe_lazy, stall_done, made[0], made[1], made[2], made[3], made[4], made[5]);
}

/// [`ALL`]'s `scope_start`. `arguments`, in its order, are made only while somebody is attached.
#[inline(always)]
pub fn scope_start(arguments: impl FnOnce() -> [u64; 5]) {
    let made = core::cell::LazyCell::new(arguments);
    fire!(probe_lazy, scope_start, made[0], made[1], made[2], made[3], made[4]);
}
