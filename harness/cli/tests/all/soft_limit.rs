//! A soft limit under a real limit of the kernel's: a control group of version 1, which takes root. (That of version 2 is to be had
//! only where version 1 has none; `heapgate_segment::limit` tests in real groups of version 2 how it is found.)

use std::fs;
use std::path::PathBuf;

use crate::common::processes::alone_with_sigkill;
use crate::common::{Place, Ran};

/// Where the memory controller of version 1 is.
const MEMORY: &str = "/sys/fs/cgroup/memory";

/// A control group, until it is dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where there is no such controller, or it may not be used.
    fn new(name: &str, limit_bytes: u64) -> Option<Self> {
        let path = PathBuf::from(format!("{MEMORY}/heapgate-test-{}-{name}", std::process::id()));
        // What a process of this number may have left.
        let _ = fs::remove_dir(&path);
        fs::create_dir(&path).ok()?;
        let group = Self(path);
        fs::write(group.0.join("memory.limit_in_bytes"), limit_bytes.to_string()).ok()?;
        Some(group)
    }

    fn number(&self, file: &str) -> u64 {
        fs::read_to_string(self.0.join(file)).ok().and_then(|text| text.trim().parse().ok()).expect(file)
    }

    /// Runs `script` in it, which starts heapgate.
    fn run(&self, place: &Place, script: &str) -> Ran {
        place.shell(&format!("echo $$ >{}/cgroup.procs && {script}", self.0.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// The service of E4 with half of its chunks, and an allocator that keeps every page.
const BATCHES: &str = "HEAPGATE_ALLOCATOR=jemalloc _RJEM_MALLOC_CONF=dirty_decay_ms:-1,muzzy_decay_ms:-1 \
    exec $heapgate trial embed/seeded-bert --param chunks=10000 --param batch=512 --param dim=512 --param hidden=128 \
    --param layers=1 --steps 12";

#[test]
fn a_batch_job_that_the_kernel_kills_survives_with_a_soft_limit() {
    const LIMIT: u64 = 300 << 20;
    let _alone = alone_with_sigkill();
    let (Some(without), Some(with)) = (Group::new("without", LIMIT), Group::new("with", LIMIT)) else {
        eprintln!("skipped: no memory controller of version 1 in {MEMORY} that this user may use (it takes root)");
        assert!(std::env::var_os("HEAPGATE_REQUIRE_CGROUP").is_none(), "HEAPGATE_REQUIRE_CGROUP is set");
        return;
    };
    let place = Place::new();
    let killed = without.run(&place, BATCHES);
    assert_eq!(killed.code, None, "ended by a signal: {killed:?}");
    let survived = with.run(&place, &format!("HEAPGATE_SOFT_LIMIT=70% {BATCHES}"));
    let survived = survived.ends_with(0);
    assert!(survived.stdout.contains("chunks, checksum"), "{survived:?}");
    assert!(with.number("memory.max_usage_in_bytes") <= LIMIT);
    // The answers are those of a run without a limit.
    let free = place.shell(&format!("{BATCHES} 2>&1"));
    assert_eq!(survived.stdout, free.ends_with(0).stdout);
}
