//! Requests under different settings of jemalloc: each group has a runtime of its own, whose threads are bound to its arenas,
//! and a request is handled in the group that its key belongs to. See docs/live-ab.md.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use heapgate_alloc::groups::{Decay, Group, Groups, GroupsError, Running};
use tokio::runtime::{Builder, Runtime};

/// The header that says what a request is split by; without it, the text does.
pub(crate) const KEY_HEADER: &str = "x-key";

/// A group as the command line has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    name: &'static str,
    decay: Decay,
    /// Threads, and its part of the requests: so that a thread of each group has as much to do.
    threads: u32,
}

/// How often the figures of the groups' arenas are refreshed: for windows of a comparison that are shorter than a second.
const REFRESH: Duration = Duration::from_millis(100);

/// Most threads of a group: a sign that shares were given in percent.
const MAX_THREADS: u32 = 32;

/// `NAME=THREADS`, as in `strict=1`.
pub(crate) fn share(text: &str) -> Result<Share, String> {
    // `same` is for comparing the control with itself.
    let known =
        [("control", Decay::UNCHANGED), ("same", Decay::UNCHANGED), ("lax", Decay::LAX), ("strict", Decay::STRICT)];
    let (name, threads) = text.split_once('=').ok_or("a group is NAME=THREADS, as in strict=1")?;
    let (name, decay) =
        known.into_iter().find(|(known, _)| *known == name).ok_or("groups are control, same, lax and strict")?;
    match threads.parse() {
        Ok(threads @ 1..=MAX_THREADS) => Ok(Share { name, decay, threads }),
        _ => Err(format!("a group has 1 to {MAX_THREADS} threads, which are its share as well")),
    }
}

/// A group that is made worse on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slow {
    name: String,
    work: Duration,
}

/// `NAME=MICROSECONDS`, as in `same=2000`.
pub(crate) fn slow(text: &str) -> Result<Slow, String> {
    let (name, us) = text.split_once('=').ok_or("a group to make slow is NAME=MICROSECONDS, as in same=2000")?;
    let us = us.parse().map_err(|error| format!("{us} microseconds: {error}"))?;
    Ok(Slow { name: name.to_owned(), work: Duration::from_micros(us) })
}

/// Bytes of each allocation that a slow group makes: too large for any cache of jemalloc's, and small enough for the group's own
/// arena, in which it leaves free pages behind.
const LARGE: usize = 4 << 20;

/// Asks the allocator for large zeroed memory, and gives it back, until `work` is over; once at least.
pub(crate) fn churn(work: Duration) {
    let begun = Instant::now();
    loop {
        drop(black_box(vec![0_u8; LARGE]));
        if begun.elapsed() >= work {
            break;
        }
    }
}

/// The groups of this process, and their threads.
pub(crate) struct Split {
    groups: Running,
    runtimes: BTreeMap<Group, Runtime>,
    slow: Option<(Group, Duration)>,
}

impl Split {
    /// Makes the groups and starts their threads. After the process was published.
    pub(crate) fn start(
        shares: &[Share],
        slow: Option<&Slow>,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let described =
            shares.iter().fold(Groups::new(), |groups, share| groups.group(share.name, share.threads, share.decay));
        let groups = described.start()?;
        let slow = match slow {
            Some(Slow { name, work }) => {
                Some((groups.named(name).ok_or_else(|| format!("there is no group {name} to slow"))?, *work))
            }
            None => None,
        };
        let mut runtimes = BTreeMap::new();
        for (group, share) in groups.all().zip(shares) {
            runtimes.insert(group, runtime(groups, group, share)?);
        }
        heapgate_alloc::every(REFRESH, move |_| {
            if let Err(error) = groups.refresh() {
                eprintln!("tokenizer-service: {error}");
            }
        })?;
        Ok(Self { groups, runtimes, slow })
    }

    /// Where a request is to be handled.
    pub(crate) fn of(&self, key: &[u8]) -> Side<'_> {
        let group = self.groups.of_key(key);
        let slow = self.slow.filter(|&(slow, _)| slow == group).map(|(_, work)| work);
        Side { groups: self.groups, group, runtime: &self.runtimes[&group], slow }
    }
}

/// One group, of a request.
pub(crate) struct Side<'a> {
    groups: Running,
    group: Group,
    pub(crate) runtime: &'a Runtime,
    /// Work that every request of it has more.
    pub(crate) slow: Option<Duration>,
}

impl Side<'_> {
    pub(crate) fn name(&self) -> &'static str {
        self.groups.name(self.group)
    }

    /// The request is answered.
    pub(crate) fn finished(&self, elapsed: Duration) {
        self.groups.finished(self.group, elapsed);
    }
}

fn runtime(groups: Running, group: Group, share: &Share) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(share.threads as usize)
        .thread_name(share.name)
        .on_thread_start(move || {
            if let Err(error) = groups.bind_thread(group) {
                report(&error);
            }
        })
        .build()
}

fn report(error: &GroupsError) {
    eprintln!("tokenizer-service: a thread is in no group: {error}");
}
