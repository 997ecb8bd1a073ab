//! Names of allocators, as people write them: `system`, `jemalloc`, `jemalloc:dirty_decay_ms=0`, `region`,
//! `region+system`.

use std::fmt;
use std::str::FromStr;

use crate::switch::ALLOCATOR_VARIABLE;

/// An allocator without its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Base {
    /// The C library's.
    System,
    /// jemalloc.
    Jemalloc,
    /// Each step of the workload in one region; outside them, jemalloc.
    RegionJemalloc,
    /// Each step of the workload in one region; outside them, the C library's.
    RegionSystem,
}

impl Base {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::System, Self::Jemalloc, Self::RegionJemalloc, Self::RegionSystem];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Jemalloc => "jemalloc",
            Self::RegionJemalloc => "region",
            Self::RegionSystem => "region+system",
        }
    }

    /// One line of help.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::System => "the C library's malloc",
            Self::Jemalloc => {
                "jemalloc; takes any of its options, as in jemalloc:dirty_decay_ms=0,background_thread=true"
            }
            Self::RegionJemalloc => {
                "each step of the workload in one region over jemalloc; takes jemalloc's options too"
            }
            Self::RegionSystem => "each step of the workload in one region over the C library's malloc",
        }
    }

    /// The allocator of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|base| base.name() == name)
    }

    /// Whether steps run in region scopes.
    #[must_use]
    pub const fn has_region(self) -> bool {
        matches!(self, Self::RegionJemalloc | Self::RegionSystem)
    }

    /// Whether jemalloc is it, or is below it.
    #[must_use]
    pub const fn has_jemalloc(self) -> bool {
        matches!(self, Self::Jemalloc | Self::RegionJemalloc)
    }
}

/// jemalloc's options (5.3) that this build may have; see its manual for each.
const JEMALLOC_OPTIONS: &[&str] = &[
    "abort",
    "abort_conf",
    "background_thread",
    "cache_oblivious",
    "confirm_conf",
    "dirty_decay_ms",
    "dss",
    "hpa",
    "junk",
    "lg_extent_max_active_fit",
    "lg_tcache_max",
    "max_background_threads",
    "metadata_thp",
    "muzzy_decay_ms",
    "narenas",
    "oversize_threshold",
    "percpu_arena",
    "retain",
    "stats_print",
    "stats_print_opts",
    "tcache",
    "tcache_max",
    "thp",
    "trust_madvise",
    "xmalloc",
    "zero",
    "zero_realloc",
];

/// An allocator with its settings.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllocatorSpec {
    /// Which allocator.
    pub base: Base,
    /// jemalloc's options: name and value.
    pub options: Vec<(String, String)>,
}

/// Why a text names no allocator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// There is no such allocator.
    #[error("unknown allocator '{name}'; there are: {}", Base::ALL.map(Base::name).join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// Only jemalloc has options.
    #[error("'{0}' takes no options; only jemalloc and region (over jemalloc) do")]
    NoOptions(&'static str),
    /// An option is not of the form name=value.
    #[error("'{0}' is not of the form name=value")]
    Form(String),
    /// jemalloc has no such option.
    #[error("jemalloc has no option '{name}'; it has: {}", JEMALLOC_OPTIONS.join(", "))]
    Option {
        /// The name.
        name: String,
    },
}

impl FromStr for AllocatorSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let (name, options) = text.split_once(':').unwrap_or((text, ""));
        let base = Base::from_name(name).ok_or_else(|| SpecError::Unknown { name: name.to_owned() })?;
        let options = options.split(',').filter(|o| !o.is_empty()).map(parse_option).collect::<Result<Vec<_>, _>>()?;
        if !options.is_empty() && !base.has_jemalloc() {
            return Err(SpecError::NoOptions(base.name()));
        }
        Ok(Self { base, options })
    }
}

fn parse_option(text: &str) -> Result<(String, String), SpecError> {
    let (name, value) = text.split_once('=').ok_or_else(|| SpecError::Form(text.to_owned()))?;
    // A colon or comma in a value would begin another option in jemalloc's own syntax.
    if value.is_empty() || value.contains([':', ',']) {
        return Err(SpecError::Form(text.to_owned()));
    }
    if !JEMALLOC_OPTIONS.contains(&name) {
        return Err(SpecError::Option { name: name.to_owned() });
    }
    Ok((name.to_owned(), value.to_owned()))
}

impl fmt::Display for AllocatorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.name())?;
        for (index, (name, value)) in self.options.iter().enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { ':' } else { ',' })?;
        }
        Ok(())
    }
}

impl AllocatorSpec {
    /// The environment that makes a fresh process use this allocator. An option that jemalloc refuses ends that process
    /// (`abort_conf`) instead of being ignored.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let mut conf = String::from("abort_conf:true");
        for (name, value) in &self.options {
            conf.push_str(&format!(",{name}:{value}"));
        }
        [(ALLOCATOR_VARIABLE, self.base.name().to_owned()), ("_RJEM_MALLOC_CONF", conf)]
    }
}

/// The allocator that a cell is measured under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Under {
    /// One that the [`Switch`](crate::Switch) chooses.
    Switch(AllocatorSpec),
    /// A bench's own, called `own`, of which nothing is known.
    Own,
}

impl Under {
    /// The environment that makes a fresh process use it.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Switch(spec) => spec.environment().into(),
            Self::Own => Vec::new(),
        }
    }
}

impl FromStr for Under {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        if text == "own" { Ok(Self::Own) } else { text.parse().map(Self::Switch) }
    }
}

impl fmt::Display for Under {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(spec) => spec.fmt(f),
            Self::Own => f.write_str("own"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_options_is_read_and_written_alike() {
        for text in ["system", "jemalloc", "jemalloc:dirty_decay_ms=0,narenas=1", "region", "region+system"] {
            assert_eq!(text.parse::<AllocatorSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_unknown_name_or_option_lists_the_valid_ones() {
        let unknown = "mimalloc".parse::<AllocatorSpec>().unwrap_err().to_string();
        assert!(unknown.contains("system, jemalloc, region, region+system"), "{unknown}");
        let option = "jemalloc:decay=0".parse::<AllocatorSpec>().unwrap_err().to_string();
        assert!(option.contains("dirty_decay_ms"), "{option}");
        assert_eq!("system:x=1".parse::<AllocatorSpec>(), Err(SpecError::Option { name: "x".into() }));
        assert_eq!("system:narenas=1".parse::<AllocatorSpec>(), Err(SpecError::NoOptions("system")));
        assert_eq!("jemalloc:narenas".parse::<AllocatorSpec>(), Err(SpecError::Form("narenas".into())));
        assert_eq!(
            "jemalloc:narenas=1:junk=true".parse::<AllocatorSpec>(),
            Err(SpecError::Form("narenas=1:junk=true".into()))
        );
    }

    #[test]
    fn every_listed_option_is_one_of_the_jemalloc_we_build() {
        for option in JEMALLOC_OPTIONS {
            // `tcache_max` and `lg_tcache_max` set one value, which is read under the first name only.
            if *option == "lg_tcache_max" {
                continue;
            }
            assert!(crate::jemalloc::has_option(option), "jemalloc has no opt.{option}");
        }
    }
}
