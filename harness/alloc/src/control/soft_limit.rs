//! What to do as resident memory nears a soft limit: a pure function of time and resident bytes, so that every case can be tried
//! without a process that runs out of memory.
//!
//! Four steps, each begun at a share of the limit and ended well below it (hysteresis): shorter decay, purging, background
//! threads, the program's own callback. A step that begins brings those before it with it; a step is left for the one below only
//! after resident memory has stayed below its end for a while, one at a time.
//!
//! Purging costs the program stalls, so a purge that gives little back makes the next one wait twice as long: memory that is
//! in use can't be purged away, and a leak must end in the callback and a clear trace, not in thrashing.

use std::time::Duration;

/// A step, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u64)]
pub enum Step {
    /// Nothing is done.
    Calm = 0,
    /// Freed pages go back sooner.
    Decay = 1,
    /// Unused pages are given back now and then.
    Purge = 2,
    /// The same more often, and the allocator's background threads help.
    Background = 3,
    /// The program was asked to give memory back.
    Callback = 4,
}

impl Step {
    /// All of them, the mildest first.
    pub const ALL: [Self; 5] = [Self::Calm, Self::Decay, Self::Purge, Self::Background, Self::Callback];

    /// The share of the limit at which it begins.
    const fn begins_at(self) -> f64 {
        match self {
            Self::Calm => 0.0,
            // Half of what a service has above its live data is freed pages on their way back: this is where they begin to matter.
            Self::Decay => 0.75,
            Self::Purge => 0.85,
            Self::Background => 0.92,
            // Not at the limit itself: dropping a cache takes time.
            Self::Callback => 0.97,
        }
    }
}

/// How far below its beginning, as a share of the limit, a step ends.
const HYSTERESIS: f64 = 0.07;

/// How long resident memory must have been below a step's end before it ends: longer than a burst of requests.
const CALM_FOR: Duration = Duration::from_secs(2);

/// Between two purges, at first: a purge of a GiB takes some 100 ms.
const PURGE_EVERY: Duration = Duration::from_millis(250);

/// The same from [`Step::Background`] on, if the last purge was worth it: a thread can fill 250 MB in 250 ms, which may be more than
/// there is between the soft limit and the kernel's.
const PURGE_URGENTLY_EVERY: Duration = Duration::from_millis(20);

/// Between two purges, at most.
const PURGE_AT_LEAST_EVERY: Duration = Duration::from_secs(30);

/// A purge that gives back less than this share of the limit was in vain.
const WORTH_A_PURGE: f64 = 0.02;

/// A rise of this share of the limit above what a purge in vain has left is memory that may be worth one again.
const RISE_SINCE: f64 = 0.05;

/// Between two calls of the program's callback: it may take a while to show.
const CALLBACK_EVERY: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Another step is in force: its settings are to be made.
    Enter(Step),
    /// All arenas are to be purged.
    Purge,
    /// The program is to be asked to give memory back.
    Ask,
    /// The program is told that the need is over.
    Relieve,
}

/// Actions of one look: at most a change of step, a purge, and a call.
pub type Actions = [Option<Action>; 3];

/// The state between two looks.
#[derive(Debug, Clone, PartialEq)]
pub struct Controller {
    limit: u64,
    step: Step,
    /// Since when resident memory has been below the end of the step in force.
    below_since: Option<Duration>,
    last_purge: Option<Duration>,
    /// What was resident before a purge whose effect has not been looked at.
    purged_at: Option<u64>,
    /// Purges since the last one that was worth it.
    in_vain: u32,
    /// What the last of them left.
    left: u64,
    last_call: Option<Duration>,
}

impl Controller {
    /// Keeps to `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            limit: limit.max(1),
            step: Step::Calm,
            below_since: None,
            last_purge: None,
            purged_at: None,
            in_vain: 0,
            left: 0,
            last_call: None,
        }
    }

    /// The step in force.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// The limit, bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Whether resident memory is near enough to the limit that looks should follow each other closely.
    #[must_use]
    pub fn is_near(&self, resident: u64) -> bool {
        self.step > Step::Calm || self.share(resident) >= Step::Decay.begins_at() - HYSTERESIS
    }

    /// Decides at the time `now`, which never goes back, with `resident` bytes. What it asks for is done before the next look,
    /// which judges whether a purge was worth it, unless [`Self::purged`] has.
    pub fn look(&mut self, now: Duration, resident: u64) -> Actions {
        let share = self.share(resident);
        let before = self.step;
        let wanted = Step::ALL.into_iter().rfind(|step| share >= step.begins_at()).unwrap_or(Step::Calm);
        if wanted > self.step {
            self.step = wanted;
            self.below_since = None;
        } else if self.step > Step::Calm && share < self.step.begins_at() - HYSTERESIS {
            let since = *self.below_since.get_or_insert(now);
            if now.saturating_sub(since) >= CALM_FOR {
                self.step = below(self.step);
                self.below_since = None;
            }
        } else {
            self.below_since = None;
        }
        [
            (self.step != before).then_some(Action::Enter(self.step)),
            self.purge(now, resident).then_some(Action::Purge),
            self.call(now, before, share),
        ]
    }

    fn share(&self, resident: u64) -> f64 {
        resident as f64 / self.limit as f64
    }

    /// Judges a purge by what is `resident` right after it, not at the next look, when a busy program has filled it again.
    pub fn purged(&mut self, resident: u64) {
        if let Some(before) = self.purged_at.take() {
            let gave_back = before.saturating_sub(resident) as f64;
            let was_worth_it = gave_back >= WORTH_A_PURGE * self.limit as f64;
            self.in_vain = if was_worth_it { 0 } else { self.in_vain.saturating_add(1) };
            self.left = resident;
        }
    }

    /// How long to wait between two purges now.
    fn purge_every(&self, resident: u64) -> Duration {
        if self.in_vain == 0 && self.share(resident) >= Step::Background.begins_at() {
            return PURGE_URGENTLY_EVERY;
        }
        let doubled = 1_u32.checked_shl(self.in_vain).unwrap_or(u32::MAX);
        PURGE_EVERY.saturating_mul(doubled).min(PURGE_AT_LEAST_EVERY)
    }

    fn purge(&mut self, now: Duration, resident: u64) -> bool {
        if self.step < Step::Purge {
            (self.last_purge, self.purged_at, self.in_vain) = (None, None, 0);
            return false;
        }
        self.purged(resident);
        if resident.saturating_sub(self.left) as f64 >= RISE_SINCE * self.limit as f64 {
            self.in_vain = 0;
        }
        // Between a step's end and its beginning there is nothing to purge for.
        if self.share(resident) < Step::Purge.begins_at() {
            return false;
        }
        if self.last_purge.is_some_and(|last| now.saturating_sub(last) < self.purge_every(resident)) {
            return false;
        }
        (self.last_purge, self.purged_at) = (Some(now), Some(resident));
        true
    }

    fn call(&mut self, now: Duration, before: Step, share: f64) -> Option<Action> {
        if self.step < Step::Callback {
            self.last_call = None;
            return (before == Step::Callback).then_some(Action::Relieve);
        }
        let due = self.last_call.is_none_or(|last| now.saturating_sub(last) >= CALLBACK_EVERY);
        if !due || share < Step::Callback.begins_at() {
            return None;
        }
        self.last_call = Some(now);
        Some(Action::Ask)
    }
}

fn below(step: Step) -> Step {
    Step::ALL.into_iter().rfind(|&other| other < step).unwrap_or(Step::Calm)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1_000;

    /// Looks every 10 ms at what `resident` says; returns what was done, with the time.
    fn run(seconds: u64, mut resident: impl FnMut(Duration) -> u64) -> Vec<(Duration, Action)> {
        let mut controller = Controller::new(LIMIT);
        (0..seconds * 100)
            .flat_map(|look| {
                let now = Duration::from_millis(10 * look);
                let actions = controller.look(now, resident(now));
                actions.into_iter().flatten().map(move |action| (now, action))
            })
            .collect()
    }

    fn steps(actions: &[(Duration, Action)]) -> Vec<Step> {
        actions
            .iter()
            .filter_map(|&(_, action)| if let Action::Enter(step) = action { Some(step) } else { None })
            .collect()
    }

    #[test]
    fn far_from_the_limit_nothing_is_done() {
        assert_eq!(run(10, |_| 740), []);
    }

    #[test]
    fn steps_follow_resident_memory_up_and_down_again() {
        // Up by 50 a second to 1,000, and down again.
        let actions = run(40, |now| {
            let seconds = now.as_secs();
            500 + 50 * if seconds < 10 { seconds } else { 20_u64.saturating_sub(seconds) }
        });
        let up_and_down = [
            Step::Decay,
            Step::Purge,
            Step::Background,
            Step::Callback,
            Step::Background,
            Step::Purge,
            Step::Decay,
            Step::Calm,
        ];
        assert_eq!(steps(&actions), up_and_down);
        assert_eq!(actions.iter().filter(|a| a.1 == Action::Relieve).count(), 1);
    }

    #[test]
    fn a_sudden_rise_goes_to_its_step_at_once() {
        let actions = run(1, |_| 990);
        assert_eq!(actions[0], (Duration::ZERO, Action::Enter(Step::Callback)));
        assert_eq!((actions[1].1, actions[2].1), (Action::Purge, Action::Ask));
    }

    #[test]
    fn memory_about_a_threshold_does_not_make_steps_flutter() {
        let mut up = false;
        let actions = run(60, |_| {
            up = !up;
            if up { 860 } else { 840 }
        });
        assert_eq!(steps(&actions), [Step::Purge]);
    }

    #[test]
    fn a_leak_ends_in_calls_of_the_program_and_few_purges() {
        let actions = run(300, |_| 990);
        let count = |wanted| actions.iter().filter(|action| action.1 == wanted).count();
        // 0.25 s doubled up to 30 s, and then each 30 s: about 7 + 9.
        assert!((10..=20).contains(&count(Action::Purge)), "{}", count(Action::Purge));
        assert_eq!(count(Action::Ask), 300);
        assert_eq!(steps(&actions), [Step::Callback]);
    }

    #[test]
    fn purges_that_help_go_on_as_often_as_memory_fills() {
        let (mut controller, mut resident, mut purges) = (Controller::new(LIMIT), 900, 0);
        for look in 0..3_000 {
            let actions = controller.look(Duration::from_millis(10 * look), resident);
            resident = (resident + 5).min(960);
            if actions.contains(&Some(Action::Purge)) {
                purges += 1;
                resident -= 100;
            }
        }
        // From 825 to 920 in 20 looks: before the quarter of a second is over.
        assert_eq!(purges, 30_000 / 200);
    }

    #[test]
    fn memory_that_rises_after_a_purge_in_vain_is_purged_soon() {
        let mut controller = Controller::new(LIMIT);
        let mut purges_at =
            |ms, resident| controller.look(Duration::from_millis(ms), resident).contains(&Some(Action::Purge));
        assert!(purges_at(0, 900));
        // It gave nothing back; the next would be half a second later.
        assert!(!purges_at(300, 900));
        assert!(purges_at(310, 955));
    }

    #[test]
    fn whatever_memory_does_a_step_changes_at_most_once_a_look_and_calls_are_rate_limited() {
        let mut state = 7_u64;
        let actions = run(200, |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % 1_200
        });
        let times = |wanted| actions.iter().filter(move |a| a.1 == wanted).map(|a| a.0);
        assert!(times(Action::Ask).zip(times(Action::Ask).skip(1)).all(|(a, b)| b - a >= CALLBACK_EVERY));
        assert!(times(Action::Purge).zip(times(Action::Purge).skip(1)).all(|(a, b)| b - a >= PURGE_URGENTLY_EVERY));
    }
}
