//! Finding processes, and what is remembered of them from one look to the next.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use heapgate_prometheus::{ProcessFigures, ProcessReader, Scale, memory_limit_bytes};
use heapgate_segment::layout::Level;
use heapgate_segment::published::{self, Buffer, Entry, ReadError, RequestError, Settled};
use heapgate_segment::setting::{Change, Setting};

use crate::pids;
use crate::snapshot::{ProcessState, Seen, Snapshot};
use crate::textfile::Textfiles;

/// Files that are looked at, as a multiple of the processes that are exported: a folder with more is not a folder of services.
const LOOKED_AT: usize = 4;

/// Threads that look at processes; the CPUs are the services'.
const MAX_WORKERS: usize = 4;

/// Fewer processes than this are not worth a thread.
const MIN_SHARE: usize = 32;

/// The memory limit of a process costs more to find than all else, and changes seldom.
const LIMIT_AGE: Duration = Duration::from_secs(60);

/// Of how many processes it is remembered what their quiet threads have counted: 32 KiB each, half of the memory that the agent
/// may take.
const MAX_SETTLED: usize = 1_000;

/// Where to look, and for how much.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// Folders in which services publish; the user's own if there are none.
    pub folders: Vec<PathBuf>,
    /// Most processes that are exported.
    pub max_processes: usize,
    /// How long the last state of an ended process is exported before its file is removed.
    pub keep_dead: Duration,
    /// A folder of other programs' metrics, if they are to be exported too.
    pub textfiles: Option<PathBuf>,
}

/// Why there is nowhere to look.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the folder that services publish in: {0}; name another with --folder")]
pub struct FolderError(#[from] io::Error);

/// Why a level was not changed.
#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    /// There is no such process, or it has ended.
    #[error("no such process is running; see /api/processes for the ids of those that are")]
    NoProcess,
    /// Its segment can't be written.
    #[error("the level could not be written: {0}")]
    Write(#[from] ReadError),
}

/// Why a setting was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// There is no such process, or it has ended.
    #[error("no such process is running; see /api/processes for the ids of those that are")]
    NoProcess,
    /// It names a file, which nobody elsewhere is to choose.
    #[error("heap_profile_dump writes a file, and is taken on its machine alone: heapgate tune")]
    Path,
    /// It was not made.
    #[error(transparent)]
    Request(#[from] RequestError),
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $name:literal),* $(,)?) => {
        /// Why a file could not be exported, or not be dealt with otherwise.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Reason { $($(#[$doc])* $reason),* }

        impl Reason {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$reason),*];

            /// The value of the label `reason`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$reason => $name),* }
            }
        }
    };
}

reasons! {
    /// A folder can't be listed.
    Folder = "folder",
    /// A file may not be read.
    Permission = "permission",
    /// A file is shorter than its header says, or became so.
    Truncated = "truncated",
    /// A file is no segment, or a damaged one.
    Damaged = "damaged",
    /// A file is a segment of another version.
    Version = "version",
    /// A file's name and its header name different processes.
    Foreign = "foreign",
    /// Two files would have the same labels; the one of the process that began last is exported.
    Duplicate = "duplicate",
    /// Another error of reading.
    Read = "read",
    /// An ended process's file can't be removed.
    Remove = "remove",
    /// A file of other programs' metrics can't be used.
    Textfile = "textfile",
}

/// Counts by [`Reason`].
pub type Errors = [u64; Reason::ALL.len()];

/// The agent. Copies of it are the same agent.
#[derive(Debug, Clone)]
pub struct Agent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: AgentSettings,
    errors: [AtomicU64; Reason::ALL.len()],
    state: Mutex<State>,
}

/// What is kept between two looks.
#[derive(Debug, Default)]
struct State {
    known: HashMap<Id, Known>,
    tools: Vec<Tools>,
}

/// What each worker reads with.
#[derive(Debug, Default)]
struct Tools {
    buffer: Buffer,
    process: ProcessReader,
}

/// What tells one process from all others: its folder's number, its name, its id and when it began.
type Id = (usize, String, u32, u64);

/// What is known of a process.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Its id as seen from here, if it has another where it lives.
    outer_pid: Option<u32>,
    /// Containers were searched for it.
    searched: bool,
    /// When it was first found to have ended.
    ended: Option<Instant>,
    /// How long its ticks are. Kept: another measurement would move calls from one bucket to the next.
    pub scale: Option<Scale>,
    limit_bytes: Option<u64>,
    limit_known: Option<Instant>,
    /// What its quiet threads have counted.
    pub settled: Option<Settled>,
}

/// One file on its way to the exposition.
#[derive(Debug)]
struct Found {
    entry: Entry,
    folder: usize,
    known: Known,
    /// It was exported before.
    exported: bool,
    alive: bool,
    /// What the kernel says of it, if it lives and is seen from here.
    process: Option<ProcessFigures>,
    state: Option<ProcessState>,
}

impl Found {
    fn id(&self) -> Id {
        (self.folder, self.entry.name.clone(), self.entry.pid, self.entry.start_time)
    }

    fn pid(&self) -> u32 {
        self.known.outer_pid.unwrap_or(self.entry.pid)
    }

    /// Asks the kernel for the process; nothing if it has ended, whoever has its id now.
    fn look(&mut self, tools: &mut Tools) {
        let figures = tools.process.read(self.pid()).ok();
        // A process that has ended and was not waited for has no memory.
        self.process =
            figures.filter(|figures| figures.start_time == self.entry.start_time && figures.resident_bytes > 0);
        self.alive = self.process.is_some() || self.entry.is_alive();
    }

    fn read(&mut self, tools: &mut Tools, began: Instant, errors: &[AtomicU64; Reason::ALL.len()]) {
        let pid = self.pid();
        if let Some(process) = &mut self.process {
            if self.known.limit_known.is_none_or(|known| known.elapsed() >= LIMIT_AGE) {
                self.known.limit_bytes = memory_limit_bytes(pid);
                self.known.limit_known = Some(Instant::now());
            }
            process.limit_bytes = self.known.limit_bytes;
        }
        let seen = Seen { folder: self.folder, pid, alive: self.alive, began, process: self.process.as_ref() };
        match ProcessState::read(&self.entry, seen, &mut self.known, &mut tools.buffer) {
            Ok(state) => self.state = Some(state),
            Err(Some(reason)) => count(errors, reason),
            // The file was removed since it was listed: by whoever else looks after ended processes.
            Err(None) => {}
        }
    }
}

fn count(errors: &[AtomicU64; Reason::ALL.len()], reason: Reason) {
    errors[reason as usize].fetch_add(1, Relaxed);
}

impl Agent {
    /// An agent that has not looked yet.
    ///
    /// # Errors
    /// If no folder is named, and the user's own can't be used.
    pub fn new(mut settings: AgentSettings) -> Result<Self, FolderError> {
        if settings.folders.is_empty() {
            settings.folders.push(published::runtime_folder()?);
        }
        Ok(Self(Arc::new(Inner { settings, errors: Default::default(), state: Mutex::default() })))
    }

    /// The folders that it looks at.
    #[must_use]
    pub fn folders(&self) -> &[PathBuf] {
        &self.0.settings.folders
    }

    /// Looks at all processes now.
    #[must_use]
    pub fn collect(&self) -> Snapshot {
        let began = Instant::now();
        let mut state = self.state();
        let (mut found, mut dropped) = self.find(&mut state);
        // Those that were exported stay, then come those that began first, and ended ones last: with too many, none comes and goes.
        found.sort_by_cached_key(|found| {
            (!found.alive, !found.exported, found.entry.start_time, found.entry.name.clone(), found.entry.pid)
        });
        let max = self.0.settings.max_processes;
        dropped += found.len().saturating_sub(max);
        let errors = &self.0.errors;
        let exported = found.len().min(max);
        for (index, found) in found.iter_mut().enumerate() {
            if index < exported.min(MAX_SETTLED) {
                found.known.settled.get_or_insert_default();
            } else {
                found.known.settled = None;
            }
        }
        in_parallel(&mut found[..exported], &mut state.tools, |found, tools| found.read(tools, began, errors));

        let mut states: Vec<_> = found.iter_mut().filter_map(|found| found.state.take()).collect();
        self.drop_duplicates(&mut states);
        self.bury(&mut found);
        state.known = found.into_iter().map(|found| (found.id(), found.known)).collect();
        let textfiles = self.0.settings.textfiles.as_deref().map(Textfiles::read).unwrap_or_default();
        self.0.errors[Reason::Textfile as usize].fetch_add(textfiles.skipped, Relaxed);
        let errors = self.0.errors.each_ref().map(|count| count.load(Relaxed));
        Snapshot::new(began, states, dropped, errors, textfiles)
    }

    /// Removes the files of processes that ended long enough ago, without reading any.
    pub fn sweep(&self) {
        let mut state = self.state();
        let (mut found, _) = self.find(&mut state);
        self.bury(&mut found);
        state.known = found.into_iter().map(|found| (found.id(), found.known)).collect();
    }

    /// Sets the level of the running process `id`, as a snapshot names it.
    ///
    /// # Errors
    /// If there is none, or its segment can't be written.
    pub fn set_level(&self, id: &str, level: Level) -> Result<(), LevelError> {
        let mut state = self.state();
        let (found, _) = self.find(&mut state);
        let result = found
            .iter()
            .find(|found| found.alive && ProcessState::id_of(&found.entry, found.folder) == id)
            .ok_or(LevelError::NoProcess)
            .and_then(|found| Ok(found.entry.set_level(level)?));
        state.known = found.into_iter().map(|found| (found.id(), found.known)).collect();
        result
    }

    /// Has the running process `id`, as a snapshot names it, make `change`. Returns the value that it reads back. Takes as long as
    /// the process does; figures can be asked for meanwhile.
    ///
    /// # Errors
    /// If there is none, it can't be changed from elsewhere, or the process takes no requests, refuses, or gives no answer.
    pub fn set_setting(&self, id: &str, change: &Change) -> Result<i64, SettingError> {
        if change.setting == Setting::HeapProfileDump {
            return Err(SettingError::Path);
        }
        let mut state = self.state();
        let (found, _) = self.find(&mut state);
        let entry = found
            .iter()
            .find(|found| found.alive && ProcessState::id_of(&found.entry, found.folder) == id)
            .map(|found| found.entry.clone());
        state.known = found.into_iter().map(|found| (found.id(), found.known)).collect();
        drop(state);
        Ok(entry.ok_or(SettingError::NoProcess)?.set_setting(change)?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic left is replaced by the next look.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.tools.is_empty() {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            state.tools.resize_with(cpus.min(MAX_WORKERS), Tools::default);
        }
        state
    }

    /// All files in all folders, with what is known of them and whether their processes live; and how many more there are.
    fn find(&self, state: &mut State) -> (Vec<Found>, usize) {
        let mut found = Vec::new();
        let mut dropped = 0;
        let most = self.0.settings.max_processes.saturating_mul(LOOKED_AT);
        for (folder, path) in self.0.settings.folders.iter().enumerate() {
            let entries = match published::list(path) {
                Ok(entries) => entries,
                // Nobody has published there yet.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => {
                    count(&self.0.errors, Reason::Folder);
                    continue;
                }
            };
            for entry in entries {
                let known = state.known.remove(&(folder, entry.name.clone(), entry.pid, entry.start_time));
                if found.len() >= most && known.is_none() {
                    dropped += 1;
                    continue;
                }
                let exported = known.is_some();
                found.push(Found {
                    entry,
                    folder,
                    known: known.unwrap_or_default(),
                    exported,
                    alive: false,
                    process: None,
                    state: None,
                });
            }
        }
        in_parallel(&mut found, &mut state.tools, Found::look);
        // Those that live and aren't found under their own id are in a container; it costs a look at all processes.
        let hidden = |found: &Found| found.alive && found.process.is_none() && !found.known.searched;
        if found.iter().any(hidden) {
            let containers = pids::in_containers();
            for found in found.iter_mut().filter(|found| hidden(found)) {
                found.known.searched = true;
                found.known.outer_pid = containers.get(&(found.entry.pid, found.entry.start_time)).copied();
                if found.known.outer_pid.is_some() {
                    found.look(&mut state.tools[0]);
                }
            }
        }
        (found, dropped)
    }

    /// Two series must never have the same labels: of a process that ended and one that got its id and its name, the second
    /// is exported.
    fn drop_duplicates(&self, states: &mut Vec<ProcessState>) {
        let mut order: Vec<usize> = (0..states.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse((states[index].up, states[index].start_time)));
        let mut labels = HashSet::with_capacity(states.len());
        let kept: HashSet<usize> = order.into_iter().filter(|&index| labels.insert(states[index].named())).collect();
        drop(labels);
        for _ in kept.len()..states.len() {
            count(&self.0.errors, Reason::Duplicate);
        }
        let mut index = 0;
        states.retain(|_| {
            index += 1;
            kept.contains(&(index - 1))
        });
    }

    /// Notes which processes have ended, and removes the files of those that did so long enough ago.
    fn bury(&self, found: &mut Vec<Found>) {
        let now = Instant::now();
        found.retain_mut(|found| {
            if found.alive {
                found.known.ended = None;
                return true;
            }
            let ended = *found.known.ended.get_or_insert(now);
            if now.duration_since(ended) < self.0.settings.keep_dead || ended == now {
                return true;
            }
            match found.entry.remove() {
                Ok(()) => false,
                Err(_) => {
                    count(&self.0.errors, Reason::Remove);
                    true
                }
            }
        });
    }
}

/// Does something with all items, on as many threads as there are tools and it is worth.
fn in_parallel<T: Send>(items: &mut [T], tools: &mut [Tools], each: impl Fn(&mut T, &mut Tools) + Sync) {
    let share = items.len().div_ceil(tools.len()).max(MIN_SHARE);
    let mut shares = items.chunks_mut(share).zip(tools);
    let own = shares.next();
    std::thread::scope(|scope| {
        for (items, tools) in shares {
            let each = &each;
            scope.spawn(move || items.iter_mut().for_each(|item| each(item, tools)));
        }
        if let Some((items, tools)) = own {
            items.iter_mut().for_each(|item| each(item, tools));
        }
    });
}
