//! E29: limits on memory that agree, and the first of them at work.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use heapgate_core::experiment::{Body, Experiment, Scene, Stage};

use super::run;

/// Soft limit, sidecar, control group.
pub static E29: Experiment = Experiment {
    number: 29,
    title: "Memory budgets that agree",
    about: "`heapgate budget check` of the source's 8, 10 and 12 GiB, and of the same in another order. Then the service of E4, with an \
            allocator that keeps every page, in a control group of 300 MiB: without a soft limit the kernel kills it, with one of \
            70 % the process purges in time and comes to its end. As root, with the memory controller of version 1.",
    body: Body::Scenario { run: play },
};

const MEMORY: &str = "/sys/fs/cgroup/memory";
const LIMIT: u64 = 300 << 20;

/// The service of E4 with half of its chunks.
const SERVICE: [&str; 14] = [
    "trial",
    "embed/seeded-bert",
    "--param",
    "chunks=10000",
    "--param",
    "batch=512",
    "--param",
    "dim=512",
    "--param",
    "hidden=128",
    "--param",
    "layers=1",
    "--steps",
    "12",
];

fn play(stage: &Stage) -> Result<Scene, String> {
    let mut scene = Scene::default();
    for (what, limits, code) in
        [("8, 10 and 12 GiB agree: exit code", [8, 10, 12], 0), ("12, 10 and 8 GiB do not: exit code", [12, 10, 8], 3)]
    {
        let [process, sidecar, cgroup] = limits;
        let arguments = format!("budget check --process {process}GiB --sidecar {sidecar}GiB --cgroup {cgroup}GiB");
        let ended = run(stage, &arguments, &[0, 3])?.status.code().unwrap_or(1);
        scene.number(what, "budget check", code, u64::from(ended.unsigned_abs()));
    }
    if stage.short {
        scene.problems.push("the soft limit was not tried: --steps 1 asks for what takes no time".to_owned());
        return Ok(scene);
    }
    let (Some(without), Some(with)) = (Group::new("without"), Group::new("with")) else {
        let why = format!("no memory controller of version 1 in {MEMORY} that this user may use (it takes root)");
        eprintln!("heapgate: E29: the soft limit can't be measured here: {why}");
        scene.problems.push(format!("the soft limit can't be measured here: {why}"));
        return Ok(scene);
    };
    let killed = without.run(stage, None)?;
    scene.number("ended by the kernel's SIGKILL", "without a soft limit", 9, killed);
    let survived = with.run(stage, Some("70%"))?;
    scene.number("came to its end: signal", "soft limit of 70 %", 0, survived);
    Ok(scene)
}

/// A control group, until it is dropped.
struct Group(PathBuf);

impl Group {
    /// `None` where there is no such controller, or it may not be used.
    fn new(name: &str) -> Option<Self> {
        let path = PathBuf::from(format!("{MEMORY}/heapgate-e29-{}-{name}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let group = Self(path);
        fs::write(group.0.join("memory.limit_in_bytes"), LIMIT.to_string()).ok()?;
        Some(group)
    }

    /// The signal that ended the service in it, 0 if it came to its end.
    fn run(&self, stage: &Stage, soft_limit: Option<&str>) -> Result<u64, String> {
        let mut command = Command::new("sh");
        // The shell goes into the group, and becomes the service.
        command
            .args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""])
            .arg(&self.0)
            .arg(&stage.program)
            .args(SERVICE);
        command.current_dir(&stage.folder).env_remove("HEAPGATE_SOFT_LIMIT");
        command.env("HEAPGATE_ALLOCATOR", "jemalloc");
        command.env("_RJEM_MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1");
        command.envs(soft_limit.map(|limit| ("HEAPGATE_SOFT_LIMIT", limit)));
        let output = command.output().map_err(|error| error.to_string())?;
        match (output.status.signal(), output.status.code()) {
            (Some(signal), _) => Ok(u64::from(signal.unsigned_abs())),
            (None, Some(0)) => Ok(0),
            _ => Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
