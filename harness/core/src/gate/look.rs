//! How much error the gate allows itself, and how it spends it over the looks at a growing run.

/// The probability that even one metric of a run is called worse than its limit while none is: once in a thousand runs. A
/// gate that cries wolf is switched off.
pub const FALSE_ALARM: f64 = 0.001;

/// The probability that a metric whose true change is exactly at its limit passes one look. Changes beyond the limit pass
/// less often, and the further beyond, the less.
pub const MISS: f64 = 0.025;

/// Most looks at a run that grows from round to round.
pub const MOST_LOOKS: u32 = 3;

/// How many repetitions each side has at a look, in those of the first: 5, 12, 20. Twelve against twelve is where a rank test
/// can tell one of some thousand tests apart at the allowed error: 60 metrics, one of them a histogram of 30 places; five
/// against five can't tell 8 of 1,000. Twenty is for small changes.
pub const GROWTH: [f64; MOST_LOOKS as usize] = [1.0, 2.4, 4.0];

/// Repetitions at the look `look` (from 0) of a run that begins with `reps`.
///
/// ```
/// use heapgate_core::gate::repetitions;
/// assert_eq!([0, 1, 2].map(|look| repetitions(5, look)), [5, 12, 20]);
/// ```
#[must_use]
pub fn repetitions(reps: u32, look: u32) -> u32 {
    let growth = GROWTH[(look as usize).min(GROWTH.len() - 1)];
    // Rounded down, but each look has more than the one before.
    ((f64::from(reps) * growth) as u32).max(reps.saturating_add(look))
}

/// One look at the figures.
///
/// Looking again and again at a growing run until something shows would find something in the end. So the allowed
/// probability of a false alarm is divided by the number of looks that were planned (Bonferroni's inequality, which holds
/// however the looks depend on each other), taken or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Largest corrected probability at which a metric fails.
    pub alpha: f64,
    /// Largest probability at which a metric passes.
    pub miss: f64,
    /// Looks that were planned.
    pub of: u32,
}

impl Look {
    /// The only look there will be.
    pub const ONLY: Self = Self { alpha: FALSE_ALARM, miss: MISS, of: 1 };

    /// One of several.
    ///
    /// ```
    /// use heapgate_core::gate::{FALSE_ALARM, Look};
    /// assert_eq!(Look::one_of(2).alpha, FALSE_ALARM / 2.0);
    /// ```
    #[must_use]
    pub fn one_of(looks: u32) -> Self {
        Self { alpha: FALSE_ALARM / f64::from(looks.max(1)), miss: MISS, of: looks.max(1) }
    }
}
