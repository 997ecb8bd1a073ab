//! Tells calls that the scheduler interrupted from calls that were slow by themselves.
//!
//! Linux's restartable sequences: each thread has registered (glibc does it) an area with a pointer to the description
//! of a critical section. When the thread is preempted, moved to another CPU or signalled while its instruction pointer
//! is outside that section, the kernel clears the pointer. So a window over a call stores the description of a section
//! that never runs, and looks afterwards whether the pointer is still there: two plain stores and a load.
//!
//! "Interrupted" means that the thread lost its CPU within the call, for whatever reason: also an allocator that waits
//! for a lock or for the kernel is found there. So limits look at all calls together, and the split says how much of
//! the time was not the allocator's own work.
//!
//! Source of the mechanism: the kernel's `rseq(2)`, and glibc's manual, "Restartable Sequences". What it can't see is
//! time taken by a hypervisor.

use std::sync::atomic::{AtomicIsize, Ordering::Relaxed, Ordering::SeqCst, compiler_fence};

use heapgate_segment::layout::InterruptedSplit;

/// Distance of a thread's rseq area from its thread pointer; 0 where there is none.
static AREA_OFFSET: AtomicIsize = AtomicIsize::new(0);

#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_env = "gnu", not(miri)))]
mod area {
    use super::{AREA_OFFSET, InterruptedSplit, Relaxed};
    use std::cell::UnsafeCell;
    use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

    /// `struct rseq` of the kernel's ABI, as far as used.
    #[repr(C, align(32))]
    pub(super) struct Area {
        cpu_id_start: AtomicU32,
        pub(super) cpu_id: AtomicI32,
        pub(super) critical_section: AtomicU64,
    }

    /// `struct rseq_cs` of the kernel's ABI.
    #[repr(C, align(32))]
    struct CriticalSection {
        version: u32,
        flags: u32,
        start_ip: u64,
        post_commit_offset: u64,
        abort_ip: u64,
    }

    struct Never(UnsafeCell<CriticalSection>);
    // SAFETY: written once, by `detect`, before `attach` publishes the level (release), which every window's call has
    // seen (acquire).
    unsafe impl Sync for Never {}

    static NEVER: Never = Never(UnsafeCell::new(CriticalSection {
        version: 0,
        flags: 0,
        start_ip: 0,
        post_commit_offset: 1,
        abort_ip: 0,
    }));

    /// Bytes from the start of [`never_runs`] to its abort handler.
    #[cfg(target_arch = "x86_64")]
    const ABORT_OFFSET: u64 = 6;
    #[cfg(target_arch = "aarch64")]
    const ABORT_OFFSET: u64 = 8;

    /// The code of the section: one instruction that is never run, the signature that the kernel demands before an
    /// abort handler, and the handler, never run either since the instruction pointer is never inside the section.
    #[unsafe(naked)]
    extern "C" fn never_runs() {
        #[cfg(target_arch = "x86_64")]
        core::arch::naked_asm!("ud2", ".long 0x53053053", "ud2");
        #[cfg(target_arch = "aarch64")]
        core::arch::naked_asm!("brk #0", ".inst 0xd428bc00", "brk #0");
    }

    /// The value that a window stores.
    #[inline(always)]
    pub(super) fn never() -> u64 {
        NEVER.0.get() as u64
    }

    /// This thread's area.
    ///
    /// # Safety
    /// `offset` is what glibc says.
    #[inline(always)]
    pub(super) unsafe fn of_this_thread(offset: isize) -> &'static Area {
        let thread_pointer: usize;
        // SAFETY: reads the thread pointer, which the ABI keeps at fs:0 (its own address) or in tpidr_el0.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            core::arch::asm!("mov {}, fs:0", out(reg) thread_pointer, options(nostack, preserves_flags, readonly, pure));
            #[cfg(target_arch = "aarch64")]
            core::arch::asm!("mrs {}, tpidr_el0", out(reg) thread_pointer, options(nostack, preserves_flags, nomem, pure));
        }
        // SAFETY: glibc keeps each thread's area at this distance for the thread's life; only atomics are reached
        // through it.
        unsafe { &*std::ptr::with_exposed_provenance::<Area>(thread_pointer.wrapping_add_signed(offset)) }
    }

    pub(super) fn detect() -> InterruptedSplit {
        // By name at run time, so that the crate links with a libc that lacks them.
        // SAFETY: dlsym takes a handle and a C string.
        let (offset, size) = unsafe {
            let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()).cast::<isize>();
            let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr()).cast::<u32>();
            if offset.is_null() || size.is_null() {
                return InterruptedSplit::NoLibc;
            }
            // SAFETY: glibc documents the symbols as constants of these types, valid while it is loaded.
            (*offset, *size)
        };
        // SAFETY: `offset` is glibc's.
        if size == 0 || unsafe { of_this_thread(offset) }.cpu_id.load(Relaxed) < 0 {
            return InterruptedSplit::NotRegistered;
        }
        let code = never_runs as *const () as u64;
        // SAFETY: `attach` lets one thread come here once, and nobody uses NEVER before it publishes the level.
        unsafe {
            (*NEVER.0.get()).start_ip = code;
            (*NEVER.0.get()).abort_ip = code + ABORT_OFFSET;
        }
        AREA_OFFSET.store(offset, std::sync::atomic::Ordering::Release);
        InterruptedSplit::Available
    }
}

/// Finds out whether interrupted calls can be told apart, and from then on does so. To be called once.
pub(crate) fn detect() -> InterruptedSplit {
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_env = "gnu", not(miri)))]
    return area::detect();
    #[allow(unreachable_code, reason = "reached on all other targets")]
    InterruptedSplit::NoArchitecture
}

/// A stretch of code that is watched.
pub(crate) struct Window {
    offset: isize,
}

impl Window {
    #[inline(always)]
    pub(crate) fn open() -> Self {
        let offset = AREA_OFFSET.load(Relaxed);
        #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_env = "gnu", not(miri)))]
        if offset != 0 {
            // SAFETY: `detect` stored glibc's offset.
            unsafe { area::of_this_thread(offset) }.critical_section.store(area::never(), Relaxed);
            // Costs no instruction; keeps an inlined allocator's work inside the window.
            compiler_fence(SeqCst);
        }
        Self { offset }
    }

    /// Whether the thread was interrupted since the window was opened.
    #[inline(always)]
    pub(crate) fn close(self) -> bool {
        #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_env = "gnu", not(miri)))]
        if self.offset != 0 {
            // SAFETY: `detect` stored glibc's offset.
            let section = &unsafe { area::of_this_thread(self.offset) }.critical_section;
            compiler_fence(SeqCst);
            // Not "is null": whoever else uses the area within the call leaves something of their own, and then nothing
            // is known.
            let interrupted = section.load(Relaxed) != area::never();
            // Not left behind: a window inside a signal handler must not make the one around it look undisturbed.
            section.store(0, Relaxed);
            return interrupted;
        }
        let _ = self.offset;
        false
    }
}
