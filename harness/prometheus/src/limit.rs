//! The most memory that a process may have.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Version 1 writes a number of about 2^63 for "no limit"; no machine has a quarter of it.
const NO_LIMIT: u64 = 1 << 61;

/// The least of the limits of `pid`'s control groups and the machine's memory, bytes; `None` where nothing of this can be read.
#[must_use]
pub fn memory_limit_bytes(pid: u32) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    limit_of_groups(&groups, Path::new(MOUNT)).into_iter().chain(machine_bytes()).min()
}

fn machine_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix(" kB")?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of the groups in `groups` (the text of `/proc/PID/cgroup`) and of those that they are in. A container sees
/// its own group as the root, and the name that the host has for it: so the root is looked at in any case.
fn limit_of_groups(groups: &str, mount: &Path) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        // Version 2 has one hierarchy, without a name; version 1 one for each controller.
        let (root, file) = if controllers.is_empty() {
            (mount.to_owned(), "memory.max")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (mount.join("memory"), "memory.limit_in_bytes")
        } else {
            return None;
        };
        limit_at_or_above(&root, path, file)
    });
    limits.min()
}

fn limit_at_or_above(root: &Path, path: &str, file: &str) -> Option<u64> {
    let group = PathBuf::from(path.trim_start_matches('/'));
    let read = |folder: &Path| {
        let text = fs::read_to_string(root.join(folder).join(file)).ok()?;
        text.trim().parse().ok().filter(|&limit: &u64| limit < NO_LIMIT)
    };
    // The last ancestor is the empty path: the root. A name from outside may climb ("/../x"), which finds nothing or a limit
    // that is none of ours.
    group.ancestors().filter(|folder| !folder.to_string_lossy().contains("..")).filter_map(read).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_a_group_and_those_around_it_counts() {
        let place = std::env::temp_dir().join(format!("heapgate-limit-test-{}", std::process::id()));
        let inner = place.join("pod/container");
        let memory = place.join("memory/pod");
        for folder in [&inner, &memory] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(place.join("pod/memory.max"), "2000\n").unwrap();
        fs::write(memory.join("memory.limit_in_bytes"), "1000\n").unwrap();
        fs::write(place.join("memory/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        let limit = |groups| limit_of_groups(groups, &place);
        assert_eq!(limit("0::/pod/container\n"), Some(2000));
        assert_eq!(limit("0::/pod/not-seen-from-here\n"), Some(2000));
        assert_eq!(limit("0::/\n"), None);
        assert_eq!(limit("4:cpu,cpuacct:/\n3:memory:/pod\n0::/pod\n"), Some(1000));
        assert_eq!(limit("3:memory:/elsewhere\n"), None, "no limit is none");
        assert_eq!(limit("garbage\n:\n::\n0::/../pod\n"), None);
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn this_machine_has_a_limit() {
        assert!(memory_limit_bytes(std::process::id()).unwrap() > 1 << 20);
    }
}
