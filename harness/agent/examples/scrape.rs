//! How long a scrape of a machine full of services takes, and what the agent holds for it.
//!
//!   cargo run --release --example scrape -- [PROCESSES] [THREADS] [FOLDER]
//!
//! A child makes the segments, as so many processes with so many threads would have filled them, in a folder in memory
//! (/dev/shm unless another is named), and holds them as a living process does; each is looked up in /proc as its own. The
//! goal for 1,000 processes of 16 threads is 100 ms and 64 MiB of private memory.
//!
//! Before each scrape the child makes calls: in all threads of all processes, in all threads of every tenth, in one thread
//! of each, or in none. The agent need not copy again what hasn't changed, so each of these is a case of its own.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use heapgate_agent::{Agent, AgentSettings, Server, Settings, Timeouts};
use heapgate_prometheus::ProcessReader;
use heapgate_segment::clock::ClockKind;
use heapgate_segment::identity::Identity;
use heapgate_segment::layout::{InterruptedSplit, Level, Operation, Slot};
use heapgate_segment::published::{self, Created, Entry};
use heapgate_segment::writer::{Attachment, Writer};

/// Scrapes of each sort; the median is shown.
const ROUNDS: usize = 15;

/// After so long without a call a thread's counts are no longer copied by each scrape.
const SETTLED: Duration = Duration::from_millis(10_500);

/// In which processes and threads calls are made before each scrape: every so manieth; 0 is in none.
const ACTIVE: [(&str, usize, usize); 4] = [
    ("all threads active", 1, 1),
    ("1 in 10 processes active", 10, 1),
    ("1 thread in each active", 1, usize::MAX),
    ("all idle", 0, 1),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, usual: usize| arguments.get(index).map_or(Ok(usual), |text| text.parse());
    let (Ok(processes), Ok(threads)) = (number(0, 1_000), number(1, 16)) else {
        eprintln!("usage: scrape [PROCESSES] [THREADS] [FOLDER]");
        return ExitCode::from(2);
    };
    let folder = arguments.get(2).map_or_else(|| PathBuf::from("/dev/shm"), PathBuf::from);
    let result = if arguments.get(3).is_some_and(|mode| mode == "make") {
        make(&folder, processes, threads)
    } else {
        measure(&folder, processes, threads)
    };
    if let Err(error) = result {
        eprintln!("scrape: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Makes the segments, and holds them until standard input ends.
fn make(folder: &Path, processes: usize, threads: usize) -> io::Result<()> {
    let start_time = published::own_start_time()?;
    let mut held: Vec<Created> = Vec::with_capacity(processes);
    let mut slots: Vec<Vec<&'static Slot>> = Vec::with_capacity(processes);
    let mut writers = Vec::with_capacity(processes);
    for index in 0..processes {
        let name = format!("service-{index:04}");
        let mut created = published::create(folder, threads, Level::Sampled, 64)?;
        let (base, bytes) = created.mapping.raw();
        // SAFETY: a mapping is page-aligned, readable and writable for `bytes` bytes, and its words are accessed as atomics only;
        // it is held until this process ends.
        let writer = unsafe { Writer::from_raw(base, bytes) }.map_err(io::Error::other)?;
        let clock = ClockKind::detect();
        let interrupted_split = InterruptedSplit::Available;
        assert!(writer.attach(Attachment { pid: std::process::id(), clock, interrupted_split }), "nobody else has it");
        writer.identify(&Identity {
            service: &name,
            version: "2026.11.22",
            allocator: "jemalloc",
            start_time,
            published_unix_ns: 1,
        });
        slots.push((1..=threads as u64).filter_map(|thread| fill(&writer, thread)).collect());
        writers.push(writer);
        created.file.appear(&Entry::new(folder, &name, std::process::id(), start_time))?;
        held.push(created);
    }
    println!("made");
    // Each line: which processes and which of their threads are active.
    for line in io::stdin().lines() {
        let line = line?;
        let numbers: Vec<usize> = line.split(' ').filter_map(|number| number.parse().ok()).collect();
        let &[every_process, every_thread] = &numbers[..] else {
            return Err(io::Error::other(format!("not two numbers: {line}")));
        };
        if every_process > 0 {
            for (writer, slots) in writers.iter().zip(&slots).step_by(every_process) {
                slots.iter().step_by(every_thread).for_each(|slot| call(writer, slot));
            }
        }
        println!("done");
    }
    Ok(())
}

/// One allocation and its time.
fn call(writer: &Writer, slot: &Slot) {
    if slot.count_alloc(100) {
        slot.settle(writer.sums());
    }
    slot.record::<false>(Operation::Alloc, 1_000, false, 1);
}

/// Counts as a thread of a busy service does: latencies from tens of ticks to milliseconds, in every operation.
fn fill(writer: &Writer, thread: u64) -> Option<&'static Slot> {
    let slot = writer.claim(thread)?;
    for operation in [Operation::Alloc, Operation::AllocZeroed, Operation::Realloc, Operation::Dealloc] {
        for step in 0..400u64 {
            // From 2^5 to 2^23 ticks, rarer as they get longer.
            let ticks = (32.0 * 1.032f64.powi(step as i32)) as u64;
            slot.record::<false>(operation, ticks, step % 16 == 0, 1 + 1_000_000 / (1 + step * step));
        }
    }
    for bytes in 0..2_000 {
        if slot.count_alloc(bytes) {
            slot.settle(writer.sums());
        }
    }
    Some(slot)
}

/// The child that makes the segments, and makes calls in them when it is told to.
struct Maker {
    child: Child,
    says: BufReader<ChildStdout>,
}

impl Maker {
    fn start(folder: &Path, processes: usize, threads: usize) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([processes.to_string(), threads.to_string()])
            .arg(folder)
            .arg("make")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let says = BufReader::new(child.stdout.take().expect("piped"));
        let mut maker = Self { child, says };
        maker.wait_for("made\n")?;
        Ok(maker)
    }

    fn call(&mut self, every_process: usize, every_thread: usize) -> io::Result<()> {
        writeln!(self.child.stdin.as_mut().expect("piped"), "{every_process} {every_thread}")?;
        self.wait_for("done\n")
    }

    fn wait_for(&mut self, expected: &str) -> io::Result<()> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        if line == expected { Ok(()) } else { Err(io::Error::other(format!("the child said {line:?}"))) }
    }

    fn end(mut self) -> io::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().map(drop)
    }
}

fn measure(place: &Path, processes: usize, threads: usize) -> io::Result<()> {
    let folder = place.join(format!("heapgate-scrape-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let _removed = Removed(folder.clone());
    let mut maker = Maker::start(&folder, processes, threads)?;
    let settings = AgentSettings {
        folders: vec![folder.clone()],
        max_processes: processes,
        keep_dead: Duration::from_secs(300),
        textfiles: None,
    };
    let agent = Agent::new(settings).map_err(io::Error::other)?;
    println!("| {processes} processes of {threads} threads | median ms | slowest ms | CPU ms | bytes |");
    println!("| --- | --- | --- | --- | --- |");
    let row = |what: &str, Looks { mut times, cpu_ms, bytes }: Looks| {
        times.sort_by(f64::total_cmp);
        let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
        println!("| {what} | {median:.1} | {slowest:.1} | {cpu_ms:.0} | {bytes} |");
    };
    let mut own = ProcessReader::default();
    let mut timed = |active: (usize, usize), rounds: usize, look: &mut dyn FnMut() -> io::Result<usize>| {
        let mut times = Vec::new();
        let mut bytes = 0;
        let cpu_s = own.read_own()?.cpu_s;
        for _ in 0..rounds {
            maker.call(active.0, active.1)?;
            let began = Instant::now();
            bytes = look()?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let cpu_ms = (own.read_own()?.cpu_s - cpu_s) * 1e3 / rounds as f64;
        Ok::<_, io::Error>(Looks { times, cpu_ms, bytes })
    };
    let address = serve(agent.clone())?;
    let mut scrape = || get(address, "");
    let looks = timed((1, 1), 1, &mut scrape)?;
    row("first scrape", looks);
    for (what, processes, threads) in ACTIVE {
        // Two scrapes with the time between that it takes until those who are idle are known to be.
        for _ in 0..if processes == 1 && threads == 1 { 0 } else { 2 } {
            timed((processes, threads), 1, &mut scrape)?;
            std::thread::sleep(SETTLED);
        }
        timed((processes, threads), 1, &mut scrape)?;
        let looks = timed((processes, threads), ROUNDS, &mut scrape)?;
        row(&format!("scrape, {what}"), looks);
        let looks = timed((processes, threads), ROUNDS, &mut || Ok(agent.collect().processes().len()))?;
        row("— its part: looking at all", Looks { bytes: 0, ..looks });
    }
    let looks = timed((1, 1), ROUNDS, &mut || get(address, "Accept-Encoding: gzip\r\n"))?;
    row("scrape with gzip, all threads active", looks);
    let looks = timed((1, 1), ROUNDS, &mut || get_path(address, "/api/processes", ""))?;
    row("live page's JSON, all threads active", looks);
    let snapshot = agent.collect();
    assert_eq!(snapshot.processes().len(), processes, "all are exported");
    let looks = timed((0, 1), ROUNDS, &mut || {
        let mut counted = Counted(0);
        snapshot.expose(&mut counted).map(|()| counted.0)
    })?;
    row("— its part in each: writing the exposition", looks);
    drop(snapshot);
    println!(
        "\nPrivate memory of the agent: {:.1} MiB; at most {:.1} MiB were resident.",
        private_mib()?,
        status_mib("VmHWM:")?
    );
    maker.end()
}

/// What looks of one sort took. The CPU time is of the agent and of this client together, in hundredths of a second for all.
struct Looks {
    times: Vec<f64>,
    cpu_ms: f64,
    bytes: usize,
}

struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Removes the folder, however this ends.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The agent's own server, on a thread of its own until this process ends.
fn serve(agent: Agent) -> io::Result<SocketAddr> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let settings = Settings {
                listen: ([127, 0, 0, 1], 0).into(),
                web_config: None,
                allowed_hosts: vec![],
                control: None,
                timeouts: Timeouts::default(),
            };
            let server =
                Server::bind(settings, agent, Arc::new(|text: &str| eprintln!("{text}"))).await.expect("a free port");
            sender.send(server.address()).expect("awaited");
            server.serve(std::future::pending()).await;
        });
    });
    receiver.recv().map_err(io::Error::other)
}

fn get(address: SocketAddr, headers: &str) -> io::Result<usize> {
    get_path(address, "/metrics", headers)
}

/// Bytes of an answer, as they come.
fn get_path(address: SocketAddr, path: &str, headers: &str) -> io::Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n").as_bytes(),
    )?;
    let mut buffer = vec![0; 256 * 1024];
    let mut bytes = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(bytes),
            more => bytes += more,
        }
    }
}

/// Memory that is this process's alone.
fn private_mib() -> io::Result<f64> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup")?;
    let kib = |name: &str| kib(&rollup, name);
    Ok((kib("Private_Clean:") + kib("Private_Dirty:")) / 1024.0)
}

fn status_mib(name: &str) -> io::Result<f64> {
    Ok(kib(&fs::read_to_string("/proc/self/status")?, name) / 1024.0)
}

fn kib(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(f64::NAN)
}
