//! Whether what is named is borne out by what was measured another way: the heap's sites, jemalloc's own profile, and all live
//! bytes.

use serde::Serialize;

use super::growth::{LEFT_SHARE, SiteGrowth, SiteSeries};
use super::{Leak, LiveTrend};
use crate::metric::Unit;
use crate::render::human;

/// What was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The stacks of sampled allocations that are alive.
    HeapSites,
    /// jemalloc's profiler.
    JemallocProfile,
    /// Live bytes of the whole process: counted at each moment, or those of its trace lines.
    LiveBytes,
}

/// What something else says of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// What.
    pub source: Source,
    /// Whether it agrees.
    pub agrees: bool,
    /// What it says.
    pub said: String,
}

/// What there is to compare with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// Sites over the moments; `None` where stacks were not taken.
    pub sites: Option<&'a [SiteSeries]>,
    /// The same from jemalloc's dumps at two ends.
    pub jemalloc: Option<&'a [SiteSeries]>,
    /// All live bytes.
    pub live_bytes: Option<LiveTrend>,
}

impl Evidence<'_> {
    /// What it says of arenas that are not released.
    #[must_use]
    pub fn of_arenas(&self, leak: &Leak) -> Vec<Witness> {
        let sites = self.sites.map(|sites| arenas_in(sites, leak, Source::HeapSites));
        let jemalloc = self.jemalloc.map(|sites| arenas_in(sites, leak, Source::JemallocProfile));
        sites.into_iter().chain(jemalloc).chain(self.live_bytes.map(live)).collect()
    }

    /// What it says of a site that grows.
    #[must_use]
    pub fn of_site(&self, site: &SiteGrowth) -> Vec<Witness> {
        let jemalloc = self.jemalloc.map(|sites| same_site(sites, site));
        jemalloc.into_iter().chain(self.live_bytes.map(live)).collect()
    }
}

/// Blocks of arenas that are alive, of those whose stacks pass the file that made them.
fn arenas_in(sites: &[SiteSeries], leak: &Leak, source: Source) -> Witness {
    let file = leak.place.split(':').next().unwrap_or_default();
    let same = |other: &String| !other.is_empty() && (file.ends_with(other.as_str()) || other.ends_with(file));
    let of_file = sites.iter().filter(|site| site.through_arena && site.files.iter().any(same));
    let mut alive: Vec<(&SiteSeries, f64)> = of_file.map(|site| (site, alive_bytes(site))).collect();
    alive.sort_by(|a, b| b.1.total_cmp(&a.1));
    let all: f64 = alive.iter().map(|(_, bytes)| bytes).sum();
    let agrees = all > 0.0 && all >= LEFT_SHARE * leak.bytes as f64;
    let said = match alive.first() {
        Some((largest, _)) if all > 0.0 => {
            format!("{} of arenas' blocks alive, most of {}", bytes(all), line_of(largest))
        }
        _ => "no sampled block of an arena of that file is alive; more are sampled with --every or --exact".to_owned(),
    };
    Witness { source, agrees, said }
}

/// Of a site's bytes, those in the end, or by which it has grown.
fn alive_bytes(site: &SiteSeries) -> f64 {
    let grown = || site.bytes.last().zip(site.bytes.first()).map_or(0.0, |(last, first)| last - first);
    site.left_bytes.unwrap_or_else(grown).max(0.0)
}

fn same_site(sites: &[SiteSeries], site: &SiteGrowth) -> Witness {
    let same = |other: &&SiteSeries| other.place.function == site.function && line_of(other) == site.place;
    let grown: f64 = sites.iter().filter(same).map(alive_bytes).sum();
    let said = if grown > 0.0 {
        format!("this line grew by {} while measuring", bytes(grown))
    } else {
        "no sample of this line that stays".to_owned()
    };
    Witness { source: Source::JemallocProfile, agrees: grown >= LEFT_SHARE * site.live_bytes, said }
}

fn line_of(site: &SiteSeries) -> String {
    if site.place.file.is_empty() {
        site.place.function.clone()
    } else {
        format!("{}:{}", site.place.file, site.place.line)
    }
}

fn live(trend: LiveTrend) -> Witness {
    let [first, last] = [trend.first_bytes, trend.last_bytes].map(|value| bytes(value.max(0.0)));
    let did = if trend.grows { "grew" } else { "did not grow" };
    let said = format!("live bytes {did} over {} windows, {first} to {last}", trend.windows);
    Witness { source: Source::LiveBytes, agrees: trend.grows, said }
}

fn bytes(count: f64) -> String {
    human::value(Unit::Bytes, count)
}
