//! What is found in folders, and what becomes of it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use heapgate_agent::agent::LevelError;
use heapgate_agent::snapshot::Snapshot;
use heapgate_segment::layout::{Gauge, Level};
use heapgate_segment::published::{Buffer, Entry};
use tempfile::TempDir;

use crate::common::{Running, Scrape, agent, loopback, own, publish};
use crate::promtool::promtool;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn exposed(snapshot: &Snapshot) -> Scrape {
    let mut text = Vec::new();
    snapshot.expose(&mut text).expect("to memory");
    Scrape::new(str::from_utf8(&text).expect("UTF-8"))
}

/// A process that does nothing, until it is dropped.
struct Idle(Child);

impl Idle {
    fn new() -> Self {
        Self(Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().expect("started"))
    }

    fn named(&self) -> (u32, u64) {
        let pid = self.0.id();
        (pid, heapgate_agent::pids::start_time(pid).expect("it lives"))
    }

    fn end(mut self) {
        self.0.kill().expect("killed");
        self.0.wait().expect("waited for");
    }
}

#[test]
fn a_process_is_exported_with_its_labels_its_counts_and_what_the_kernel_says() {
    let folder = folder();
    let (pid, start_time) = own();
    let published = publish(folder.path(), "tokenizer", pid, start_time);
    published.count(1_000, 3_000);
    let scrape = exposed(&agent(folder.path(), |_| {}).collect());
    let labels = format!("service=\"tokenizer\",pid=\"{pid}\",allocator=\"jemalloc\",version=\"1.2\"");
    let value = |metric: &str, more: &[&str]| scrape.value(metric, &[&[labels.as_str()], more].concat());
    assert_eq!(value("heapgate_up", &[]), Some(1.0));
    assert_eq!(value("heapgate_live_objects", &[]), Some(1_000.0));
    assert_eq!(value("heapgate_live_bytes", &[]), Some(100_000.0));
    assert_eq!(value("heapgate_allocations_total", &["op=\"alloc\""]), Some(1_000.0));
    let stalls = ["op=\"alloc\"", "interrupted=\"false\""];
    assert_eq!(value("heapgate_stall_seconds_count", &stalls), Some(1_000.0));
    assert_eq!(value("heapgate_stall_seconds_bucket", &[&stalls[..], &["le=\"0.000005\""]].concat()), Some(1_000.0));
    assert_eq!(value("heapgate_stall_seconds_bucket", &[&stalls[..], &["le=\"0.0000025\""]].concat()), Some(0.0));
    let rss = value("heapgate_process_resident_bytes", &[]).expect("it lives");
    assert!(rss > 1e6, "{rss}");
    assert_eq!(scrape.value("heapgate_agent_processes", &[]), Some(1.0));
}

#[test]
fn what_the_agent_answers_is_as_promtool_wants_it() {
    let folder = folder();
    let (pid, start_time) = own();
    // With every metric that there is: of this process, of one that is not seen from here, and of a file that is no segment.
    for (name, pid) in [("tokenizer", pid), ("elsewhere", u32::MAX)] {
        let published = publish(folder.path(), name, pid, start_time);
        published.count(100, 3_000);
        Gauge::ALL.into_iter().for_each(|gauge| published.writer.set_gauge(gauge, 1));
    }
    fs::write(Entry::new(folder.path(), "empty", pid, start_time).path, b"").expect("written");
    let text = Running::new(agent(folder.path(), |_| {}), loopback()).get("/metrics", "").text();
    for part in ["heapgate_stall_seconds_bucket{", "heapgate_region_chunks_reused_total{", "reason=\"truncated\"} 1"] {
        assert!(text.contains(part), "no {part}");
    }
    promtool(&text);
}

#[test]
fn the_last_state_of_an_ended_process_is_exported_and_then_its_file_removed() {
    let folder = folder();
    let process = Idle::new();
    let (pid, start_time) = process.named();
    let (own_pid, own_start) = own();
    let template = publish(folder.path(), "template", own_pid, own_start);
    template.count(10, 100);
    let aside = self::folder();
    let published = publish(aside.path(), "worker", pid, start_time);
    published.count(7, 100);
    let left = published.leave_in(folder.path());

    let kept = agent(folder.path(), |_| {});
    let worker = |scrape: &Scrape, metric: &str| scrape.value(metric, &["service=\"worker\""]);
    let before = exposed(&kept.collect());
    assert_eq!(worker(&before, "heapgate_up"), Some(1.0));
    assert!(worker(&before, "heapgate_process_resident_bytes").is_some());
    process.end();
    let after = exposed(&kept.collect());
    assert_eq!(worker(&after, "heapgate_up"), Some(0.0));
    assert_eq!(worker(&after, "heapgate_live_objects"), Some(7.0));
    assert_eq!(worker(&after, "heapgate_process_resident_bytes"), None);
    assert!(left.exists());
    assert_eq!(exposed(&kept.collect()).value("heapgate_up", &["service=\"template\""]), Some(1.0));

    let hasty = agent(folder.path(), |settings| settings.keep_dead = Duration::ZERO);
    assert_eq!(worker(&exposed(&hasty.collect()), "heapgate_up"), Some(0.0), "exported once at least");
    hasty.sweep();
    assert!(!left.exists(), "removed");
    assert!(template.entry.path.exists(), "that of a process that lives is not");
    assert_eq!(worker(&exposed(&hasty.collect()), "heapgate_up"), None);
}

#[test]
fn a_process_that_got_the_id_of_an_ended_one_is_not_taken_for_it() {
    let folder = folder();
    let (pid, start_time) = own();
    let aside = self::folder();
    let old = publish(aside.path(), "old", pid, start_time - 1);
    old.count(5, 100);
    old.leave_in(folder.path());
    let agent = agent(folder.path(), |_| {});
    let scrape = exposed(&agent.collect());
    assert_eq!(scrape.value("heapgate_up", &["service=\"old\""]), Some(0.0));
    assert_eq!(scrape.value("heapgate_process_resident_bytes", &[]), None, "that is another process's memory");

    // The new process has the same name, too: the same labels can't be exported twice.
    publish(folder.path(), "old", pid, start_time).count(9, 100);
    let scrape = exposed(&agent.collect());
    assert_eq!(scrape.value("heapgate_up", &["service=\"old\""]), Some(1.0));
    assert_eq!(scrape.value("heapgate_live_objects", &["service=\"old\""]), Some(9.0));
    assert_eq!(scrape.errors("duplicate"), 1.0);
}

#[test]
fn files_that_are_no_sound_segments_are_counted_and_the_others_exported() {
    let folder = folder();
    let (pid, start_time) = own();
    let published = publish(folder.path(), "sound", pid, start_time);
    let whole = fs::read(&published.entry.path).expect("read");
    let put = |name: &str, bytes: &[u8]| {
        fs::write(Entry::new(folder.path(), name, pid, start_time).path, bytes).expect("written");
    };
    put("empty", b"");
    put("noise", &whole.iter().map(|byte| byte.wrapping_mul(37).wrapping_add(11)).collect::<Vec<_>>());
    for (index, length) in [100, 4_095, 4_096, 5_000, 8_192, 20_000, whole.len() - 10_000].into_iter().enumerate() {
        put(&format!("short-{index}"), &whole[..length]);
    }
    let mut other = whole.clone();
    other[8] = 99;
    put("newer", &other);
    // Copied under another process's name.
    fs::copy(&published.entry.path, Entry::new(folder.path(), "sound", pid, start_time + 1).path).expect("copied");
    fs::create_dir(Entry::new(folder.path(), "folder", pid, start_time).path).expect("made");
    std::os::unix::fs::symlink("/dev/zero", Entry::new(folder.path(), "endless", pid, start_time).path)
        .expect("linked");
    // Not ours at all.
    fs::write(folder.path().join("README"), "x").expect("written");

    let scrape = exposed(&agent(folder.path(), |_| {}).collect());
    assert_eq!(scrape.value("heapgate_up", &[]), Some(1.0), "the sound one alone");
    let errors: Vec<_> = ["truncated", "damaged", "version", "foreign", "folder", "permission"]
        .into_iter()
        .map(|reason| (reason, scrape.errors(reason)))
        .collect();
    let sum: f64 = errors.iter().map(|(_, count)| count).sum::<f64>() + scrape.errors("read");
    assert_eq!(sum, 13.0, "each once: {errors:?}");
    assert!(scrape.errors("truncated") >= 7.0, "{errors:?}");
    assert_eq!((scrape.errors("version"), scrape.errors("foreign")), (1.0, 1.0), "{errors:?}");
}

#[test]
fn more_processes_than_are_wanted_are_counted_and_none_comes_and_goes() {
    let folder = folder();
    let (pid, start_time) = own();
    for name in ["m", "z", "k"] {
        let _ = publish(folder.path(), name, pid, start_time);
    }
    let agent = agent(folder.path(), |settings| settings.max_processes = 2);
    let names = |snapshot: &Snapshot| {
        let mut names: Vec<_> = snapshot.processes().iter().map(|process| process.service.clone()).collect();
        names.sort();
        names
    };
    let first = agent.collect();
    assert_eq!((names(&first).len(), first.dropped()), (2, 1));
    let _ = publish(folder.path(), "a", pid, start_time);
    let second = agent.collect();
    assert_eq!((names(&second), second.dropped()), (names(&first), 2));
    assert_eq!(exposed(&second).value("heapgate_agent_dropped_processes", &[]), Some(2.0));
}

#[test]
fn a_folder_that_is_not_there_yet_is_no_error() {
    let folder = folder();
    let missing = folder.path().join("later");
    let looking = agent(&missing, |_| {});
    assert_eq!(exposed(&looking.collect()).errors("folder"), 0.0);
    fs::write(&missing, "a file").expect("written");
    assert_eq!(exposed(&looking.collect()).errors("folder"), 1.0);
}

#[test]
fn the_level_of_a_running_process_is_changed_and_of_no_other() {
    let folder = folder();
    let (pid, start_time) = own();
    let published = publish(folder.path(), "tokenizer", pid, start_time);
    let agent = agent(folder.path(), |_| {});
    let id = agent.collect().processes()[0].id.clone();
    agent.set_level(&id, Level::Count).expect("written");
    let mut buffer = Buffer::new();
    published.entry.read(&mut buffer).expect("sound");
    assert_eq!(buffer.reader().expect("sound").level(), Level::Count);
    for other in ["", "tokenizer", "../../etc/passwd", "other.1.1"] {
        assert!(matches!(agent.set_level(other, Level::Off), Err(LevelError::NoProcess)), "{other}");
    }
}
