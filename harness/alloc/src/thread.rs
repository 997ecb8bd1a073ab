//! This thread's slot: found by one thread-local load, claimed at the first call, given back at the thread's exit.

use std::cell::Cell;
use std::ptr::null;
use std::sync::atomic::{Ordering::SeqCst, compiler_fence};

use heapgate_segment::layout::Slot;
use heapgate_segment::slot::ADD_IS_ONE_INSTRUCTION;
use heapgate_segment::tally::Live;

use crate::attach::{self, State};

/// Where a thread stands with regard to slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has not asked for a slot yet.
    New,
    /// It is asking: a signal handler that interrupts it must not ask too.
    Claiming,
    /// It has one.
    Owner,
    /// There was none left, or it has given its own back: it shares the overflow slot.
    Sharing,
}

thread_local! {
    // Both without destructor and with constant initial value: an access is a load, at any time in a thread's life.
    static SLOT: Cell<*const Slot> = const { Cell::new(null()) };
    static STANDING: Cell<Standing> = const { Cell::new(Standing::New) };
    /// The most this thread had live since a [`crate::ThreadWatch`] began, up to the slot's last flush: a flush forgets
    /// its slot's highest point.
    static HIGHEST: Cell<Live> = const { Cell::new(Live { objects: 0, bytes: 0 }) };
    /// The group that this thread counts for, a number from 1; 0 for none.
    static GROUP: Cell<usize> = const { Cell::new(0) };
    /// Objects of one byte that watches have allocated and freed in this thread.
    static PROBES: Cell<u64> = const { Cell::new(0) };
}

/// This thread's own slot, if it has one already.
#[inline(always)]
pub(crate) fn current() -> Option<&'static Slot> {
    // SAFETY: SLOT is null or what `Writer::claim` returned to this thread, a reference for the process's life.
    unsafe { SLOT.get().as_ref() }
}

/// This thread's own slot, if counting in it needs no guard: see [`with_slot`].
#[inline(always)]
pub(crate) fn own_slot() -> Option<&'static Slot> {
    if ADD_IS_ONE_INSTRUCTION { current() } else { None }
}

/// How many allocations and reallocations were counted in this thread's slot; `None` if it has none of its own.
pub(crate) fn allocations() -> Option<u64> {
    current().map(Slot::allocations)
}

/// Settles this thread's slot. While memory grows that is due at every call, so only a flush, which forgets the slot's
/// highest point, notes it first.
#[cold]
#[inline(never)]
pub(crate) fn settle(slot: &Slot) {
    if slot.raise() {
        flush(slot);
    }
}

/// Adds what this thread's slot holds back to the shared sums.
pub(crate) fn flush(slot: &Slot) {
    HIGHEST.set(highest(slot));
    slot.flush(attach::sums());
}

/// The most this thread had live since [`set_highest`].
pub(crate) fn highest(slot: &Slot) -> Live {
    HIGHEST.get().max(slot.highest_since_flush())
}

/// Starts the highest point anew, or puts back one of before.
pub(crate) fn set_highest(live: Live) {
    HIGHEST.set(live);
}

/// Objects of one byte that watches have allocated and freed in this thread.
pub(crate) fn probes() -> u64 {
    PROBES.get()
}

/// Notes more of them.
pub(crate) fn add_probes(more: u64) {
    PROBES.set(PROBES.get().wrapping_add(more));
}

/// Whether this thread asked for a slot: it does at its first counted call.
pub(crate) fn has_counted() -> bool {
    STANDING.get() != Standing::New
}

/// Counts: in this thread's slot by `own`, or in the shared one by `shared` if the thread has none. A signal handler
/// that interrupted its own thread's counting counts in the same slot where an add is one instruction, else in the
/// shared one.
#[inline(always)]
pub(crate) fn with_slot(own: impl Fn(&'static Slot), shared: impl Fn(&'static Slot)) {
    match current() {
        Some(slot) if ADD_IS_ONE_INSTRUCTION => own(slot),
        Some(slot) if slot.is_busy() => without_slot(shared),
        Some(slot) => slot.guarded(|| own(slot)),
        None => first_call(own, shared),
    }
}

#[cold]
fn without_slot(shared: impl Fn(&'static Slot)) {
    if let Some(state) = attach::state() {
        shared(state.writer.overflow());
    }
}

#[cold]
fn first_call(own: impl Fn(&'static Slot), shared: impl Fn(&'static Slot)) {
    if STANDING.get() == Standing::New {
        STANDING.set(Standing::Claiming);
        compiler_fence(SeqCst);
        if claim() {
            STANDING.set(Standing::Owner);
            compiler_fence(SeqCst);
            return with_slot(own, shared);
        }
        STANDING.set(Standing::Sharing);
    }
    without_slot(shared);
}

fn claim() -> bool {
    let Some(state) = attach::state() else { return false };
    // SAFETY: gettid has no requirement.
    let tid = unsafe { libc::gettid() };
    let Some(slot) = state.writer.claim_first(u64::from(tid.unsigned_abs()), GROUP.get()) else { return false };
    own(state, slot);
    true
}

/// Makes `slot` this thread's.
fn own(state: &State, slot: &'static Slot) {
    // SAFETY: the key was created at attachment and is never deleted; the value is only handed back to `at_exit`.
    // `attach` took a key that has room in the thread's descriptor, so glibc allocates nothing here.
    unsafe { libc::pthread_setspecific(state.exit_key, std::ptr::from_ref(slot).cast()) };
    SLOT.set(slot);
}

/// From now on this thread counts for `group`, a number from 1. False if there is no slot for it: it goes on counting where it
/// did.
#[cfg(feature = "groups")]
pub(crate) fn move_to_group(group: usize) -> bool {
    GROUP.set(group);
    let Some(state) = attach::state().filter(|_| !attach::is_forked()) else { return true };
    match (STANDING.get(), current()) {
        // It claims one of the group's at its first counted call.
        (Standing::New, _) => true,
        (_, Some(old)) => {
            // SAFETY: gettid has no requirement.
            let tid = unsafe { libc::gettid() };
            let Some(new) = state.writer.claim_in(u64::from(tid.unsigned_abs()), group) else { return false };
            // A signal handler in between counts in one or the other; the old one is given back when nothing more can come.
            own(state, new);
            compiler_fence(SeqCst);
            HIGHEST.set(highest(old));
            state.writer.retire(old);
            true
        }
        _ => false,
    }
}

/// Runs at a thread's exit, after the destructors of Rust's thread-locals: what other keys' destructors still allocate
/// is counted in the overflow slot.
pub(crate) unsafe extern "C" fn at_exit(_: *mut libc::c_void) {
    let Some(slot) = current() else { return };
    STANDING.set(Standing::Sharing);
    SLOT.set(null());
    compiler_fence(SeqCst);
    crate::stacks::thread_ends();
    if let Some(state) = attach::state() {
        state.writer.retire(slot);
    }
}

/// Forgets this thread's slot: in a forked child it is the parent's.
pub(crate) fn disown() {
    STANDING.set(Standing::Sharing);
    SLOT.set(null());
}
