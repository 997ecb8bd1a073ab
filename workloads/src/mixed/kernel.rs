//! What the kernel says of this process's memory: page faults, huge pages, page tables.

use std::fs;

/// Page faults without I/O since the process started; nothing where `/proc` does not tell.
#[must_use]
pub fn minor_faults() -> Option<u64> {
    faults_in(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// Share of resident memory that is in huge pages, 0 to 1; nothing where `/proc` does not tell.
#[must_use]
pub fn huge_page_share() -> Option<f64> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let resident = kib(&rollup, "Rss:").filter(|&kib| kib > 0)?;
    Some(kib(&rollup, "AnonHugePages:")? as f64 / resident as f64)
}

/// Bytes of page tables; nothing where `/proc` does not tell.
#[must_use]
pub fn page_table_bytes() -> Option<u64> {
    Some(kib(&fs::read_to_string("/proc/self/status").ok()?, "VmPTE:")? * 1024)
}

/// The tenth field of `stat`. The second, the program's name in parentheses, may hold spaces and parentheses.
fn faults_in(stat: &str) -> Option<u64> {
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(7)?.parse().ok()
}

/// The value of a line like `Rss:    1234 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_found_behind_any_name() {
        assert_eq!(faults_in("7 (a b) c) 1 2) R 1 2 3 4 5 6 4711 0 0"), Some(4_711));
        assert_eq!(faults_in("7 (a) R 1"), None);
        assert_eq!(faults_in(""), None);
    }

    #[test]
    fn sizes_are_found_by_the_whole_name() {
        let text = "00400000-7fff [rollup]\nRss:     1200 kB\nAnonHugePages:    0 kB\n";
        assert_eq!((kib(text, "Rss:"), kib(text, "AnonHugePages:")), (Some(1_200), Some(0)));
        assert_eq!(kib(text, "VmPTE:"), None);
    }

    #[test]
    fn fresh_pages_are_counted_as_faults() {
        let Some(before) = minor_faults() else { return };
        let pages = std::hint::black_box(vec![1u8; 16 << 20]);
        assert!(minor_faults().is_some_and(|after| after > before), "{}", pages.len());
    }
}
