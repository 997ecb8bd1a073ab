//! heapgate-segment: the shared-memory ABI between a measured process and the tool that watches it.
//!
//! A segment is a sealed memory file. The measured process (through heapgate-alloc) writes counters into it with plain
//! stores to memory that each thread owns; whoever holds the file reads them at any time, also after the process was
//! killed. The two ends are compiled apart, so the layout is versioned and [`reader`] takes what it finds for hostile.
//!
//! | module | what |
//! | --- | --- |
//! | [`layout`] | the bytes: header, slots, phases, and the check that they are what they claim |
//! | [`slot`] | one thread's counters, and the table of who owns which |
//! | [`groups`] | groups of threads under different settings, and which slot is whose |
//! | [`requests`] | what the requests of each group took |
//! | [`tally`] | one slot's counts at one moment |
//! | [`histogram`] | the log-linear scale of latencies |
//! | [`size_class`] | the same scale, coarser, for sizes |
//! | [`clock`] | ticks: what the histograms count in |
//! | [`writer`] | the measured process's end |
//! | [`reader`] | the watching end, safe code throughout |
//! | [`identity`] | whose segment it is |
//! | [`arenas`] | who made which arena or scope, when and where, and has not released it: both ends |
//! | [`control`] | steering the process from outside |
//! | [`published`] | segments of services, by name in a folder: making, finding and reading them |
//! | [`stacks`] | sampled call stacks: a table of its own, both ends |
//! | [`mailbox`] | requests to a published process, and its answers |
//! | [`text`] | a short text in place, which nobody allocates for |
//! | [`probes`] | static probes for bpftrace and its like |
//! | [`trace_line`] | what a process's trace line is made of, for who writes it and who reads it |
//! | [`limit`] | the most memory that a process may have |
//! | [`setting`] | settings of a running process: names, bounds, presets |
//! | [`steering`] | what a process says of them, and of its soft limit |
//! | [`map`] | memory files, mapping, waiting: the only OS code |

pub mod histogram;
pub mod limit;
pub mod setting;
pub mod size_class;
pub mod text;
pub mod trace_line;

mod owners;

#[cfg(not(loom))]
pub mod arenas;
#[cfg(not(loom))]
pub mod clock;
#[cfg(not(loom))]
pub mod control;
#[cfg(not(loom))]
pub mod groups;
#[cfg(not(loom))]
pub mod identity;
#[cfg(not(loom))]
pub mod layout;
#[cfg(not(loom))]
pub mod mailbox;
#[cfg(not(loom))]
pub mod map;
#[cfg(not(loom))]
pub mod probes;
#[cfg(not(loom))]
pub mod published;
#[cfg(not(loom))]
pub mod reader;
#[cfg(not(loom))]
pub mod requests;
#[cfg(not(loom))]
pub mod slot;
#[cfg(not(loom))]
pub mod stacks;
#[cfg(not(loom))]
pub mod steering;
#[cfg(not(loom))]
pub mod tally;
#[cfg(not(loom))]
pub mod writer;
