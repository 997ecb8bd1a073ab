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
//! let group = groups.of_key(b"customer 4711");
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

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::hint::black_box;
use std::io;
use std::ptr::{from_mut, null_mut};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Mutex, OnceLock, PoisonError};

pub use heapgate_segment::groups::{GroupGauge, MAX_NAME_BYTES};
use heapgate_segment::groups::{GroupNameError, GroupSettings, MAX_GROUPS, check_name};

use crate::attach::state;
use crate::{attach, thread};

/// Arenas that a group has at most, for as many threads at once; further ones share. jemalloc has room for 4,095, and each
/// costs some tens of KiB.
pub const MAX_ARENAS: usize = 64;

/// How soon free pages go back to the kernel, ms: 0 at once, −1 never, `None` as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decay {
    /// Pages that were written and are free.
    pub dirty_ms: Option<i32>,
    /// Pages that the kernel may take when it wants.
    pub muzzy_ms: Option<i32>,
}

impl Decay {
    /// As the process has it: for the control group.
    pub const UNCHANGED: Self = Self { dirty_ms: None, muzzy_ms: None };
    /// Kept for a minute: fewer system calls and page faults, more memory.
    pub const LAX: Self = Self { dirty_ms: Some(60_000), muzzy_ms: Some(60_000) };
    /// Given back at once: the least memory, and the most system calls and page faults.
    pub const STRICT: Self = Self { dirty_ms: Some(0), muzzy_ms: Some(0) };

    /// These.
    #[must_use]
    pub const fn of(dirty_ms: i32, muzzy_ms: i32) -> Self {
        Self { dirty_ms: Some(dirty_ms), muzzy_ms: Some(muzzy_ms) }
    }
}

/// Why there are no groups, or a thread is in none. The program runs on as before.
#[derive(Debug)]
pub enum GroupsError {
    /// A name that can't be a label.
    Name(GroupNameError),
    /// Two groups of one name.
    Twice(&'static str),
    /// None, or more than [`MAX_GROUPS`].
    Count(usize),
    /// No group has a share above 0.
    NoShare,
    /// The process has groups already.
    Again,
    /// The environment has made all of the process one group (`HEAPGATE_GROUP`).
    WholeProcess,
    /// What the program allocates does not come from jemalloc.
    NotJemalloc,
    /// jemalloc refused.
    Jemalloc {
        /// What was asked of it.
        key: String,
        /// What it said.
        error: io::Error,
    },
    /// All slots of the segment are taken: the thread has the group's arena, and is counted in no group.
    NoSlot,
    /// The thread is ending.
    Ending,
}

impl fmt::Display for GroupsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Twice(name) => write!(f, "two groups are named '{name}'"),
            Self::Count(count) => write!(f, "{count} groups: there can be 1 to {MAX_GROUPS}"),
            Self::NoShare => f.write_str("no group has a share above 0"),
            Self::Again => f.write_str("this process has groups already"),
            Self::WholeProcess => {
                f.write_str("HEAPGATE_GROUP makes all of this process one group; unset it to have groups of threads")
            }
            Self::NotJemalloc => {
                f.write_str("groups are arenas of jemalloc's, and this program's memory does not come from it")
            }
            Self::Jemalloc { key, error } => write!(f, "jemalloc refused {key}: {error}"),
            Self::NoSlot => f.write_str("no slot for this thread: it is counted in no group"),
            Self::Ending => f.write_str("this thread is ending"),
        }
    }
}

impl std::error::Error for GroupsError {}

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
    decay: Decay,
    arenas: Mutex<Arenas>,
}

/// The arenas of a group, and which nobody is bound to.
#[derive(Debug, Default)]
struct Arenas {
    all: Vec<u32>,
    free: Vec<u32>,
    /// The one that a thread shares next, once there are no more.
    next: usize,
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
            // The first arena now, so that settings that jemalloc refuses are an error here.
            let arenas = Arenas { all: Vec::with_capacity(MAX_ARENAS), free: Vec::with_capacity(MAX_ARENAS), next: 0 };
            let member = Member { name, share, decay, arenas: Mutex::new(arenas) };
            let first = member.create_arena()?;
            let mut arenas = member.arenas();
            arenas.all.push(first);
            arenas.free.push(first);
            drop(arenas);
            members.push(member);
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
        let member = &self.0[group.0];
        let bound = Bound { member, arena: member.take_arena()? };
        self.publish_arenas(group);
        // What it has cached comes from other arenas, and would be handed out in the group's name.
        let mut arena = bound.arena;
        call("thread.tcache.flush", no_value(), no_value())?;
        call("thread.arena", no_value(), value(&mut arena))?;
        BOUND.try_with(|old| old.replace(Some(bound))).map(drop).map_err(|_| GroupsError::Ending)?;
        if thread::move_to_group(group.0 + 1) { Ok(()) } else { Err(GroupsError::NoSlot) }
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
            let arenas = member.arenas();
            let record = state.writer.group(index + 1);
            let sum = |keys: &[&str]| -> Result<u64, GroupsError> {
                let mut sum = 0_u64;
                for arena in &arenas.all {
                    for key in keys {
                        sum = sum.wrapping_add(read_size(&Key::of_arena("stats.arenas.", *arena, key))?);
                    }
                }
                Ok(sum)
            };
            let [dirty_ms, muzzy_ms] = decays(arenas.all[0])?;
            record.set_decay(dirty_ms, muzzy_ms);
            record.set_gauge(GroupGauge::Resident, sum(&["resident"])?);
            record.set_gauge(GroupGauge::Active, sum(&["pactive"])?.wrapping_mul(page_bytes));
            record.set_gauge(GroupGauge::Dirty, sum(&["pdirty"])?.wrapping_mul(page_bytes));
            record.set_gauge(GroupGauge::Muzzy, sum(&["pmuzzy"])?.wrapping_mul(page_bytes));
            record.set_gauge(GroupGauge::Allocated, sum(&["small.allocated", "large.allocated"])?);
            record.set_gauge(GroupGauge::Purged, sum(&["dirty_purged", "muzzy_purged"])?.wrapping_mul(page_bytes));
        }
        Ok(())
    }

    /// Says in the segment, if there is one, which groups there are.
    fn define(self) -> Result<(), GroupsError> {
        let Some(state) = state().filter(|_| !attach::is_forked()) else { return Ok(()) };
        for group in self.all() {
            let member = &self.0[group.0];
            let first = member.arenas().all[0];
            let [dirty_decay_ms, muzzy_decay_ms] = decays(first)?;
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
            // Those that a thread had, not the one that waits for the first.
            state.writer.group(group.0 + 1).set_arenas(self.0[group.0].arenas().all.len() as u64);
        }
    }
}

impl Member {
    fn arenas(&self) -> std::sync::MutexGuard<'_, Arenas> {
        self.arenas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_arena(&self) -> Result<u32, GroupsError> {
        let mut arenas = self.arenas();
        if let Some(free) = arenas.free.pop() {
            return Ok(free);
        }
        if arenas.all.len() < MAX_ARENAS {
            let arena = self.create_arena()?;
            arenas.all.push(arena);
            return Ok(arena);
        }
        arenas.next = (arenas.next + 1) % MAX_ARENAS;
        Ok(arenas.all[arenas.next])
    }

    fn create_arena(&self) -> Result<u32, GroupsError> {
        let arena = read::<u32>("arenas.create")?;
        for (pages, ms) in [(Pages::Dirty, self.decay.dirty_ms), (Pages::Muzzy, self.decay.muzzy_ms)] {
            if let Some(mut ms) = ms.map(|ms| ms as isize) {
                // First: a change of all arenas' decay that comes in between is made good here.
                pages.keep(arena);
                call(&Key::of_arena("arena.", arena, pages.key()), no_value(), value(&mut ms))?;
            }
        }
        Ok(arena)
    }
}

/// The two kinds of pages that an arena keeps for a time of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pages {
    Dirty,
    Muzzy,
}

/// What an arena has, ms: of dirty pages, and of muzzy ones.
fn decays(arena: u32) -> Result<[i64; 2], GroupsError> {
    let read = |pages: Pages| read::<isize>(&Key::of_arena("arena.", arena, pages.key())).map(|ms| ms as i64);
    Ok([read(Pages::Dirty)?, read(Pages::Muzzy)?])
}

/// Most arenas of jemalloc's: beyond, it has no numbers.
const MOST_ARENAS: usize = 4096;

/// Bit N of the first and of the second list: arena N has a decay of dirty or of muzzy pages that its group gave it.
static KEPT: [[AtomicU64; MOST_ARENAS / 64]; 2] = [const { [const { AtomicU64::new(0) }; MOST_ARENAS / 64] }; 2];

impl Pages {
    const fn key(self) -> &'static str {
        match self {
            Self::Dirty => "dirty_decay_ms",
            Self::Muzzy => "muzzy_decay_ms",
        }
    }

    fn keep(self, arena: u32) {
        if let Some(word) = KEPT[self as usize].get(arena as usize / 64) {
            word.fetch_or(1 << (arena % 64), SeqCst);
        }
    }

    /// Whether this arena's decay is its group's: a change of the process's settings (feature `control`) leaves it alone, or the
    /// comparison would be of groups that are all the same.
    #[cfg(feature = "control")]
    pub(crate) fn is_kept(self, arena: usize) -> bool {
        KEPT[self as usize].get(arena / 64).is_some_and(|word| word.load(SeqCst) >> (arena % 64) & 1 != 0)
    }
}

/// A thread's arena, handed on when it ends.
struct Bound {
    member: &'static Member,
    arena: u32,
}

thread_local! {
    static BOUND: RefCell<Option<Bound>> = const { RefCell::new(None) };
}

impl Drop for Bound {
    fn drop(&mut self) {
        let mut arenas = self.member.arenas();
        // One that is shared is handed on by the last of those who share it: whoever gets it then shares it, too.
        if !arenas.free.contains(&self.arena) {
            arenas.free.push(self.arena);
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

/// Whether what the program allocates comes from jemalloc.
fn is_jemalloc() -> Result<bool, GroupsError> {
    let before = read::<u64>("thread.allocated")?;
    drop(black_box(Box::new([0_u8; 64])));
    Ok(read::<u64>("thread.allocated")? != before)
}

/// A key of jemalloc's, as the C string that it takes. On the stack: nothing is allocated where figures are refreshed.
struct Key {
    bytes: [u8; Self::MAX_BYTES],
    length: usize,
}

impl Key {
    /// `stats.arenas.4294967295.small.allocated` and a zero.
    const MAX_BYTES: usize = 64;

    fn new(text: &str) -> Self {
        let mut key = Self { bytes: [0; Self::MAX_BYTES], length: 0 };
        key.push(text);
        key
    }

    fn of_arena(before: &str, arena: u32, after: &str) -> Self {
        let mut key = Self::new(before);
        let digits = (1..10).map(|power| 10_u32.pow(power)).take_while(|&power| arena >= power).count();
        for place in (0..=digits as u32).rev() {
            key.push_byte(b'0' + (arena / 10_u32.pow(place) % 10) as u8);
        }
        key.push(".");
        key.push(after);
        key
    }

    fn push(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.push_byte(byte));
    }

    fn push_byte(&mut self, byte: u8) {
        assert!(self.length + 1 < Self::MAX_BYTES, "a key of jemalloc's");
        self.bytes[self.length] = byte;
        self.length += 1;
    }
}

impl AsKey for Key {
    fn with(&self, act: &mut dyn FnMut(&Key)) {
        act(self);
    }
}

impl AsKey for str {
    fn with(&self, act: &mut dyn FnMut(&Key)) {
        act(&Key::new(self));
    }
}

trait AsKey {
    fn with(&self, act: &mut dyn FnMut(&Key));
}

/// A place for a value, and its size.
type Place = (*mut c_void, usize);

fn no_value() -> Place {
    (null_mut(), 0)
}

fn value<T: Plain>(of: &mut T) -> Place {
    (from_mut(of).cast(), size_of::<T>())
}

/// Numbers that jemalloc takes and gives, for which any bits are valid.
trait Plain: Default {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for usize {}
impl Plain for isize {}

fn read<T: Plain>(key: &(impl AsKey + ?Sized)) -> Result<T, GroupsError> {
    let mut found = T::default();
    call(key, value(&mut found), no_value())?;
    Ok(found)
}

/// A figure of jemalloc's, of either size that they have: `u64` and `usize` are one where this is built.
fn read_size(key: &Key) -> Result<u64, GroupsError> {
    const { assert!(size_of::<usize>() == 8, "jemalloc's sizes and counts are both 64 bits") };
    read::<u64>(key)
}

fn call(key: &(impl AsKey + ?Sized), old: Place, new: Place) -> Result<(), GroupsError> {
    let mut result = Ok(());
    key.with(&mut |key| {
        let mut old_bytes = old.1;
        let old_bytes_at = if old.0.is_null() { null_mut() } else { from_mut(&mut old_bytes) };
        // SAFETY: the key ends with a zero; each place is null, or a `Plain` number of the caller's that outlives the call,
        // with its size: jemalloc refuses a size that is not the key's (EINVAL), and else reads or writes just that.
        let code: c_int =
            unsafe { tikv_jemalloc_sys::mallctl(key.bytes.as_ptr().cast(), old.0, old_bytes_at, new.0, new.1) };
        if code != 0 {
            let key = String::from_utf8_lossy(&key.bytes[..key.length]).into_owned();
            result = Err(GroupsError::Jemalloc { key, error: io::Error::from_raw_os_error(code) });
        }
    });
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(shares: &[u32]) -> Running {
        let member = |&share| Member { name: "x", share, decay: Decay::UNCHANGED, arenas: Mutex::default() };
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
    fn keys_of_jemalloc_name_their_arena() {
        for arena in [0, 7, 10, 4094, u32::MAX] {
            let key = Key::of_arena("stats.arenas.", arena, "small.allocated");
            assert_eq!(&key.bytes[..=key.length], format!("stats.arenas.{arena}.small.allocated\0").as_bytes());
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
