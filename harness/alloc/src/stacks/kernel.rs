//! What the kernel did with a thread during a slow call: gave it a page, or another thread its CPU.
//!
//! Each thread counts its own page faults and switches by `perf_event_open(2)`, into a page that the kernel writes and the
//! thread reads: a call costs one load more, of where the kernel will write next, and only a slow call looks at what it
//! wrote. The kernel records a fault at each sample of a period of 1 (and leaves some out where they come by the 100,000 a
//! second), and for each switch whether the thread was preempted or gave its CPU up, as who waits for a lock does.
//!
//! Where that is refused, as in most containers, nothing is told of faults and locks, and nothing is guessed.

use std::cell::Cell;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed},
};

use heapgate_segment::stacks::StallKind;

/// Whether threads are to count.
static IS_ON: AtomicBool = AtomicBool::new(false);

thread_local! {
    // Without destructor and with constant initial value: an access is a load, at any time in a thread's life.
    static RING: Cell<Standing> = const { Cell::new(Standing::New) };
    /// Where the kernel was to write next when the call under way began.
    static HEAD: Cell<u64> = const { Cell::new(0) };
}

#[derive(Debug, Clone, Copy)]
enum Standing {
    /// This thread has not asked.
    New,
    /// It asks at this moment, or was refused, or its end has come.
    Without,
    With(NonNull<Ring>),
}

const PAGE: usize = 4096;

/// The kernel's `struct perf_event_mmap_page`, as far as used, and the page of records behind it.
#[repr(C)]
struct Ring {
    unused: [AtomicU64; 128],
    data_head: AtomicU64,
    unused_too: [AtomicU64; 383],
    data: [AtomicU64; PAGE / 8],
}

const _: () = assert!(size_of::<Ring>() == 2 * PAGE && std::mem::offset_of!(Ring, data_head) == 1024);

/// What happened during a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub(super) faults: u64,
    /// Times the thread gave its CPU up.
    pub(super) waits: u64,
    /// Times it was taken from it.
    pub(super) preemptions: u64,
}

/// Asks whether the kernel allows it, and if it does, has threads count from now on. Returns the kinds that it tells.
pub(super) fn switch_on() -> &'static [StallKind] {
    let is_allowed = matches!(RING.get(), Standing::With(_)) || open().map(unmap).is_ok();
    IS_ON.store(is_allowed, Relaxed);
    if is_allowed { &[StallKind::PageFault, StallKind::LockWait] } else { &[] }
}

/// A call is about to begin.
#[inline]
pub(super) fn before_call() {
    if !IS_ON.load(Relaxed) {
        return;
    }
    match RING.get() {
        // SAFETY: the ring of this thread stays mapped until `thread_ends`, which puts another standing in its place first.
        Standing::With(ring) => HEAD.set(unsafe { ring.as_ref() }.data_head.load(Relaxed)),
        Standing::Without => {}
        Standing::New => first_call(),
    }
}

#[cold]
#[inline(never)]
fn first_call() {
    // A thread without a slot has no hook at its end, and would leave the mapping.
    if crate::thread::current().is_none() {
        return;
    }
    // A signal handler that interrupts this finds nothing half done.
    RING.set(Standing::Without);
    if let Ok(ring) = open() {
        RING.set(Standing::With(ring));
        before_call();
    }
}

/// What happened since [`before_call`]; `None` where it is not known.
pub(super) fn since_begin() -> Option<Seen> {
    let Standing::With(ring) = RING.get() else { return None };
    // SAFETY: as in `before_call`.
    let ring = unsafe { ring.as_ref() };
    // Acquire: the kernel writes the records before it moves the head.
    read(&ring.data, HEAD.get(), ring.data_head.load(Acquire))
}

/// The records from `head` to `end`: each has a type in 32 bits, flags in 16 and its size in 16. `None` if there were more
/// than the page holds.
fn read(data: &[AtomicU64; PAGE / 8], mut head: u64, end: u64) -> Option<Seen> {
    const SAMPLE: u64 = 9;
    const SWITCH: u64 = 14;
    const SWITCHED_OUT: u64 = 1 << 13;
    const PREEMPTED: u64 = 1 << 14;
    if end.wrapping_sub(head) > PAGE as u64 {
        return None;
    }
    let mut seen = Seen::default();
    while head < end {
        let record = data[(head / 8) as usize % data.len()].load(Relaxed);
        let (kind, flags, bytes) = (record & 0xFFFF_FFFF, (record >> 32) & 0xFFFF, record >> 48);
        match kind {
            SAMPLE => seen.faults += 1,
            SWITCH if flags & SWITCHED_OUT == 0 => {}
            SWITCH if flags & PREEMPTED != 0 => seen.preemptions += 1,
            SWITCH => seen.waits += 1,
            _ => {}
        }
        head += bytes.max(8);
    }
    Some(seen)
}

/// This thread ends: the kernel stops counting.
pub(crate) fn thread_ends() {
    if let Standing::With(ring) = RING.replace(Standing::Without) {
        unmap(ring);
    }
}

fn unmap(ring: NonNull<Ring>) {
    // SAFETY: `open` mapped exactly this, and nobody refers to it any more: only this thread did, by RING.
    unsafe { libc::munmap(ring.as_ptr().cast(), size_of::<Ring>()) };
}

/// `struct perf_event_attr` of the kernel's first version of it.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

/// Has the kernel count for this thread. Three calls of the kernel, and nothing of the C library's.
fn open() -> io::Result<NonNull<Ring>> {
    const SOFTWARE: u32 = 1;
    const PAGE_FAULTS: u64 = 2;
    const EXCLUDE_KERNEL: u64 = 1 << 5;
    const EXCLUDE_HYPERVISOR: u64 = 1 << 6;
    const CONTEXT_SWITCH: u64 = 1 << 26;
    const CLOSE_ON_EXEC: u64 = 1 << 3;
    let attributes = Attributes {
        kind: SOFTWARE,
        size: size_of::<Attributes>() as u32,
        config: PAGE_FAULTS,
        sample_period: 1,
        flags: EXCLUDE_KERNEL | EXCLUDE_HYPERVISOR | CONTEXT_SWITCH,
        // Nobody waits for it: never.
        wakeup_events: u32::MAX,
        ..Attributes::default()
    };
    let (this_thread, any_cpu, no_group) = (0, -1, -1);
    // SAFETY: the attributes are valid for the call, and say their size.
    let fd = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, this_thread, any_cpu, no_group, CLOSE_ON_EXEC)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // Not writable: then the kernel writes on over what nobody has read.
    // SAFETY: a fresh mapping at an address of the kernel's choice touches no memory of ours; `fd` is this function's, and the
    // mapping keeps what it stands for.
    let base = unsafe {
        let base = libc::mmap(std::ptr::null_mut(), size_of::<Ring>(), libc::PROT_READ, libc::MAP_SHARED, fd as i32, 0);
        libc::close(fd as i32);
        base
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(records: &[(u64, u64, u64, u64)]) -> Box<[AtomicU64; PAGE / 8]> {
        let data = Box::new([const { AtomicU64::new(0) }; PAGE / 8]);
        for &(at, kind, flags, bytes) in records {
            data[(at / 8) as usize % data.len()].store(kind | flags << 32 | bytes << 48, Relaxed);
        }
        data
    }

    #[test]
    fn faults_waits_and_preemptions_are_told_across_the_end_of_the_page() {
        let data = ring(&[
            (4080, 9, 2, 8),
            (4088, 14, 1 << 13, 8),
            (4096, 14, 0, 8),
            (4104, 14, 1 << 13 | 1 << 14, 8),
            (4112, 9, 2, 16),
            (4128, 5, 0, 24),
        ]);
        let all = Seen { faults: 2, waits: 1, preemptions: 1 };
        assert_eq!(read(&data, 4080, 4152), Some(all));
        assert_eq!(read(&data, 4088, 4096), Some(Seen { waits: 1, ..Seen::default() }));
        assert_eq!(read(&data, 4152, 4152), Some(Seen::default()));
        assert_eq!(read(&data, 0, 4104), None, "more than there is room for");
    }

    #[test]
    fn records_without_a_size_end() {
        assert_eq!(read(&ring(&[]), 0, 4096), Some(Seen::default()));
        assert_eq!(read(&ring(&[]), 5000, 100), None);
    }
}
