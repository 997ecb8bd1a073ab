//! How long a scrape of a machine full of services takes, and what the agent holds for it.
//!
//!   cargo run --release --example scrape -- [PROCESSES] [THREADS] [FOLDER]
//!
//! A child makes the segments, as so many processes with so many threads would have filled them, in a folder in memory
//! (/dev/shm unless another is named), and holds them as a living process does; each is looked up in /proc as its own. The
//! goal for 1,000 processes of 16 threads is 100 ms and 64 MiB of private memory.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use heapgate_agent::{Agent, AgentSettings, Server, Settings};
use heapgate_segment::clock::ClockKind;
use heapgate_segment::identity::Identity;
use heapgate_segment::layout::{InterruptedSplit, Level, Operation};
use heapgate_segment::published::{self, Created, Entry};
use heapgate_segment::writer::{Attachment, Writer};

/// Scrapes of each sort; the median is shown.
const ROUNDS: usize = 15;

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
        (1..=threads as u64).for_each(|thread| fill(&writer, thread));
        created.file.appear(&Entry::new(folder, &name, std::process::id(), start_time))?;
        held.push(created);
    }
    println!("made");
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Counts as a thread of a busy service does: latencies from tens of ticks to milliseconds, in every operation.
fn fill(writer: &Writer, thread: u64) {
    let Some(slot) = writer.claim(thread) else { return };
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
}

fn measure(place: &Path, processes: usize, threads: usize) -> io::Result<()> {
    let folder = place.join(format!("heapgate-scrape-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let _removed = Removed(folder.clone());
    let mut maker = Command::new(std::env::current_exe()?)
        .args([processes.to_string(), threads.to_string()])
        .arg(&folder)
        .arg("make")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut made = [0; 5];
    maker.stdout.as_mut().expect("piped").read_exact(&mut made)?;

    let settings = AgentSettings {
        folders: vec![folder.clone()],
        max_processes: processes,
        keep_dead: Duration::from_secs(300),
        textfiles: None,
    };
    let agent = Agent::new(settings).map_err(io::Error::other)?;
    println!("{processes} processes of {threads} threads, in {}", folder.display());
    println!("{:<28} {:>9} {:>9} {:>9}", "", "first", "median", "bytes");
    let look = |what: &str, scrape: &mut dyn FnMut() -> io::Result<usize>| -> io::Result<()> {
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            bytes = scrape()?;
            times.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let first = times[0];
        times.sort_by(f64::total_cmp);
        println!("{what:<28} {first:>6.1} ms {:>6.1} ms {bytes:>9}", times[ROUNDS / 2]);
        Ok(())
    };
    look("look at all", &mut || Ok(agent.collect().processes().len()))?;
    let snapshot = agent.collect();
    assert_eq!(snapshot.processes().len(), processes, "all are exported");
    look("write the exposition", &mut || {
        let mut counted = Counted(0);
        snapshot.expose(&mut counted).map(|()| counted.0)
    })?;
    drop(snapshot);

    let address = serve(agent)?;
    look("scrape", &mut || get(address, ""))?;
    look("scrape, gzip", &mut || get(address, "Accept-Encoding: gzip\r\n"))?;
    look("live page's JSON", &mut || get_path(address, "/api/processes", ""))?;
    println!(
        "private memory of this process: {:.1} MiB, at most {:.1} MiB resident",
        private_mib()?,
        status_mib("VmHWM:")?
    );
    drop(maker.stdin.take());
    maker.wait()?;
    Ok(())
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
            let settings =
                Settings { listen: ([127, 0, 0, 1], 0).into(), web_config: None, allowed_hosts: vec![], control: None };
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
