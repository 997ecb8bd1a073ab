//! Which arenas and scopes are never released: from looks at a process's registry (see [`heapgate_segment::arenas`]) to findings;
//! and which lines' objects grow in number or bytes (`growth`), with what else bears a finding out (`witness`).
//! Pure functions; `heapgate leaks` looks and prints.
//!
//! An arena that is open is no leak: it may be in use. It is named if one of these holds; [`Reason`] says which.
//!
//! - Its line releases its arenas, and this one is older than [`OUTLIVED_FACTOR`] times the longest life of those, and than
//!   [`LEAST_AGE`] while the process runs.
//! - Its line has never released one and goes on making them: open ones at [`WINDOWS`] moments of its history rise, by the test of
//!   [`crate::stats::trend`]. A pool that was filled at the start and a cache that is made once do not.
//! - It is older than the age that the caller named.

pub mod growth;
pub mod witness;

use std::collections::BTreeMap;
use std::time::Duration;

use heapgate_segment::arenas::{ArenaReading, OpenArena, OpenScope, Place};
use serde::Serialize;

use self::growth::SiteGrowth;
use self::witness::{Evidence, Witness};
use crate::stats::trend::{FALSE_ALARM, FEWEST_WINDOWS, growing};

/// An arena that has lived so many times as long as any that its line released is not coming back: lives of requests vary by
/// less from the longest of thousands.
pub const OUTLIVED_FACTOR: u64 = 10;

/// Younger ones may be in use, however short others lived: a request that waits for a slow peer takes seconds.
pub const LEAST_AGE: Duration = Duration::from_secs(10);

/// Open scopes that are older are named: a scope is for a request, not for a program's life.
pub const LONGEST_SCOPE: Duration = Duration::from_secs(60);

/// Moments of a line's history at which its open arenas are counted.
pub const WINDOWS: usize = 12;

/// What one look at a process found.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// `CLOCK_MONOTONIC`, ns; of a process that has ended, when it last did something that is known.
    pub at_ns: u64,
    /// Live bytes of the whole process; `None` where they aren't known.
    pub live_bytes: Option<i64>,
    /// Its registry.
    pub reading: ArenaReading,
}

/// What is taken for a leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether the process runs: then what is young may be in use.
    pub running: bool,
    /// Whether everything that it had in use was dropped before it was looked at, as a trial does: then an arena is a leak
    /// however young, if its line releases arenas.
    pub drained: bool,
    /// Takes every arena and scope that is older for a leak, and none that is younger.
    pub older_than: Option<Duration>,
}

/// Why an arena or a scope is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It has lived many times as long as any that its line released.
    Outlived,
    /// Its line releases none, and makes more and more.
    NeverReleased,
    /// Its line releases arenas, and this one was open after everything had been dropped.
    Undropped,
    /// It is older than the age that was named, or than a scope should be.
    Old,
}

/// What the findings are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An `Arena`.
    Arena,
    /// A region's scope.
    Scope,
}

/// What one line of the source has not released.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leak {
    /// Arenas or scopes.
    pub kind: Kind,
    /// Where they were made: `file:line:column`.
    pub place: String,
    /// Why.
    pub reason: Reason,
    /// Bytes that they hold.
    pub bytes: u64,
    /// Arenas that this line made; 0 of scopes, which aren't counted by line.
    pub created: u64,
    /// And released.
    pub finalized: u64,
    /// The longest life of those, seconds.
    pub longest_released_s: f64,
    /// Each, biggest first.
    pub items: Vec<Item>,
    /// What else was looked at, and whether it agrees.
    pub witnesses: Vec<Witness>,
}

/// One arena or scope.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// Its number: of an arena in the process, of a scope in its thread.
    pub id: u64,
    /// The thread that made it.
    pub thread: u64,
    /// That thread's name.
    pub thread_name: String,
    /// How long ago, seconds.
    pub age_s: f64,
    /// Bytes that it holds.
    pub bytes: u64,
}

/// How live bytes went meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LiveTrend {
    /// Moments that were compared.
    pub windows: usize,
    /// Whether they grew, by the test of [`crate::stats::trend`].
    pub grows: bool,
    /// By how much from one moment to the next; 0 where they don't grow.
    pub bytes_per_window: f64,
    /// The first, and the last.
    pub first_bytes: f64,
    /// The last.
    pub last_bytes: f64,
}

/// Scopes of one line that ended with objects alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Escapes {
    /// Where the scopes begin.
    pub place: String,
    /// Scopes that ended so.
    pub scopes: u64,
    /// Objects that outlived them: many of them may be dead by now.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Findings {
    /// Arenas that were made.
    pub created: u64,
    /// Arenas that were released.
    pub finalized: u64,
    /// Arenas that are open, leaks or not.
    pub open: u64,
    /// Of those, arenas that found no room in the registry: their lines count them, but they can't be named.
    pub untracked: u64,
    /// Scopes that are open.
    pub open_scopes: usize,
    /// What is never released, biggest first.
    pub leaks: Vec<Leak>,
    /// Scopes whose objects escaped, by line, most bytes first. No leaks by themselves.
    pub escapes: Vec<Escapes>,
    /// Live bytes over the looks, if there were enough.
    pub live_bytes: Option<LiveTrend>,
    /// Sites whose live objects or bytes grow, fastest first; none where stacks were not taken.
    pub growing: Vec<SiteGrowth>,
    /// Whether live bytes grew and were not released in the end, though nothing that is named here explains it.
    pub unexplained: bool,
}

impl Findings {
    /// Whether anything was found that is not released.
    #[must_use]
    pub fn any(&self) -> bool {
        self.unexplained || !self.leaks.is_empty() || self.growing.iter().any(|site| site.released != Some(true))
    }

    /// Adds what `evidence` says of each.
    pub fn corroborate(&mut self, evidence: Evidence<'_>) {
        for leak in self.leaks.iter_mut().filter(|leak| leak.kind == Kind::Arena) {
            leak.witnesses = evidence.of_arenas(leak);
        }
        for site in &mut self.growing {
            site.witnesses = evidence.of_site(site);
        }
    }
}

/// The lowest of the values in each of [`WINDOWS`] equal parts of a series; fewer where there are fewer values.
#[must_use]
pub fn windows(series: &[f64]) -> Vec<f64> {
    let count = WINDOWS.min(series.len());
    let part = |window: usize| &series[series.len() * window / count..series.len() * (window + 1) / count];
    (0..count).map(|window| part(window).iter().copied().fold(f64::INFINITY, f64::min)).collect()
}

/// What the looks at one process, oldest first, say of its arenas: the last one names them, all of them the trend of live bytes.
#[must_use]
pub fn find(looks: &[Look], settings: Settings) -> Findings {
    let Some(Look { at_ns, reading, .. }) = looks.last() else { return find(&[Look::default()], settings) };
    let mut leaks = arena_leaks(reading, *at_ns, settings);
    leaks.extend(scope_leaks(reading, *at_ns, settings));
    leaks.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.place.cmp(&b.place)));
    let live: Option<Vec<f64>> = looks.iter().map(|look| look.live_bytes.map(|bytes| bytes as f64)).collect();
    Findings {
        created: reading.created,
        finalized: reading.finalized,
        open: reading.open(),
        untracked: reading.open().saturating_sub(reading.arenas.len() as u64),
        open_scopes: reading.scopes.len(),
        leaks,
        escapes: escapes(reading),
        live_bytes: live.and_then(|live| live_trend(&windows(&live))),
        growing: Vec::new(),
        unexplained: false,
    }
}

/// Whether live bytes grew over `windows`, oldest first; `None` where they are too few to say.
#[must_use]
pub fn live_trend(windows: &[f64]) -> Option<LiveTrend> {
    if windows.len() < FEWEST_WINDOWS {
        return None;
    }
    let growth = growing(&[windows], FALSE_ALARM).first().copied();
    Some(LiveTrend {
        windows: windows.len(),
        grows: growth.is_some(),
        bytes_per_window: growth.map_or(0.0, |growth| growth.per_window),
        first_bytes: windows[0],
        last_bytes: windows[windows.len() - 1],
    })
}

/// What is known of one line; the compiler may have made several places of it.
#[derive(Default)]
struct Line<'a> {
    created: u64,
    finalized: u64,
    longest_ns: u64,
    open: Vec<&'a OpenArena>,
}

fn arena_leaks(reading: &ArenaReading, now_ns: u64, settings: Settings) -> Vec<Leak> {
    let mut lines = BTreeMap::<String, Line<'_>>::new();
    for place in reading.places.iter().filter(|place| place.created > 0) {
        let line = lines.entry(text(place)).or_default();
        line.created = line.created.saturating_add(place.created);
        line.finalized = line.finalized.saturating_add(place.finalized);
        line.longest_ns = line.longest_ns.max(place.longest_ns);
    }
    for arena in &reading.arenas {
        lines.entry(place_of(reading, arena.place)).or_default().open.push(arena);
    }
    let never: Vec<(&String, &Line<'_>)> =
        lines.iter().filter(|(_, line)| line.finalized == 0 && !line.open.is_empty()).collect();
    let histories: Vec<Vec<f64>> = never.iter().map(|(_, line)| history(&line.open, now_ns)).collect();
    let growing: Vec<&String> =
        growing(&histories, FALSE_ALARM).into_iter().map(|growth| never[growth.site].0).collect();

    let leak = |(place, line): (&String, &Line<'_>)| {
        let least = if settings.running { LEAST_AGE } else { Duration::ZERO }.as_nanos() as u64;
        let (reason, oldest_allowed) = match settings.older_than {
            Some(age) => (Reason::Old, nanos(age)),
            None if line.finalized > 0 && settings.drained => (Reason::Undropped, 0),
            None if line.finalized > 0 => {
                (Reason::Outlived, line.longest_ns.saturating_mul(OUTLIVED_FACTOR).max(least))
            }
            None if growing.contains(&place) => (Reason::NeverReleased, least),
            None => return None,
        };
        let age = |arena: &OpenArena| now_ns.saturating_sub(arena.created_ns);
        let old = line.open.iter().filter(|arena| age(arena) > oldest_allowed);
        let items = sorted(old.map(|arena| Item {
            id: arena.id,
            thread: arena.thread,
            thread_name: arena.thread_name.clone(),
            age_s: age(arena) as f64 / 1e9,
            bytes: arena.bytes,
        }));
        (!items.is_empty()).then(|| Leak {
            kind: Kind::Arena,
            place: place.clone(),
            reason,
            bytes: total(&items),
            created: line.created,
            finalized: line.finalized,
            longest_released_s: line.longest_ns as f64 / 1e9,
            items,
            witnesses: Vec::new(),
        })
    };
    lines.iter().filter_map(leak).collect()
}

/// How many arenas of a line that never releases any were open at [`WINDOWS`] moments from its first to now.
fn history(open: &[&OpenArena], now_ns: u64) -> Vec<f64> {
    let first = open.iter().map(|arena| arena.created_ns).min().unwrap_or(now_ns);
    let span = u128::from(now_ns.saturating_sub(first));
    let moment = |window: usize| first.saturating_add((span * (window as u128 + 1) / WINDOWS as u128) as u64);
    (0..WINDOWS).map(|window| open.iter().filter(|arena| arena.created_ns <= moment(window)).count() as f64).collect()
}

fn scope_leaks(reading: &ArenaReading, now_ns: u64, settings: Settings) -> Vec<Leak> {
    // When a process ends, its threads are where they are.
    if !settings.running {
        return Vec::new();
    }
    let longest = nanos(settings.older_than.unwrap_or(LONGEST_SCOPE));
    let age = |scope: &OpenScope| now_ns.saturating_sub(scope.begun_ns);
    let mut places = BTreeMap::<String, Vec<&OpenScope>>::new();
    for scope in reading.scopes.iter().filter(|scope| age(scope) > longest) {
        places.entry(place_of(reading, scope.place)).or_default().push(scope);
    }
    let leak = |(place, scopes): (String, Vec<&OpenScope>)| {
        let items = sorted(scopes.into_iter().map(|scope| Item {
            id: scope.id,
            thread: scope.thread,
            thread_name: scope.thread_name.clone(),
            age_s: age(scope) as f64 / 1e9,
            bytes: scope.bytes,
        }));
        let bytes = total(&items);
        let kind = Kind::Scope;
        let (created, finalized, longest_released_s, witnesses) = (0, 0, 0.0, Vec::new());
        Leak { kind, place, reason: Reason::Old, bytes, created, finalized, longest_released_s, items, witnesses }
    };
    places.into_iter().map(leak).collect()
}

fn escapes(reading: &ArenaReading) -> Vec<Escapes> {
    let mut lines = BTreeMap::<String, Escapes>::new();
    for place in reading.places.iter().filter(|place| place.escaping_scopes > 0) {
        let line = lines.entry(text(place)).or_insert_with_key(|place| Escapes {
            place: place.clone(),
            scopes: 0,
            objects: 0,
            bytes: 0,
        });
        line.scopes = line.scopes.saturating_add(place.escaping_scopes);
        line.objects = line.objects.saturating_add(place.escaped_objects);
        line.bytes = line.bytes.saturating_add(place.escaped_bytes);
    }
    let mut escapes: Vec<Escapes> = lines.into_values().collect();
    escapes.sort_by_key(|escapes| std::cmp::Reverse(escapes.bytes));
    escapes
}

fn sorted(items: impl Iterator<Item = Item>) -> Vec<Item> {
    let mut items: Vec<Item> = items.collect();
    items.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(b.age_s.total_cmp(&a.age_s)));
    items
}

fn total(items: &[Item]) -> u64 {
    items.iter().fold(0, |sum, item| sum.saturating_add(item.bytes))
}

fn nanos(age: Duration) -> u64 {
    u64::try_from(age.as_nanos()).unwrap_or(u64::MAX)
}

fn place_of(reading: &ArenaReading, index: usize) -> String {
    reading.places.get(index).map_or_else(|| text(&Place::default()), text)
}

fn text(place: &Place) -> String {
    if place.file.is_empty() {
        "(other places)".to_owned()
    } else {
        format!("{}:{}:{}", place.file, place.line, place.column)
    }
}

#[cfg(test)]
mod tests;
