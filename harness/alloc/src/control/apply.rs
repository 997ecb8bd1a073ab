//! Carrying changes out, one at a time: what was asked for, and what the soft limit does meanwhile.

use std::ffi::CStr;
use std::fmt;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use heapgate_segment::layout::Level;
use heapgate_segment::mailbox::{Answer, Command, REQUEST_TEXT_BYTES, Request};
use heapgate_segment::setting::Setting;
use heapgate_segment::steering::SharedSteering;
use heapgate_segment::text::Text;

use super::jemalloc::{self, Decay, JemallocError};
use super::pressure::Caller;
use super::soft_limit::{Action, Controller};
use super::{Callback, ControlError, PATIENCE, Pressure, Step};
use crate::attach::{self, State, say, state};
use crate::{agent, trace};

/// Between looks while nothing is near: a person doesn't notice it, and 20 wake-ups a second cost 0.02 % of a CPU.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Near the soft limit: a thread can fill some 20 MB in this time.
const LOOK_NEAR_EVERY: Duration = Duration::from_millis(10);

/// The most that decay may take while the soft limit asks for a shorter one: long enough that what a program frees and allocates
/// again in turn, as one batch after the other does, is not given back in between.
const SHORT_DECAY_MS: i64 = 1000;

/// And at the limit. Each free that empties a page is a call of the kernel then, and each use of it a fault, which costs a busy
/// program a quarter of its throughput (docs/steering.md); so not before.
const SHORTEST_DECAY_MS: i64 = 0;

/// What is asked for, apart from what the soft limit makes of it.
#[derive(Debug)]
struct Wanted {
    dirty_decay_ms: i64,
    muzzy_decay_ms: i64,
    background_thread: bool,
}

impl Wanted {
    /// Whether background threads purge while a step is in force. From the first one on where pages were kept for good: as soon as
    /// there is a decay and no such thread, jemalloc gives an extent of 8 MiB or more back at each free
    /// (`opt.oversize_threshold`), which costs as much as a decay of 0 (docs/steering.md).
    fn needs_background(&self, step: Step) -> bool {
        let keeps_for_good = self.dirty_decay_ms < 0 || self.muzzy_decay_ms < 0;
        self.background_thread || step >= Step::Background || (step > Step::Calm && keeps_for_good)
    }
}

struct Steer {
    /// From when the soft limit came to its first step until it is calm again.
    wanted: Option<Wanted>,
    controller: Option<Controller>,
    caller: Option<Caller>,
    /// That the soft limit could not do something was said.
    has_complained: bool,
}

static STEER: Mutex<Steer> = Mutex::new(Steer { wanted: None, controller: None, caller: None, has_complained: false });

static BEGIN: OnceLock<Instant> = OnceLock::new();

/// Starts the agent.
pub(super) fn start(limit: Option<u64>, callback: Option<Callback>) -> Result<(), ControlError> {
    static STARTED: Mutex<bool> = Mutex::new(false);
    // First: in the child, the locks may be held by a thread that is not there.
    if attach::is_forked() {
        return Err(ControlError::Forked);
    }
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if *started {
        return Err(ControlError::Started);
    }
    // Here, not in the agent: it allocates to find out.
    let in_use = serves();
    if !in_use && limit.is_some() {
        return Err(JemallocError::NotInUse.into());
    }
    let caller = callback.map(Caller::start).transpose().map_err(ControlError::Thread)?;
    let mut steer = lock()?;
    steer.caller = caller;
    steer.controller = limit.map(Controller::new);
    drop(steer);
    let _ = BEGIN.set(Instant::now());
    agent::start().map_err(ControlError::Thread)?;
    *started = true;
    IS_STARTED.store(true, Release);
    announce();
    Ok(())
}

/// Whether requests from outside are taken.
static IS_STARTED: AtomicBool = AtomicBool::new(false);

/// Puts the settings into the segment, for readers, if there is one and requests are taken.
pub(crate) fn announce() {
    let Some(steering) = steering().filter(|_| IS_STARTED.load(Acquire)) else { return };
    for setting in Setting::ALL {
        if let Ok(value) = get(setting) {
            steering.set_value(setting, value);
        }
    }
    steering.start();
}

/// Whether jemalloc serves this program. Once: it allocates.
fn serves() -> bool {
    static SERVES: OnceLock<bool> = OnceLock::new();
    *SERVES.get_or_init(jemalloc::is_in_use)
}

/// This process's segment: a forked child has none.
fn own() -> Option<&'static State> {
    state().filter(|_| !attach::is_forked())
}

fn steering() -> Option<&'static SharedSteering> {
    own().map(|state| state.writer.steering())
}

/// Not for good: who holds it may be waiting for jemalloc.
fn lock() -> Result<MutexGuard<'static, Steer>, ControlError> {
    let begin = Instant::now();
    loop {
        match STEER.try_lock() {
            Ok(steer) => return Ok(steer),
            Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) if begin.elapsed() >= PATIENCE => return Err(ControlError::Busy),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

impl From<JemallocError> for ControlError {
    fn from(error: JemallocError) -> Self {
        Self::Jemalloc(error)
    }
}

fn refused<T>(why: &'static str) -> Result<T, ControlError> {
    Err(ControlError::Refused(why))
}

pub(super) fn set(setting: Setting, value: i64, path: &CStr) -> Result<i64, ControlError> {
    let result = if attach::is_forked() {
        Err(ControlError::Forked)
    } else if setting.takes(value) {
        lock().and_then(|mut steer| steer.set(setting, value, path))
    } else {
        Err(ControlError::OutOfRange { setting, value })
    };
    if let Some(steering) = steering() {
        match result {
            Ok(value) => {
                if !setting.is_action() {
                    steering.set_value(setting, value);
                }
                steering.changed(setting);
            }
            Err(_) => steering.refused(),
        }
    }
    result
}

pub(super) fn get(setting: Setting) -> Result<i64, ControlError> {
    if attach::is_forked() {
        return Err(ControlError::Forked);
    }
    match setting {
        Setting::DirtyDecayMs | Setting::MuzzyDecayMs | Setting::BackgroundThread | Setting::HeapProfile
            if !serves() =>
        {
            Err(JemallocError::NotInUse.into())
        }
        Setting::DirtyDecayMs => Ok(jemalloc::decay_ms(Decay::Dirty)?),
        Setting::MuzzyDecayMs => Ok(jemalloc::decay_ms(Decay::Muzzy)?),
        Setting::BackgroundThread => Ok(jemalloc::background_thread()?.into()),
        Setting::HeapProfile => Ok(jemalloc::heap_profile()?.into()),
        Setting::Level => match own() {
            Some(state) => Ok(state.reader.level() as i64),
            None => refused(NO_SEGMENT),
        },
        Setting::TraceIntervalMs => match trace::interval_ms() {
            Some(ms) => Ok(ms.cast_signed()),
            None => refused(NO_TRACE),
        },
        Setting::SoftLimitBytes => {
            let limit = lock()?.controller.as_ref().map_or(0, Controller::limit);
            Ok(i64::try_from(limit).unwrap_or(i64::MAX))
        }
        Setting::Purge | Setting::HeapProfileDump => refused("it is an action, which has no value"),
    }
}

const NO_SEGMENT: &str = "this process has no segment: it is neither published nor traced";
const NO_TRACE: &str = "this process writes no trace lines: it was not started with HEAPGATE_TRACE=1";

impl Steer {
    fn set(&mut self, setting: Setting, value: i64, path: &CStr) -> Result<i64, ControlError> {
        let of_jemalloc = !matches!(setting, Setting::Level | Setting::TraceIntervalMs);
        if of_jemalloc && !serves() {
            return Err(JemallocError::NotInUse.into());
        }
        match setting {
            Setting::DirtyDecayMs | Setting::MuzzyDecayMs => {
                let Some(decay) = Decay::of(setting) else { return refused("it is no decay time") };
                let value_now = jemalloc::set_decay_ms(decay, shortened(value, self.step()))?;
                if let Some(wanted) = &mut self.wanted {
                    match decay {
                        Decay::Dirty => wanted.dirty_decay_ms = value,
                        Decay::Muzzy => wanted.muzzy_decay_ms = value,
                    }
                }
                Ok(value_now)
            }
            Setting::BackgroundThread => {
                let step = self.step();
                let on = match &mut self.wanted {
                    Some(wanted) => {
                        let before = std::mem::replace(&mut wanted.background_thread, value != 0);
                        jemalloc::set_background_thread(wanted.needs_background(step))
                            .inspect_err(|_| wanted.background_thread = before)?
                    }
                    None => jemalloc::set_background_thread(value != 0)?,
                };
                Ok(on.into())
            }
            Setting::Purge => {
                let before = trace::rss_bytes().unwrap_or(0);
                jemalloc::purge()?;
                let given_back = before.saturating_sub(trace::rss_bytes().unwrap_or(before));
                heapgate_segment::probes::purge(given_back);
                Ok(given_back.cast_signed())
            }
            Setting::Level => {
                let Some(state) = own() else { return refused(NO_SEGMENT) };
                state.writer.set_level(Level::from_word(value.cast_unsigned()));
                Ok(state.reader.level() as i64)
            }
            Setting::TraceIntervalMs => {
                if trace::set_interval_ms(value.cast_unsigned()) {
                    Ok(value)
                } else {
                    refused(NO_TRACE)
                }
            }
            Setting::HeapProfile => Ok(jemalloc::set_heap_profile(value != 0)?.into()),
            Setting::HeapProfileDump => {
                if path.is_empty() {
                    return refused("it takes the path of a file");
                }
                jemalloc::dump_heap_profile(path)?;
                Ok(1)
            }
            Setting::SoftLimitBytes => {
                // What the old one did ends with it.
                self.enter(Step::Calm)?;
                self.controller = (value != 0).then(|| Controller::new(value.cast_unsigned()));
                Ok(value)
            }
        }
    }

    /// The step whose settings are in force.
    fn step(&self) -> Step {
        match (&self.wanted, &self.controller) {
            (Some(_), Some(controller)) => controller.step(),
            _ => Step::Calm,
        }
    }

    /// Makes the settings of a step.
    fn enter(&mut self, step: Step) -> Result<(), JemallocError> {
        if self.wanted.is_none() && step == Step::Calm {
            return Ok(());
        }
        let wanted = match self.wanted.take() {
            Some(wanted) => wanted,
            None => Wanted {
                dirty_decay_ms: jemalloc::decay_ms(Decay::Dirty)?,
                muzzy_decay_ms: jemalloc::decay_ms(Decay::Muzzy)?,
                background_thread: jemalloc::background_thread()?,
            },
        };
        let (dirty, muzzy) = (shortened(wanted.dirty_decay_ms, step), shortened(wanted.muzzy_decay_ms, step));
        let background = wanted.needs_background(step);
        // Kept also if jemalloc refuses: it is what the program is to come back to.
        if step > Step::Calm {
            self.wanted = Some(wanted);
        }
        let values = [
            (Setting::BackgroundThread, jemalloc::set_background_thread(background)?.into()),
            (Setting::DirtyDecayMs, jemalloc::set_decay_ms(Decay::Dirty, dirty)?),
            (Setting::MuzzyDecayMs, jemalloc::set_decay_ms(Decay::Muzzy, muzzy)?),
        ];
        if let Some(steering) = steering() {
            for (setting, value) in values {
                steering.set_value(setting, value);
            }
            steering.soft_limit_step(step as u64);
        }
        Ok(())
    }

    /// One look at resident memory. Returns whether the next should follow soon.
    fn look(&mut self, now: Duration) -> bool {
        let Some(controller) = &mut self.controller else { return false };
        let Some(resident_bytes) = trace::rss_bytes() else {
            self.complain("resident memory can't be read from /proc/self/statm");
            return false;
        };
        let actions = controller.look(now, resident_bytes);
        let (limit_bytes, is_near) = (controller.limit(), controller.is_near(resident_bytes));
        for action in actions.into_iter().flatten() {
            let done = match action {
                Action::Enter(step) => self.enter(step),
                Action::Purge => {
                    if let Some(steering) = steering() {
                        steering.soft_limit_purged();
                    }
                    let done = jemalloc::purge();
                    if let (Some(controller), Some(resident_bytes)) = (&mut self.controller, trace::rss_bytes()) {
                        controller.purged(resident_bytes);
                    }
                    done
                }
                Action::Ask | Action::Relieve => {
                    let is_high = action == Action::Ask;
                    if let Some(steering) = steering().filter(|_| is_high) {
                        steering.soft_limit_asked();
                    }
                    if let Some(caller) = &self.caller {
                        caller.tell(Pressure { is_high, resident_bytes, limit_bytes });
                    }
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.complain(error);
            }
        }
        is_near
    }

    /// Says once that the soft limit can't be kept.
    fn complain(&mut self, why: impl fmt::Display) {
        const MOST_BYTES: usize = 512;
        if !std::mem::replace(&mut self.has_complained, true) {
            let what = format_args!("heapgate: the soft limit can't be kept: {why}; the program runs on\n");
            say(&Text::<MOST_BYTES>::of(what));
        }
    }
}

/// What a decay time becomes while a step is in force.
fn shortened(wanted_ms: i64, step: Step) -> i64 {
    let most = match step {
        Step::Calm => return wanted_ms,
        Step::Decay | Step::Purge | Step::Background => SHORT_DECAY_MS,
        Step::Callback => SHORTEST_DECAY_MS,
    };
    if wanted_ms < 0 { most } else { wanted_ms.min(most) }
}

/// What the agent does at each look. Returns how long it may sleep then.
pub(crate) fn tick() -> Duration {
    // Who holds it makes a change; the next look is soon.
    let Ok(mut steer) = STEER.try_lock() else { return LOOK_NEAR_EVERY };
    let now = BEGIN.get().map(Instant::elapsed).unwrap_or_default();
    if steer.look(now) { LOOK_NEAR_EVERY } else { LOOK_EVERY }
}

/// Carries a request from outside out; `None` if none of these are taken.
pub(crate) fn obey(request: &Request) -> Option<Answer> {
    if !IS_STARTED.load(Acquire) {
        return None;
    }
    let [number, value, ..] = request.arguments;
    let known = || Setting::from_number(number).ok_or(ControlError::Unknown(number));
    let mut path = [0; REQUEST_TEXT_BYTES + 1];
    path[..request.text.len()].copy_from_slice(request.text.as_bytes());
    let path = CStr::from_bytes_until_nul(&path).unwrap_or_default();
    let result = match Command::from_word(request.command)? {
        Command::SetSetting => known().and_then(|setting| set(setting, value.cast_signed(), path)),
        Command::GetSetting => known().and_then(get),
        _ => return None,
    };
    Some(match result {
        Ok(value) => Answer { values: [value.cast_unsigned(), 0, 0, 0], ..Answer::default() },
        Err(error) => Answer::refused(error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn background_threads_come_with_their_step_or_with_the_first_where_pages_were_kept_for_good() {
        for (dirty_decay_ms, muzzy_decay_ms, background_thread, first) in [
            (10_000, 0, false, Step::Background),
            (-1, 0, false, Step::Decay),
            (10_000, -1, false, Step::Decay),
            (10_000, 0, true, Step::Calm),
        ] {
            let wanted = Wanted { dirty_decay_ms, muzzy_decay_ms, background_thread };
            assert!(Step::ALL.iter().all(|&step| wanted.needs_background(step) == (step >= first)), "{wanted:?}");
        }
    }

    #[test]
    fn a_step_shortens_decay_and_never_lengthens_it() {
        for (wanted, step, in_force) in [
            (-1, Step::Calm, -1),
            (10_000, Step::Calm, 10_000),
            (-1, Step::Decay, SHORT_DECAY_MS),
            (10_000, Step::Background, SHORT_DECAY_MS),
            (10_000, Step::Callback, SHORTEST_DECAY_MS),
            (0, Step::Callback, 0),
            (50, Step::Purge, 50),
        ] {
            assert_eq!(shortened(wanted, step), in_force);
        }
    }
}
