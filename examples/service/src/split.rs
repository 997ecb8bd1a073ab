//! Requests under different settings of jemalloc: each group has a runtime of its own, whose threads are bound to its arenas,
//! and a request is handled in the group that its key belongs to. See docs/live-ab.md.

use std::collections::BTreeMap;
use std::io;

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

/// The groups of this process, and their threads.
pub(crate) struct Split {
    groups: Running,
    runtimes: BTreeMap<Group, Runtime>,
}

impl Split {
    /// Makes the groups and starts their threads. After the process was published.
    pub(crate) fn start(shares: &[Share]) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let described =
            shares.iter().fold(Groups::new(), |groups, share| groups.group(share.name, share.threads, share.decay));
        let groups = described.start()?;
        let mut runtimes = BTreeMap::new();
        for (group, share) in groups.all().zip(shares) {
            runtimes.insert(group, runtime(groups, group, share)?);
        }
        heapgate_alloc::every(super::measured::REFRESH, move |_| {
            if let Err(error) = groups.refresh() {
                eprintln!("tokenizer-service: {error}");
            }
        })?;
        Ok(Self { groups, runtimes })
    }

    /// The group of a request, and where it is to be handled.
    pub(crate) fn of(&self, key: &[u8]) -> (&'static str, &Runtime) {
        let group = self.groups.of_key(key);
        (self.groups.name(group), &self.runtimes[&group])
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
