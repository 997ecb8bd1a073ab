//! The thread that takes requests in a published process, if the program has asked for it.
//!
//! It polls: who asks has no way to wake it that would not need the file to be mapped. Nothing that it is asked for can
//! stop the process or make it wait; what makes no sense is refused.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[cfg(feature = "profile-cpu")]
use heapgate_segment::published;

use heapgate_segment::layout::Level;
use heapgate_segment::mailbox::{Answer, Command, Mailbox, Request};
use heapgate_segment::published::Entry;
use heapgate_segment::stacks::{MAX_BYTE_PERIOD, MAX_STACK_PERIOD, Scope, Settings};
use heapgate_segment::writer::Writer;

use crate::attach;
use crate::stacks::Region;

/// Between looks: a person doesn't notice it, and ten wake-ups a second cost 0.01 % of a CPU.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The longest that stacks are taken for one request: an hour.
const LONGEST: Duration = Duration::from_secs(3600);

/// More would be spent on sampling than on what is sampled.
#[cfg(feature = "profile-cpu")]
const MAX_FREQUENCY_HZ: u32 = 1_000;

/// How long the file of stacks stays if nobody says that it was read.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// After a request, for as many looks: who asks once often asks again.
const LOOKS_AFTER_A_REQUEST: u32 = 50;

/// And that often.
const LOOK_SOON: Duration = Duration::from_millis(2);

/// The thread's name.
const THREAD: &str = "heapgate-agent";

/// Where stacks go, if the program lets itself be asked for them.
static PROFILED: Mutex<Option<Entry>> = Mutex::new(None);

/// Starts the thread, if it does not run yet, and lets it take stacks.
pub(crate) fn start_profiling(entry: Entry) -> io::Result<()> {
    *PROFILED.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
    start()
}

/// Starts the thread, once.
pub(crate) fn start() -> io::Result<()> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    if STARTED.swap(true, AcqRel) {
        return Ok(());
    }
    let agent = attach::state().map(|state| Agent::new(state.writer));
    let mailbox = agent.as_ref().map(|agent| agent.mailbox);
    match std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || run(agent)) {
        Ok(_) => {
            // Here, so that who finds the process published finds it open.
            mailbox.inspect(|mailbox| mailbox.open());
            Ok(())
        }
        Err(error) => {
            STARTED.store(false, Release);
            Err(error)
        }
    }
}

fn run(mut agent: Option<Agent>) {
    block_signals();
    loop {
        // Also without a segment: a soft limit needs none.
        let own_wait = control_tick();
        if agent.is_none()
            && let Some(state) = attach::state()
        {
            agent = Some(Agent::new(state.writer)).inspect(|agent| agent.mailbox.open());
            control_announces();
        }
        let wait = agent.as_mut().map_or(LOOK_EVERY, Agent::look);
        std::thread::sleep(wait.min(own_wait));
    }
}

/// What it says to a request for something that was not built, or not started.
const NOT_STEERED: &str =
    "its settings can't be changed: the program has to start heapgate_alloc::control::Control (feature `control`)";

#[cfg(feature = "control")]
fn control_tick() -> Duration {
    crate::control::tick()
}

#[cfg(not(feature = "control"))]
fn control_tick() -> Duration {
    LOOK_EVERY
}

#[cfg(feature = "control")]
fn control_announces() {
    crate::control::announce();
}

#[cfg(not(feature = "control"))]
fn control_announces() {}

#[cfg(feature = "control")]
fn control_obeys(request: &Request) -> Answer {
    crate::control::obey(request).unwrap_or_else(|| Answer::refused(NOT_STEERED))
}

#[cfg(not(feature = "control"))]
fn control_obeys(_: &Request) -> Answer {
    Answer::refused(NOT_STEERED)
}

struct Agent {
    writer: Writer,
    mailbox: Mailbox<'static>,
    /// The sequence of the last request that was taken up, or that is not for this thread.
    last: u64,
    looks_soon: u32,
    /// Of the first request for stacks.
    entry: Option<Entry>,
    /// From the first request for stacks on.
    region: Option<Region>,
    taking: Option<Taking>,
    /// When the file of stacks goes, if there is one.
    file_until: Option<Instant>,
}

/// Stacks, or samples of CPU time, are being taken.
struct Taking {
    sequence: u64,
    until: Instant,
    #[cfg(feature = "profile-cpu")]
    cpu: Option<CpuSamples>,
}

/// Samples of CPU time, and where they go.
#[cfg(feature = "profile-cpu")]
struct CpuSamples {
    sampler: crate::cpu::Sampler,
    file: std::fs::File,
    began: Instant,
    write_at: Instant,
}

#[cfg(feature = "profile-cpu")]
impl CpuSamples {
    /// First after so long, then whenever as much time again has passed: of a process that is killed half is there, and the
    /// file, of which each part has all, is twice as long as the last.
    const FIRST_WRITTEN_AFTER: Duration = Duration::from_secs(2);

    fn write(&mut self) -> io::Result<()> {
        self.write_at = Instant::now() + self.began.elapsed().max(Self::FIRST_WRITTEN_AFTER);
        // No sample is of this thread, whose signals are blocked.
        self.sampler.write(&mut self.file, THREAD)
    }
}

impl Agent {
    fn new(writer: Writer) -> Self {
        let mailbox = writer.mailbox();
        let last = mailbox.sequence();
        Self { writer, mailbox, last, looks_soon: 0, entry: None, region: None, taking: None, file_until: None }
    }

    /// Does what is to be done now. Returns when it should be called again.
    fn look(&mut self) -> Duration {
        let sequence = self.mailbox.sequence();
        self.looks_soon = self.looks_soon.saturating_sub(1);
        // 0: it is being written.
        if sequence != self.last
            && sequence != 0
            && let Some(request) = self.mailbox.take(sequence)
        {
            self.last = sequence;
            self.looks_soon = LOOKS_AFTER_A_REQUEST;
            // Whatever was going on: who asked for it is gone, or asks for something else now.
            self.end_taking();
            if let Some(answer) = self.obey(sequence, &request) {
                self.mailbox.answer(sequence, &answer);
            }
        }
        let now = Instant::now();
        if self.taking.as_ref().is_some_and(|taking| now >= taking.until) {
            self.end_taking();
        }
        #[cfg(feature = "profile-cpu")]
        if let Some(cpu) = self.taking.as_mut().and_then(|taking| taking.cpu.as_mut())
            && now >= cpu.write_at
        {
            // A failure is told at the end.
            let _ = cpu.write();
        }
        if self.file_until.is_some_and(|until| now >= until) {
            self.remove_file();
        }
        self.wait()
    }

    fn wait(&self) -> Duration {
        let left = self.taking.as_ref().map(|taking| taking.until.saturating_duration_since(Instant::now()));
        let every = if self.looks_soon > 0 { LOOK_SOON } else { LOOK_EVERY };
        left.map_or(every, |left| left.min(every))
    }

    /// `None`: the answer comes later.
    fn obey(&mut self, sequence: u64, request: &Request) -> Option<Answer> {
        match Command::from_word(request.command) {
            Some(Command::SampleStacks) => match self.sample(sequence, request) {
                Ok(()) => None,
                Err(why) => Some(Answer::refused(why)),
            },
            Some(Command::SampleCpu) => match self.sample_cpu(sequence, request) {
                Ok(()) => None,
                Err(why) => Some(Answer::refused(why)),
            },
            // It has ended before any command was looked at.
            Some(Command::EndSampling) => Some(Answer::default()),
            Some(Command::RemoveStacks) => {
                self.remove_file();
                Some(Answer::default())
            }
            Some(Command::SetSetting | Command::GetSetting) => Some(control_obeys(request)),
            None => Some(Answer::refused(format_args!("this process knows no command {}", request.command))),
        }
    }

    fn sample(&mut self, sequence: u64, request: &Request) -> Result<(), String> {
        let [call_period, byte_period, stall_threshold_ns, track_frees, seed, ms] = request.arguments;
        let time = Duration::from_millis(ms);
        let track_frees = track_frees != 0;
        let settings = Settings {
            call_period,
            byte_period,
            stall_threshold_ns,
            seed,
            scope: Scope::Always,
            track_frees,
            // It would go on counting when the request has ended.
            asks_kernel: false,
        };
        if call_period > MAX_STACK_PERIOD || byte_period > MAX_BYTE_PERIOD {
            return Err(format!("a sample stands for at most {MAX_STACK_PERIOD} calls or {MAX_BYTE_PERIOD} bytes"));
        }
        check_time(time)?;
        let level = Level::from_word(attach::level());
        if settings.samples_allocations() && level == Level::Off {
            return Err("at level off no allocation is seen: set another level".to_owned());
        }
        if stall_threshold_ns > 0 && level <= Level::Count {
            return Err(format!("at level {} no call is timed: set level sampled or exact", level.name()));
        }
        if stall_threshold_ns == 0 && !settings.samples_allocations() {
            return Err("neither allocations nor slow calls are asked for".to_owned());
        }
        let entry = self.entry()?;
        let region = match self.region.take() {
            Some(region) => region,
            None => Region::new()?,
        };
        self.region.insert(region).begin(&entry, &settings, self.writer)?;
        self.file_until = Some(Instant::now() + time + KEPT_FOR);
        self.taking = Some(Taking {
            sequence,
            until: Instant::now() + time,
            #[cfg(feature = "profile-cpu")]
            cpu: None,
        });
        Ok(())
    }

    #[cfg(feature = "profile-cpu")]
    fn sample_cpu(&mut self, sequence: u64, request: &Request) -> Result<(), String> {
        let [frequency_hz, ms, ..] = request.arguments;
        let time = Duration::from_millis(ms);
        check_time(time)?;
        let frequency_hz = u32::try_from(frequency_hz)
            .ok()
            .filter(|hz| (1..=MAX_FREQUENCY_HZ).contains(hz))
            .ok_or_else(|| format!("samples are taken 1 to {MAX_FREQUENCY_HZ} times per second of CPU time"))?;
        let entry = self.entry()?;
        let path = entry.cpu_path();
        let file = published::create_cpu(&entry)
            .map_err(|error| format!("no file for samples at {}: {error}", path.display()))?;
        self.file_until = Some(Instant::now() + time + KEPT_FOR);
        // Of no phase: the program has none.
        let sampler = crate::cpu::Sampler::start("", frequency_hz).inspect_err(|_| self.remove_file())?;
        let began = Instant::now();
        let cpu = CpuSamples { sampler, file, began, write_at: began + CpuSamples::FIRST_WRITTEN_AFTER };
        self.taking = Some(Taking { sequence, until: began + time, cpu: Some(cpu) });
        Ok(())
    }

    #[cfg(not(feature = "profile-cpu"))]
    #[allow(clippy::unused_self, reason = "with the feature it is used")]
    fn sample_cpu(&mut self, _: u64, _: &Request) -> Result<(), String> {
        Err("the program was built without CPU profiles: heapgate-alloc needs its feature profile-cpu".to_owned())
    }

    /// The file that others lie beside.
    fn entry(&mut self) -> Result<Entry, String> {
        if self.entry.is_none() {
            self.entry = PROFILED.lock().unwrap_or_else(PoisonError::into_inner).clone();
        }
        self.entry.clone().ok_or_else(|| {
            "no stacks are taken: the program has to be published with Publication::profiling()".to_owned()
        })
    }

    /// Ends what goes on, if something does, and answers it.
    fn end_taking(&mut self) {
        let Some(taking) = self.taking.take() else { return };
        #[cfg(feature = "profile-cpu")]
        if let Some(mut cpu) = taking.cpu {
            let answer = match cpu.write() {
                Ok(()) => Answer::default(),
                Err(error) => Answer::refused(format_args!("its samples can't be written: {error}")),
            };
            // The timer stops before the answer: who has it may ask for the next.
            drop(cpu);
            self.file_until = Some(Instant::now() + KEPT_FOR);
            return self.mailbox.answer(taking.sequence, &answer);
        }
        let Some(region) = &self.region else { return };
        let values = region.end(self.writer);
        self.file_until = Some(Instant::now() + KEPT_FOR);
        self.mailbox.answer(taking.sequence, &Answer { values, ..Answer::default() });
    }

    fn remove_file(&mut self) {
        if self.file_until.take().is_some()
            && let Some(entry) = &self.entry
        {
            // It is gone already, or the folder is: nothing is lost by it.
            let _ = std::fs::remove_file(entry.stacks_path());
            let _ = std::fs::remove_file(entry.cpu_path());
        }
    }
}

fn check_time(time: Duration) -> Result<(), String> {
    if time > LONGEST || time.is_zero() {
        return Err(format!("stacks are taken for 1 ms to {} s", LONGEST.as_secs()));
    }
    Ok(())
}

/// The program's signals are for its own threads.
fn block_signals() {
    // SAFETY: an all-zero set is valid for the call to fill in, and then to block; that concerns this thread only.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}
