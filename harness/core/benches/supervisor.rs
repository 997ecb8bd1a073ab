//! What watching costs: the supervisor's own CPU time while a child sleeps, as a share of a core.
//!
//! `cargo bench -p heapgate-core --bench supervisor`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use heapgate_core::plan::{Plan, Planned};
use heapgate_core::report::Cell;
use heapgate_core::supervisor::{Event, Settings, SuperviseError, run};

const SECONDS: &str = "10";

fn main() {
    let cell = Cell {
        workload: "sleep".to_owned(),
        variant: SECONDS.to_owned(),
        allocator: "none".to_owned(),
        params: BTreeMap::new(),
    };
    let planned = Planned {
        cell,
        unit: "second".to_owned(),
        figures: Vec::new(),
        arguments: vec![SECONDS.to_owned()],
        environment: Vec::new(),
        program: None,
        side: 0,
    };
    let plan = Plan { cells: vec![planned], group: 1, first_rep: 0, reps: 1, seed: 0 };
    let mut samples = 0;
    let (start, cpu) = (Instant::now(), cpu_ns());
    let finish = run(&plan, &Settings::new(PathBuf::from("sleep")), &AtomicBool::new(false), |event| {
        if let Event::Ended(trial) = event {
            samples = trial.rss_series.len();
        }
        Ok::<(), Error>(())
    });
    assert!(finish.is_ok(), "the child runs");
    let (wall, cpu) = (start.elapsed().as_nanos() as f64, (cpu_ns() - cpu) as f64);
    println!("{samples} samples in {:.1} s: {:.2} % of a core", wall / 1e9, 100.0 * cpu / wall);
}

struct Error;

impl From<SuperviseError> for Error {
    fn from(_: SuperviseError) -> Self {
        Self
    }
}

/// CPU time of this process, ns: user and kernel, from `/proc/self/schedstat`.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("schedstat");
    text.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}
