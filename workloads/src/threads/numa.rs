//! The machine's NUMA nodes, and threads bound to one.

#![allow(unsafe_code, reason = "the C library's call to bind a thread has no safe form")]

use std::path::Path;
use std::{fs, io, mem};

/// Where the kernel tells of them.
const NODES: &str = "/sys/devices/system/node";

/// The CPUs of each node that has any, in the order of the nodes' numbers. Where the kernel does not tell, as in many
/// containers: one node, with all CPUs that this thread may run on; empty if not even those are known.
#[must_use]
pub fn nodes() -> Vec<Vec<usize>> {
    let nodes = nodes_in(Path::new(NODES));
    if nodes.is_empty() { allowed().into_iter().collect() } else { nodes }
}

/// The CPUs that the calling thread may run on. None where a set of fixed size is too small for this machine's.
fn allowed() -> Option<Vec<usize>> {
    let mut set = no_cpus();
    // SAFETY: the set is alive, may be written, and is of the size that is given; 0 is the calling thread.
    let result = unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &raw mut set) };
    // SAFETY: the CPU is within the set, by the range.
    let in_set = |&cpu: &usize| unsafe { libc::CPU_ISSET(cpu, &set) };
    (result == 0).then(|| (0..libc::CPU_SETSIZE as usize).filter(in_set).collect())
}

fn no_cpus() -> libc::cpu_set_t {
    // SAFETY: a set of CPUs is plain bits, of which zeros are a valid value: the empty set.
    unsafe { mem::zeroed() }
}

fn nodes_in(folder: &Path) -> Vec<Vec<usize>> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let number = |name: &str| name.strip_prefix("node")?.parse::<usize>().ok();
    let mut nodes: Vec<(usize, Vec<usize>)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = number(entry.file_name().to_str()?)?;
            let cpus = cpu_list(&fs::read_to_string(entry.path().join("cpulist")).ok()?)?;
            (!cpus.is_empty()).then_some((number, cpus))
        })
        .collect();
    nodes.sort_unstable();
    nodes.into_iter().map(|(_, cpus)| cpus).collect()
}

/// Reads a list like `0-3,8`.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cpus)
}

/// Lets the calling thread run on `cpus` only. What it is the first to touch from then on is put in their node's
/// memory, which is the kernel's default policy.
///
/// # Errors
/// What the kernel said, for instance where a container may not use them.
pub fn bind(cpus: &[usize]) -> io::Result<()> {
    let mut set = no_cpus();
    // What doesn't fit into a set can't be asked for.
    for &cpu in cpus.iter().filter(|&&cpu| cpu < libc::CPU_SETSIZE as usize) {
        // SAFETY: the CPU is within the set, by the filter.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the set is alive and of the size that is given; 0 is the calling thread.
    match unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0-2,8\n"), Some(vec![0, 1, 2, 8]));
        assert_eq!(cpu_list("\n"), Some(vec![]));
        assert_eq!(cpu_list("a"), None);
    }

    #[test]
    fn nodes_without_cpus_are_left_out() {
        let folder = std::env::temp_dir().join(format!("heapgate-numa-{}", std::process::id()));
        for (node, cpus) in [("node0", "0-1\n"), ("node1", "\n"), ("node10", "4\n"), ("node2", "2-3\n")] {
            fs::create_dir_all(folder.join(node)).expect("make folder");
            fs::write(folder.join(node).join("cpulist"), cpus).expect("write");
        }
        fs::write(folder.join("online"), "0-2,10\n").expect("write");
        let nodes = nodes_in(&folder);
        fs::remove_dir_all(&folder).expect("remove");
        assert_eq!(nodes, [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!(nodes_in(Path::new("/nowhere")), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn a_thread_may_be_bound_to_the_cpus_that_it_may_run_on() {
        std::thread::spawn(|| {
            let cpus = allowed().expect("fewer CPUs than a set has room for");
            bind(&cpus[..1]).expect("it may run there");
            assert_eq!(allowed(), Some(vec![cpus[0]]));
        })
        .join()
        .expect("it is told");
    }

    #[test]
    fn a_thread_bound_to_no_cpu_is_refused() {
        std::thread::spawn(|| assert!(bind(&[]).is_err())).join().expect("it is told");
    }
}
