//! A process as the kernel sees it, read from outside through `/proc`.

use std::fs;
use std::path::Path;

use procfs::process::Process;

use crate::sys;

/// Reads one process. Held by a directory handle, so that a reused process id is never taken for it.
#[derive(Debug)]
pub struct Sampler {
    process: Process,
    page_bytes: u64,
}

/// What one look found. Counts are since the process's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Its anonymous part, bytes.
    pub anonymous_bytes: u64,
    /// The part of it in huge pages, bytes.
    pub huge_page_bytes: u64,
    /// Proportional share, bytes.
    pub pss_bytes: u64,
    /// Page tables, bytes.
    pub page_table_bytes: u64,
    /// Most resident memory since [`Sampler::reset_peak`] (or ever, where the kernel refuses to reset), bytes.
    pub peak_rss_bytes: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
    /// Times it waited.
    pub voluntary_switches: u64,
    /// Times it was taken off its CPU.
    pub involuntary_switches: u64,
    /// CPU time, ns.
    pub cpu_ns: u64,
    /// Threads.
    pub threads: u64,
}

impl Sampler {
    /// Takes hold of process `pid`; `None` if it is gone.
    #[must_use]
    pub fn new(pid: u32) -> Option<Self> {
        Some(Self { process: Process::new(i32::try_from(pid).ok()?).ok()?, page_bytes: sys::machine::page_bytes() })
    }

    /// Resident memory, bytes: the cheap look (2 µs), for sampling.
    #[must_use]
    pub fn rss_bytes(&self) -> Option<u64> {
        Some(self.process.statm().ok()?.resident * self.page_bytes)
    }

    /// Everything: the dear look (about 1 ms for each 300 MB), for the ends of phases.
    #[must_use]
    pub fn snapshot(&self) -> Option<Snapshot> {
        let (rollup, stat, status) =
            (self.process.smaps_rollup().ok()?, self.process.stat().ok()?, self.process.status().ok()?);
        let (voluntary_switches, involuntary_switches) = self.switches();
        let sizes = &rollup.memory_map_rollup.0.first()?.extension.map;
        let bytes = |name: &str| sizes.get(name).copied().unwrap_or(0);
        let kib = |value: Option<u64>| value.unwrap_or(0) * 1024;
        Some(Snapshot {
            rss_bytes: bytes("Rss"),
            anonymous_bytes: bytes("Anonymous"),
            huge_page_bytes: bytes("AnonHugePages") + bytes("ShmemPmdMapped") + bytes("FilePmdMapped"),
            pss_bytes: bytes("Pss"),
            page_table_bytes: kib(status.vmpte),
            peak_rss_bytes: kib(status.vmhwm),
            minor_faults: stat.minflt,
            major_faults: stat.majflt,
            voluntary_switches,
            involuntary_switches,
            cpu_ns: sys::cpu_time::of_process(self.process.pid.unsigned_abs()).unwrap_or(0),
            threads: status.threads,
        })
    }

    /// Context switches of all threads that are there, voluntary and not: the kernel does not add up those of ended
    /// ones.
    fn switches(&self) -> (u64, u64) {
        let Ok(tasks) = self.process.tasks() else { return (0, 0) };
        let statuses = tasks.flatten().filter_map(|task| task.status().ok());
        statuses.fold((0, 0), |(voluntary, involuntary), status| {
            (
                voluntary + status.voluntary_ctxt_switches.unwrap_or(0),
                involuntary + status.nonvoluntary_ctxt_switches.unwrap_or(0),
            )
        })
    }

    /// Starts the peak of resident memory anew from what is resident now. False where the kernel refuses.
    #[must_use]
    pub fn reset_peak(&self) -> bool {
        /// See `proc_pid_clear_refs(5)`.
        const RESET_PEAK: &str = "5";
        fs::write(format!("/proc/{}/clear_refs", self.process.pid), RESET_PEAK).is_ok()
    }
}

/// CPU time of the whole machine: `(all, stolen by a hypervisor)`, in clock ticks.
#[must_use]
pub fn machine_time() -> Option<(u64, u64)> {
    use procfs::CurrentSI;
    let total = procfs::KernelStats::current().ok()?.total;
    let steal = total.steal?;
    // Guest time is part of user time.
    let all = total.user + total.nice + total.system + total.idle + total.iowait.unwrap_or(0) + total.irq.unwrap_or(0);
    Some((all + total.softirq.unwrap_or(0) + steal, steal))
}

/// How many processes the kernel has killed for want of memory: those of `cgroup` (by whichever limit), or, where none
/// is given, all of this machine. `None` where nobody counts, as in a cgroup without the memory controller.
#[must_use]
pub fn oom_kills(cgroup: Option<&Path>) -> Option<u64> {
    /// Of version 2 and of version 1.
    const COUNTERS: [&str; 2] = ["memory.events", "memory.oom_control"];
    match cgroup {
        Some(folder) => {
            COUNTERS.iter().find_map(|file| fs::read_to_string(folder.join(file)).ok()).and_then(|text| counted(&text))
        }
        None => counted(&fs::read_to_string("/proc/vmstat").ok()?),
    }
}

/// The number in the line `oom_kill N`.
fn counted(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_resident_and_has_used_time() {
        let sampler = Sampler::new(std::process::id()).unwrap();
        let snapshot = sampler.snapshot().unwrap();
        assert!(snapshot.rss_bytes > 100_000 && snapshot.anonymous_bytes <= snapshot.rss_bytes, "{snapshot:?}");
        assert!(snapshot.cpu_ns > 0 && snapshot.threads >= 1 && snapshot.page_table_bytes > 0);
        assert!(sampler.rss_bytes().unwrap() > 100_000);
    }

    #[test]
    fn a_cgroup_counts_its_own_dead() {
        for (file, text) in [
            ("memory.events", "low 0\nhigh 0\nmax 812\noom 4\noom_kill 3\noom_group_kill 0\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(oom_kills(Some(folder.path())), None, "never that of the machine instead");
            fs::write(folder.path().join(file), text).unwrap();
            assert_eq!(oom_kills(Some(folder.path())), Some(3), "{file}");
        }
        assert!(oom_kills(None).is_some(), "of the machine");
    }

    #[test]
    fn a_process_that_is_not_there_is_none() {
        assert!(Sampler::new(u32::MAX).is_none());
        assert!(Sampler::new(i32::MAX.unsigned_abs()).is_none());
    }
}
