//! Groups of threads that run under different settings of jemalloc at the same time: a comparison in the running service
//! (docs/live-ab.md). Feature `groups`; for programs whose allocator is jemalloc below [`crate::Telemetry`].
//!
//! ```
//! # use heapgate_alloc::Telemetry;
//! # use tikv_jemallocator::Jemalloc;
//! # #[global_allocator]
//! # static ALLOCATOR: Telemetry<Jemalloc> = Telemetry::new(Jemalloc);
//! use heapgate_alloc::groups::{Decay, Groups};
//!
//! let groups = Groups::new().group("control", 80, Decay::UNCHANGED).group("strict", 20, Decay::STRICT).start()?;
//! let strict = groups.named("strict").unwrap();
//! std::thread::spawn(move || groups.bind_thread(strict)).join().unwrap()?;
//! // Which worker a request goes to: the same key, the same group, in every process and version.
//! let (group, begun) = (groups.of_key(b"customer 4711"), std::time::Instant::now());
//! // Once it is answered:
//! groups.finished(group, begun.elapsed());
//! # assert!(["control", "strict"].contains(&groups.name(group)));
//! # Ok::<(), heapgate_alloc::groups::GroupsError>(())
//! ```
//!
//! **What memory belongs to.** Each bound thread has an arena of its own, which a later thread of the group takes over when it
//! ends. Memory goes back to the arena that it came from, whichever thread frees it, and is then kept or given back by that
//! arena's settings. A decay that a group gives stays when the process's settings are changed (feature `control`), also by its
//! soft limit, which purges these arenas with all others. The *counts* (objects, bytes, stalls) are the group's whose thread made the call: what one group
//! allocates and another frees makes the one's live figures too high and the other's too low. Handle a request in one group
//! from its beginning to its end, or look at [`GroupGauge::Allocated`], which follows the arenas.

mod arenas;
mod bind;
mod error;
mod mallctl;

use std::sync::OnceLock;
use std::time::Duration;

pub use arenas::{Decay, MAX_ARENAS};
pub use error::GroupsError;
pub use heapgate_segment::groups::{GroupGauge, MAX_NAME_BYTES};

#[cfg(feature = "control")]
pub(crate) use arenas::Pages;
use arenas::Pool;
use heapgate_segment::groups::{GroupSettings, MAX_GROUPS, check_name};
use mallctl::{call, is_jemalloc, no_value, read, value};

use crate::attach::state;
use crate::{attach, thread};

/// Groups that are being described.
#[derive(Debug, Clone, Default)]
#[must_use = "there are no groups before `start` is called"]
pub struct Groups(Vec<(&'static str, u32, Decay)>);

/// One of a process's groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(usize);

/// The groups of this process. Copies are the same groups.
#[derive(Debug, Clone, Copy)]
pub struct Running(&'static [Member]);

#[derive(Debug)]
struct Member {
    name: &'static str,
    share: u32,
    pool: Pool,
}

static RUNNING: OnceLock<Vec<Member>> = OnceLock::new();

impl Groups {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// One more: its name, its part of the keys (parts add up to what they add up to), its arenas' settings. The first one is
    /// what the others are compared with, unless one is named `control`.
    pub fn group(mut self, name: &'static str, share: u32, decay: Decay) -> Self {
        self.0.push((name, share, decay));
        self
    }

    /// Makes them this process's. Once a process, after it was published (its segment then names them).
    ///
    /// # Errors
    /// Says why there are none; nothing has changed then.
    pub fn start(self) -> Result<Running, GroupsError> {
        let Self(groups) = self;
        if groups.is_empty() || groups.len() > MAX_GROUPS {
            return Err(GroupsError::Count(groups.len()));
        }
        for (index, (name, ..)) in groups.iter().enumerate() {
            check_name(name).map_err(GroupsError::Name)?;
            if groups[..index].iter().any(|(other, ..)| other == name) {
                return Err(GroupsError::Twice(name));
            }
        }
        if groups.iter().all(|&(_, share, _)| share == 0) {
            return Err(GroupsError::NoShare);
        }
        if session_is_one_group() {
            return Err(GroupsError::WholeProcess);
        }
        if !is_jemalloc()? {
            return Err(GroupsError::NotJemalloc);
        }
        let mut members = Vec::new();
        for (name, share, decay) in groups {
            members.push(Member { name, share, pool: Pool::start(decay)? });
        }
        let mut ours = false;
        let members = RUNNING.get_or_init(|| {
            ours = true;
            members
        });
        if !ours {
            return Err(GroupsError::Again);
        }
        let running = Running(members);
        running.define()?;
        Ok(running)
    }
}

/// Whether the environment has made this process one group.
fn session_is_one_group() -> bool {
    state().is_some_and(|state| state.reader.groups().iter().any(|group| group.whole_process))
}

impl Running {
    /// All of them, in the order in which they were described.
    pub fn all(self) -> impl Iterator<Item = Group> {
        (0..self.0.len()).map(Group)
    }

    /// The one of this name.
    #[must_use]
    pub fn named(self, name: &str) -> Option<Group> {
        self.0.iter().position(|member| member.name == name).map(Group)
    }

    /// Its name.
    #[must_use]
    pub fn name(self, Group(group): Group) -> &'static str {
        self.0[group].name
    }

    /// Its part of the keys, of the sum of all.
    #[must_use]
    pub fn share(self, Group(group): Group) -> f64 {
        f64::from(self.0[group].share) / self.sum_of_shares() as f64
    }

    fn sum_of_shares(self) -> u64 {
        self.0.iter().map(|member| u64::from(member.share)).sum()
    }

    /// The group that a key belongs to: by a hash that is the same in every process, build and version, in the groups'
    /// shares. Choose as key what a difference should not be hidden in: a customer or a document, not a kind of request.
    ///
    /// The hash is FNV-1a of 64 bits (Fowler, Noll and Vo), mixed by the finalizer of SplitMix64 (Steele, Lea and Flood 2014),
    /// since FNV's upper bits hardly depend on a key's last bytes.
    #[must_use]
    pub fn of_key(self, key: &[u8]) -> Group {
        let total = self.sum_of_shares();
        let mut at = ((u128::from(stable_hash(key)) * u128::from(total)) >> 64) as u64;
        for (index, member) in self.0.iter().enumerate() {
            match at.checked_sub(u64::from(member.share)) {
                Some(rest) => at = rest,
                None => return Group(index),
            }
        }
        Group(self.0.len() - 1)
    }

    /// Binds the calling thread to `group`, until it ends or is bound anew: it allocates from an arena of the group's, and is
    /// counted there. What its cache holds goes back to where it came from first.
    ///
    /// # Errors
    /// If jemalloc refuses, or there are no counters for it.
    pub fn bind_thread(self, group: Group) -> Result<(), GroupsError> {
        bind::bind(&self.0[group.0].pool, || self.publish_arenas(group))?;
        if thread::move_to_group(group.0 + 1) { Ok(()) } else { Err(GroupsError::NoSlot) }
    }

    /// Says that a request of `group` was finished, and how long it took: from any thread, with or without an answer, as the
    /// program counts its requests. Two atomic adds; nothing where the process isn't watched.
    pub fn finished(self, Group(group): Group, elapsed: Duration) {
        crate::requests::record(group + 1, elapsed);
    }

    /// Puts the figures of all groups' arenas into the segment: for [`crate::every`]. Some microseconds an arena; allocates
    /// nothing.
    ///
    /// # Errors
    /// If jemalloc was built without statistics.
    pub fn refresh(self) -> Result<(), GroupsError> {
        let Some(state) = state().filter(|_| !attach::is_forked()) else { return Ok(()) };
        // The figures are those of the last epoch.
        let mut epoch = 1_u64;
        call("epoch", no_value(), value(&mut epoch))?;
        let page_bytes = read::<usize>("arenas.page")? as u64;
        for (index, member) in self.0.iter().enumerate() {
            member.pool.refresh(state.writer.group(index + 1), page_bytes)?;
        }
        Ok(())
    }

    /// Says in the segment, if there is one, which groups there are.
    fn define(self) -> Result<(), GroupsError> {
        let Some(state) = state().filter(|_| !attach::is_forked()) else { return Ok(()) };
        for group in self.all() {
            let member = &self.0[group.0];
            let [dirty_decay_ms, muzzy_decay_ms] = member.pool.decays()?;
            state.writer.group(group.0 + 1).define(&GroupSettings {
                name: member.name,
                share: self.share(group),
                dirty_decay_ms,
                muzzy_decay_ms,
                whole_process: false,
            });
        }
        Ok(())
    }

    fn publish_arenas(self, group: Group) {
        if let Some(state) = state().filter(|_| !attach::is_forked()) {
            state.writer.group(group.0 + 1).set_arenas(self.0[group.0].pool.count() as u64);
        }
    }
}

fn stable_hash(key: &[u8]) -> u64 {
    let fnv = key
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(shares: &[u32]) -> Running {
        let member = |&share| Member { name: "x", share, pool: Pool::default() };
        Running(Box::leak(shares.iter().map(member).collect::<Vec<_>>().into_boxed_slice()))
    }

    #[test]
    fn a_key_is_in_the_same_group_for_ever() {
        // From another implementation of FNV-1a and of the finalizer: a change here moves customers between groups.
        assert_eq!(stable_hash(b""), 0xf52a_15e9_a9b5_e89b);
        let groups = running(&[80, 20]);
        let seen: Vec<usize> = (0..20).map(|key| groups.of_key(format!("customer {key}").as_bytes()).0).collect();
        assert_eq!(seen, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn keys_fall_into_groups_in_their_shares() {
        const KEYS: u32 = 100_000;
        let shares = [50, 30, 0, 20];
        let groups = running(&shares);
        let mut counts = [0_u32; 4];
        (0..KEYS).for_each(|key| counts[groups.of_key(format!("/documents/{key}").as_bytes()).0] += 1);
        for (count, share) in counts.into_iter().zip(shares) {
            let expected = f64::from(KEYS) * f64::from(share) / 100.0;
            // Four standard deviations.
            assert!((f64::from(count) - expected).abs() <= 4.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn groups_that_can_not_be_are_refused() {
        let refused = |groups: Groups| groups.start().unwrap_err().to_string();
        assert!(refused(Groups::new()).contains("0 groups"));
        assert!(refused(Groups::new().group("a b", 1, Decay::LAX)).contains("can't name a group"));
        assert!(refused(Groups::new().group("a", 1, Decay::LAX).group("a", 1, Decay::LAX)).contains("two groups"));
        assert!(refused(Groups::new().group("a", 0, Decay::LAX)).contains("share"));
        // This test's allocator is the system's.
        assert!(refused(Groups::new().group("a", 1, Decay::LAX)).contains("does not come from it"));
    }
}
