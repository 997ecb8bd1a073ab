//! Two allocators side by side in one process: large blocks in bump arenas, small strings in the heap.
//!
//! [`blocks`] has the large ones, [`strings`] the small ones, [`touch`] has them take turns, and [`kernel`] asks what
//! the memory is made of. Only the constant here is meant for the registry; the rest is public for tests.

use heapgate_bench::{FigureSpec, ParamSpec, Variant};

pub mod blocks;
pub mod kernel;
pub mod strings;
pub mod touch;

/// Blocks of token ids in arenas and strings in the heap, replaced and read in turns.
pub const SIDE_BY_SIDE: Variant = Variant::new(
    "mixed",
    "side-by-side",
    "read",
    "large blocks of ids in a bumpalo arena for each batch, beside small strings in the heap; read at random places",
    touch::setup,
)
.params(PARAMS)
.figures(FIGURES);

/// The parameter that says which of the two there is.
pub const PART: &str = "part";

/// The parameter that says how much they hold together.
pub const MIB: &str = "mib";

const PARAMS: &[ParamSpec] = &[
    ParamSpec {
        name: PART,
        default: "both",
        choices: &["arena", "malloc", "both"],
        help: "all bytes in arenas, all from malloc, or half and half; as many reads in each case",
    },
    ParamSpec { name: MIB, default: "64", choices: &[], help: "bytes they hold together, MiB, 8 to 4096" },
];

const FIGURES: &[FigureSpec] = &[
    FigureSpec { name: "dtlb_load_misses_per_s", help: "Loads that missed the data TLB, where perf can count them." },
    FigureSpec { name: "minor_faults", help: "Page faults without I/O while measuring." },
    FigureSpec {
        name: "huge_page_share",
        help: "Share of resident memory that is in huge pages, with a batch in hand.",
    },
    FigureSpec { name: "page_table_bytes", help: "Page tables, with a batch in hand." },
    FigureSpec { name: "read_ns", help: "Time of a step for each of its reads." },
];
