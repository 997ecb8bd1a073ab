//! Reads what this machine is, for the fingerprint.

use std::fs;

use procfs::Current;

use crate::report::Machine;
use crate::sys;

impl Machine {
    /// This machine. What can't be read is left empty, which makes a class of its own.
    #[must_use]
    pub fn detect() -> Self {
        Self {
            arch: std::env::consts::ARCH.to_owned(),
            cpu: cpu_model(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            memory_gib: procfs::Meminfo::current()
                .map_or(0, |m| (m.mem_total as f64 / f64::from(1 << 30)).round() as u64),
            kernel: major_minor(&sys::machine::kernel_release()),
            libc: sys::machine::libc_version(),
            page_bytes: sys::machine::page_bytes(),
            thp: fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
                .map_or_else(|_| String::new(), |t| chosen(&t)),
        }
    }
}

/// The model's name, and its numbers where there are some: hypervisors give many models one name.
fn cpu_model() -> String {
    let Ok(info) = procfs::CpuInfo::current() else { return String::new() };
    let field = |name: &str| info.get_field(0, name).unwrap_or("");
    let numbers = ["cpu family", "model", "stepping"].map(field);
    let name = info.model_name(0).unwrap_or("");
    if numbers.iter().all(|n| n.is_empty()) { name.to_owned() } else { format!("{name} ({})", numbers.join("/")) }
}

/// `6.18.44-something` → `6.18`.
fn major_minor(release: &str) -> String {
    release.split(['.', '-']).take(2).collect::<Vec<_>>().join(".")
}

/// `always [madvise] never` → `madvise`.
fn chosen(choices: &str) -> String {
    choices.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map_or("", |(chosen, _)| chosen).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_the_same_each_time_it_is_looked_at() {
        let machine = Machine::detect();
        assert_eq!(machine, Machine::detect());
        assert!(machine.page_bytes >= 4096 && machine.cpus >= 1 && machine.memory_gib >= 1, "{machine:?}");
    }

    #[test]
    fn only_what_makes_a_class_is_kept() {
        assert_eq!(major_minor("6.18.44-fc-v657"), "6.18");
        assert_eq!(major_minor("5.10-rc1"), "5.10");
        assert_eq!(chosen("always [madvise] never\n"), "madvise");
        assert_eq!(chosen("nonsense"), "");
    }
}
