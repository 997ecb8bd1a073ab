//! Which slots are owned: one word each. The lower half is 0 while it is free, else the owner's thread id; the upper half is
//! the group that the slot is of, also while it is free. Checked by loom.

#[cfg(not(loom))]
use core::sync::atomic::AtomicU64;
#[cfg(not(loom))]
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
#[cfg(loom)]
use loom::sync::atomic::AtomicU64;
#[cfg(loom)]
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Bits of a word below the group: those of the thread id.
const GROUP_SHIFT: u32 = 32;

/// Takes the first free slot for thread `tid`, which must not be 0 and fits 32 bits, of `group`; `None` if all are taken.
/// A slot that is of another group, or was used by threads of none, is not taken for a group: its counts stay its group's.
///
/// The successful exchange is an acquire that pairs with the release in [`retire`]: the new owner sees every count of
/// the last one, and goes on counting with plain loads and stores.
pub(crate) fn claim(owners: &[AtomicU64], tid: u64, group: u64, is_new: impl Fn(usize) -> bool) -> Option<usize> {
    let take = |owner: &AtomicU64, free: u64| {
        // The plain load first: most of the words it passes are taken, and a load leaves their cache lines shared.
        owner.load(Relaxed) == free && owner.compare_exchange(free, free | tid, Acquire, Relaxed).is_ok()
    };
    let of_group = owners.iter().position(|owner| take(owner, group << GROUP_SHIFT));
    if of_group.is_some() || group == 0 {
        return of_group;
    }
    owners.iter().enumerate().position(|(index, owner)| {
        if !take(owner, 0) {
            return false;
        }
        let is_new = is_new(index);
        // Only now that it is known to hold nothing: or a reader would take a stranger's counts for the group's.
        owner.store(if is_new { group << GROUP_SHIFT | tid } else { 0 }, Release);
        is_new
    })
}

/// Gives a slot back; it stays its group's. Only its owner may, and must not touch the slot afterwards.
pub(crate) fn retire(owner: &AtomicU64) {
    owner.store(owner.load(Relaxed) >> GROUP_SHIFT << GROUP_SHIFT, Release);
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    /// Counts as a slot does: no read-modify-write, so that a lost update would show.
    fn count(counter: &AtomicU64) {
        counter.store(counter.load(Relaxed) + 1, Relaxed);
    }

    /// All ways to run that need no more than three preemptions: with three threads, those without a bound take
    /// minutes.
    fn few_preemptions(model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(model);
    }

    #[test]
    fn a_reused_slot_goes_on_counting_where_its_last_owner_stopped() {
        loom::model(|| {
            let shared = Arc::new(([AtomicU64::new(0)], AtomicU64::new(0), AtomicU64::new(0)));
            let threads: Vec<_> = (1..=2)
                .map(|tid| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let (owners, counter, overflow) = &*shared;
                        if claim(owners, tid, 0, |_| true).is_some() {
                            count(counter);
                            retire(&owners[0]);
                        } else {
                            overflow.fetch_add(1, Relaxed);
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            let (owners, counter, overflow) = &*shared;
            assert_eq!(counter.load(Relaxed) + overflow.load(Relaxed), 2);
            assert_eq!(owners[0].load(Relaxed), 0);
        });
    }

    #[test]
    fn two_threads_never_own_one_slot() {
        few_preemptions(|| {
            let shared = Arc::new(([AtomicU64::new(0), AtomicU64::new(0)], [AtomicU64::new(0), AtomicU64::new(0)]));
            let threads: Vec<_> = (1..=3)
                .map(|tid| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let (owners, users) = &*shared;
                        if let Some(index) = claim(owners, tid, 0, |_| true) {
                            assert_eq!(users[index].fetch_add(1, Relaxed), 0, "slot {index} has two owners");
                            users[index].fetch_sub(1, Relaxed);
                            retire(&owners[index]);
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }

    /// The reading order of `layout::Counters`, on two slots of one count each: one thread allocates in a slot that
    /// nobody had used, and hands the object to another, which frees it and counts that in a slot of its own.
    #[test]
    fn a_reader_that_sees_a_free_finds_its_allocation() {
        #[derive(Default)]
        struct Shared {
            slots_used: AtomicU64,
            allocated: [AtomicU64; 2],
            freed: [AtomicU64; 2],
            handed_over: AtomicU64,
        }
        let sum = |counters: &[AtomicU64; 2], used: u64| -> u64 {
            counters[..used as usize].iter().map(|counter| counter.load(Acquire)).sum()
        };
        loom::model(move || {
            let shared = Arc::new(Shared::default());
            shared.slots_used.store(1, Relaxed);
            let allocating = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.slots_used.fetch_max(2, Release);
                    count(&shared.allocated[1]);
                    shared.handed_over.store(1, Release);
                })
            };
            let freeing = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    if shared.handed_over.load(Acquire) == 1 {
                        shared.freed[0].store(shared.freed[0].load(Relaxed) + 1, Release);
                    }
                })
            };
            let freed = sum(&shared.freed, shared.slots_used.load(Acquire));
            let allocated = sum(&shared.allocated, shared.slots_used.load(Acquire));
            assert!(freed <= allocated, "{freed} freed of {allocated} allocated");
            allocating.join().unwrap();
            freeing.join().unwrap();
        });
    }

    #[test]
    fn a_slot_of_one_group_is_never_owned_in_another() {
        few_preemptions(|| {
            let shared = Arc::new(([AtomicU64::new(0), AtomicU64::new(0)], [AtomicU64::new(0), AtomicU64::new(0)]));
            let threads: Vec<_> = (1..=2)
                .map(|group| {
                    let shared = Arc::clone(&shared);
                    thread::spawn(move || {
                        let (owners, counted_by) = &*shared;
                        let is_new = |index: usize| counted_by[index].load(Relaxed) == 0;
                        for _ in 0..2 {
                            if let Some(index) = claim(owners, group, group, is_new) {
                                let before = counted_by[index].load(Relaxed);
                                assert!(before == 0 || before == group, "slot {index} is group {before}'s");
                                counted_by[index].store(group, Relaxed);
                                retire(&owners[index]);
                            }
                        }
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
        });
    }
}
