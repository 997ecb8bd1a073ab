//! The allocator under test, chosen at start-up: one executable measures them all.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU8, Ordering::Acquire, Ordering::Relaxed, Ordering::Release, fence};

use heapgate_region::Region;
use tikv_jemallocator::Jemalloc;

use crate::allocator::Base;
use crate::inject::stalls;

/// The environment variable that names the allocator: a [`Base`]'s name. Without it, jemalloc.
pub const ALLOCATOR_VARIABLE: &str = "HEAPGATE_ALLOCATOR";

/// No allocator, or one by a detour.
const UNDECIDED: u8 = 0;
const SYSTEM: u8 = 1;
const JEMALLOC: u8 = 2;
const REGION_SYSTEM: u8 = 3;
const REGION_JEMALLOC: u8 = 4;

/// Decided at the first call and never changed: a block must be freed by the allocator that gave it.
static DECIDED: AtomicU8 = AtomicU8::new(UNDECIDED);

/// What calls look at: the same, or [`UNDECIDED`] while they are to make the [`detour`], which so costs others nothing.
static CHOICE: AtomicU8 = AtomicU8::new(UNDECIDED);

static REGION_OVER_SYSTEM: Region<System> = Region::new(System);
static REGION_OVER_JEMALLOC: Region<Jemalloc> = Region::new(Jemalloc);

/// A global allocator that is one of several: see [`ALLOCATOR_VARIABLE`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Switch;

/// The allocator in force.
#[must_use]
pub fn in_force() -> Base {
    match decided() {
        SYSTEM => Base::System,
        REGION_SYSTEM => Base::RegionSystem,
        REGION_JEMALLOC => Base::RegionJemalloc,
        _ => Base::Jemalloc,
    }
}

/// The allocator in force, if the [`Switch`] is this program's global allocator: a program allocates before `main`.
#[must_use]
pub fn in_use() -> Option<Base> {
    (DECIDED.load(Relaxed) != UNDECIDED).then(in_force)
}

/// From now on calls go by [`stalls::before_call`], or no longer do. Only where the [`Switch`] is [`in_use`].
pub(crate) fn detour(on: bool) {
    // Release pairs with the fence in `unusual_choice`: who makes the detour finds what was stored for it.
    CHOICE.store(if on { UNDECIDED } else { decided() }, Release);
}

#[inline(always)]
fn choice() -> u8 {
    match CHOICE.load(Relaxed) {
        UNDECIDED => unusual_choice(),
        choice => choice,
    }
}

/// The first call, or one by the detour.
#[cold]
#[inline(never)]
fn unusual_choice() -> u8 {
    fence(Acquire);
    match DECIDED.load(Relaxed) {
        UNDECIDED => decide(),
        choice => {
            stalls::before_call();
            choice
        }
    }
}

fn decided() -> u8 {
    match DECIDED.load(Relaxed) {
        UNDECIDED => decide(),
        choice => choice,
    }
}

/// Reads the environment. The first call to the allocator comes before `main`, while there is one thread; two threads
/// would decide alike.
#[cold]
fn decide() -> u8 {
    // SAFETY: the name is a C string; see above for the environment.
    let value = unsafe { libc::getenv(c"HEAPGATE_ALLOCATOR".as_ptr()) };
    let value = if value.is_null() {
        ""
    } else {
        // SAFETY: getenv returned a C string, which is read before anything can change the environment.
        unsafe { std::ffi::CStr::from_ptr(value) }.to_str().unwrap_or("")
    };
    let choice = match Base::from_name(value) {
        Some(Base::System) => SYSTEM,
        Some(Base::RegionSystem) => REGION_SYSTEM,
        Some(Base::RegionJemalloc) => REGION_JEMALLOC,
        // An unknown name can't be refused here, where nothing can be reported: whoever sets the variable checks the
        // name.
        Some(Base::Jemalloc) | None => JEMALLOC,
    };
    DECIDED.store(choice, Relaxed);
    CHOICE.store(choice, Relaxed);
    choice
}

macro_rules! forward {
    ($method:ident($($argument:expr),*)) => {
        // SAFETY: the caller keeps the method's contract, which is also that of the allocator in force; and that is the
        // same for the whole life of the process, so a block comes back to the allocator that gave it.
        unsafe {
            match choice() {
                JEMALLOC => Jemalloc.$method($($argument),*),
                SYSTEM => System.$method($($argument),*),
                REGION_SYSTEM => REGION_OVER_SYSTEM.$method($($argument),*),
                _ => REGION_OVER_JEMALLOC.$method($($argument),*),
            }
        }
    };
}

// SAFETY: every method is forwarded, arguments unchanged, to the same method of one and the same GlobalAlloc.
unsafe impl GlobalAlloc for Switch {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        forward!(alloc(layout))
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        forward!(alloc_zeroed(layout))
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        forward!(dealloc(ptr, layout))
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        forward!(realloc(ptr, layout, new_size))
    }
}
