//! Where a series of run medians changed its level: the history of a metric over commits.
//!
//! The series is split in two where its ranks differ most, if they differ by more than chance; then each part again, as
//! long as a split stands (binary segmentation: Vostrikova 1981). Chance is a permutation test of the largest difference,
//! as in E-divisive (Matteson and James 2014, "A nonparametric approach for multiple change point analysis of
//! multivariate data"), so nothing is assumed of the noise and nothing needs tuning. The difference is that of mean ranks
//! (Pettitt 1979, "A non-parametric approach to the change-point problem"), standardized so that the ends of a series
//! count as its middle does: a stray value of any size is but one rank, and it costs n steps a permutation where E-divisive
//! costs n². It is looked for in the whole part and in shorter intervals of it that overlap by half (seeded intervals:
//! Kovács, Bühlmann, Li and Munk 2023, "Seeded binary segmentation"), so that a regression which was repaired some runs
//! later is found though the whole series ends as it began.
//!
//! Our own, because the crate that was looked at, augurs-changepoint, brings 136 crates with it.
//!
//! What it can't see: changes shorter than [`SHORTEST`] runs, and the newest ones, which are too few to be told from
//! chance by ranks: of 30 runs the last five must be on the new level, of 100 the last six, of 300 the last seven,
//! however large the step. Judging the newest run is the gate's task. Nor is noise that depends on its order chance: a
//! slow wave has change points.

use super::random::SplitMix64;
use super::ranks::mid_ranks;
use super::sample::median;

/// A split is believed if chance makes as large a difference in at most this share of permutations. A history has
/// tens of metrics; half a percent each keeps the false ones to less than one in a page of them.
pub const SIGNIFICANCE: f64 = 0.005;

/// Levels of fewer runs are stray values.
pub const SHORTEST: usize = 3;

/// Permutations a test: the smallest p-value is 1 in 400, half of [`SIGNIFICANCE`], and 10,000 values take seconds at most.
const PERMUTATIONS: u32 = 399;

/// Intervals shorter than this are not looked at apart. Each length that is adds to what chance can do.
const SHORTEST_INTERVAL: usize = 16;

/// Same values, same answer.
const SEED: u64 = 0x00c4_a26e;

/// A change of level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChangePoint {
    /// The first value of the new level, counted from 0.
    pub index: usize,
    /// The median from the change before, or the start, up to this one.
    pub before_median: f64,
    /// The median from here to the next change, or the end.
    pub after_median: f64,
    /// How often chance makes as large a change somewhere between the changes before and after it.
    pub p_value: f64,
}

/// The changes of level in `values`, in their order. Values must not be NaN.
///
/// ```
/// use heapgate_core::stats::change_points::change_points;
/// let runs = [5.0, 5.1, 4.9, 5.0, 5.2, 5.1, 5.0, 4.9, 6.1, 6.0, 6.2, 6.1, 5.9, 6.0, 6.1, 6.2];
/// let changes = change_points(&runs);
/// assert_eq!(changes.len(), 1);
/// assert_eq!((changes[0].index, changes[0].before_median, changes[0].after_median), (8, 5.0, 6.1));
/// ```
#[must_use]
pub fn change_points(values: &[f64]) -> Vec<ChangePoint> {
    let mut random = SplitMix64::new(SEED);
    let mut splits: Vec<(usize, f64)> = Vec::new();
    let mut parts = vec![(0, values.len())];
    while let Some((start, end)) = parts.pop() {
        if let Some((at, p_value)) = believed_split(&values[start..end], &seeded_intervals(end - start), &mut random) {
            splits.push((start + at, p_value));
            parts.extend([(start, start + at), (start + at, end)]);
        }
    }
    splits.sort_unstable_by_key(|s| s.0);
    settle(values, &mut splits, &mut random);
    let edge = |i: usize| splits.get(i).map_or(values.len(), |s| s.0);
    let level = |from, to| median(&values[from..to]).unwrap_or(f64::NAN);
    splits
        .iter()
        .enumerate()
        .map(|(i, &(index, p_value))| ChangePoint {
            index,
            before_median: level(if i == 0 { 0 } else { edge(i - 1) }, index),
            after_median: level(index, edge(i + 1)),
            p_value,
        })
        .collect()
}

/// A split that was found before its neighbours were, or in a short interval, is moved to where the ranks between those
/// neighbours differ most, and dropped where nothing is left of it: a split a little off a step makes a second one of
/// what lies between.
fn settle(values: &[f64], splits: &mut Vec<(usize, f64)>, random: &mut SplitMix64) {
    let mut i = 0;
    while i < splits.len() {
        let start = if i == 0 { 0 } else { splits[i - 1].0 };
        let end = splits.get(i + 1).map_or(values.len(), |s| s.0);
        let part = &values[start..end];
        if let Some((at, p_value)) = believed_split(part, &[(0, part.len())], random) {
            splits[i] = (start + at, p_value);
            i += 1;
        } else {
            splits.remove(i);
            // What stood before it now has another neighbour.
            i = i.saturating_sub(1);
        }
    }
}

/// Where the level changes most in any of the intervals, and how often chance does as much, if that is seldom enough.
fn believed_split(values: &[f64], intervals: &[(usize, usize)], random: &mut SplitMix64) -> Option<(usize, f64)> {
    let mut ranks = centred_ranks(values);
    let (seen, at) = largest_in_any(&prefix_sums(&ranks), intervals)?;
    if seen <= 0.0 {
        return None;
    }
    let most = (SIGNIFICANCE * f64::from(PERMUTATIONS + 1)) as u32 - 1;
    let mut as_large = 0;
    for _ in 0..PERMUTATIONS {
        random.shuffle(&mut ranks);
        // Orders of the same ranks may add up to the same difference but for a rounding.
        let by_chance = largest_in_any(&prefix_sums(&ranks), intervals).is_some_and(|(d, _)| d >= seen * (1.0 - 1e-9));
        as_large += u32::from(by_chance);
        if as_large > most {
            return None;
        }
    }
    Some((at, f64::from(as_large + 1) / f64::from(PERMUTATIONS + 1)))
}

/// Ranks less their mean.
fn centred_ranks(values: &[f64]) -> Vec<f64> {
    let middle = (values.len() + 1) as f64 / 2.0;
    mid_ranks(values).iter().map(|r| r - middle).collect()
}

/// Sums of the first 0, 1, … values.
fn prefix_sums(values: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    std::iter::once(0.0)
        .chain(values.iter().map(|v| {
            sum += v;
            sum
        }))
        .collect()
}

/// The whole, then intervals of half its length, a quarter, …, each overlapping the next by half.
fn seeded_intervals(n: usize) -> Vec<(usize, usize)> {
    let mut intervals = vec![(0, n)];
    let mut pieces = 2;
    while n / pieces >= SHORTEST_INTERVAL {
        intervals.extend((0..2 * pieces - 1).map(|i| (i * n / (2 * pieces), (i + 2) * n / (2 * pieces))));
        pieces *= 2;
    }
    intervals
}

fn largest_in_any(sums: &[f64], intervals: &[(usize, usize)]) -> Option<(f64, usize)> {
    intervals
        .iter()
        .filter_map(|&(from, to)| largest_difference(&sums[from..=to]).map(|(d, at)| (d, from + at)))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
}

/// The split with the largest difference between the mean ranks of its sides, in units of what chance makes of it but
/// for a constant, from the sums of the first 0, 1, … ranks.
fn largest_difference(sums: &[f64]) -> Option<(f64, usize)> {
    let n = sums.len() - 1;
    let (first, mean) = (sums[0], (sums[n] - sums[0]) / n as f64);
    let mut best: Option<(f64, usize)> = None;
    for (at, sum) in sums.iter().enumerate().take((n + 1).saturating_sub(SHORTEST)).skip(SHORTEST) {
        let excess = sum - first - mean * at as f64;
        let squared = excess * excess * n as f64 / (at * (n - at)) as f64;
        if best.is_none_or(|b| squared > b.0) {
            best = Some((squared, at));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(random: &mut SplitMix64, n: usize) -> Vec<f64> {
        (0..n).map(|_| 100.0 + random.normal()).collect()
    }

    fn stepped(random: &mut SplitMix64, n: usize, levels: &[(usize, f64)]) -> Vec<f64> {
        let mut values = noise(random, n);
        for &(from, step) in levels {
            values[from..].iter_mut().for_each(|v| *v += step);
        }
        values
    }

    /// 1,000 series: at most 0.5 % have a change, 5; 15 would come up in fewer than 1 of 10,000 runs with other seeds.
    /// Of 1 %, 10 would be expected; 15 of 1,000 has an interval that reaches down to 0.84 %.
    #[test]
    fn constant_noise_has_no_change_points() {
        let mut random = SplitMix64::new(11);
        let changed = (0..1_000).filter(|_| !change_points(&noise(&mut random, 100)).is_empty()).count();
        assert!(changed < 15, "{changed}");
    }

    /// Heavy tails: the ratio of two normal values has no variance at all.
    #[test]
    fn wild_noise_has_no_change_points_either() {
        let mut random = SplitMix64::new(12);
        let changed = (0..400)
            .filter(|_| {
                let wild: Vec<f64> = (0..60).map(|_| random.normal() / random.normal()).collect();
                !change_points(&wild).is_empty()
            })
            .count();
        assert!(changed < 10, "{changed}");
    }

    /// Steps of three standard deviations at every place from 8 to 92 of 100: all found, none but it in most, 95 % within
    /// two of where they are.
    #[test]
    fn a_step_of_three_sigma_is_found_where_it_is() {
        let mut random = SplitMix64::new(13);
        let (mut near, mut alone) = (0, 0);
        for at in 8..=92 {
            let found = change_points(&stepped(&mut random, 100, &[(at, 3.0)]));
            let nearest = found.iter().min_by_key(|c| c.index.abs_diff(at)).unwrap_or_else(|| panic!("none at {at}"));
            near += u32::from(nearest.index.abs_diff(at) <= 2);
            alone += u32::from(found.len() == 1);
            assert!(nearest.after_median > nearest.before_median + 1.5 && nearest.p_value <= SIGNIFICANCE);
        }
        assert!(near >= 81 && alone >= 81, "{near} near, {alone} alone, of 85");
    }

    #[test]
    fn a_repaired_regression_has_two_ends() {
        let mut random = SplitMix64::new(14);
        let found = change_points(&stepped(&mut random, 100, &[(45, 3.0), (57, -3.0)]));
        let at: Vec<usize> = found.iter().map(|c| c.index).collect();
        assert!(at.len() == 2 && at[0].abs_diff(45) <= 2 && at[1].abs_diff(57) <= 2, "{at:?}");
    }

    #[test]
    fn stray_values_are_no_change() {
        let mut random = SplitMix64::new(15);
        for _ in 0..20 {
            let mut values = noise(&mut random, 100);
            for at in [20, 50, 51, 90] {
                values[at] = 1e9;
            }
            assert_eq!(change_points(&values), []);
        }
    }

    #[test]
    fn counts_without_noise_change_where_they_change() {
        let mut values = vec![1_000.0; 20];
        values[10..].fill(1_001.0);
        let found = change_points(&values);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].index, found[0].before_median, found[0].after_median), (10, 1_000.0, 1_001.0));
        assert_eq!(change_points(&[7.0; 50]), []);
        assert_eq!(change_points(&[]), []);
        assert_eq!(change_points(&[1.0, 2.0, 1.0]), []);
    }

    #[test]
    fn ten_thousand_runs_are_done_and_all_their_steps_found() {
        let mut random = SplitMix64::new(16);
        let at: Vec<usize> = (1..5).map(|i| i * 2_000 + 17).collect();
        let levels: Vec<(usize, f64)> = at.iter().map(|&at| (at, 2.0)).collect();
        let found: Vec<usize> = change_points(&stepped(&mut random, 10_000, &levels)).iter().map(|c| c.index).collect();
        assert!(found.len() == 4 && found.iter().zip(&at).all(|(f, a)| f.abs_diff(*a) <= 5), "{found:?} {at:?}");
    }

    #[test]
    fn the_same_series_has_the_same_changes() {
        let mut random = SplitMix64::new(17);
        let values = stepped(&mut random, 200, &[(60, 1.5), (140, 1.5)]);
        assert_eq!(change_points(&values), change_points(&values));
    }
}
