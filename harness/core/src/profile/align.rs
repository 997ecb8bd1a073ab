//! Which site of one profile is which of another: by function, file and what is called there; where lines moved, in the
//! order of the lines.

use std::collections::{BTreeMap, BTreeSet};

use super::view::{Place, Site};

/// A site of both profiles, or of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pair<'a> {
    pub base: Option<&'a Site>,
    pub now: Option<&'a Site>,
}

/// Longest lists of one function's sites that are aligned by what they hold: beyond, which is no function a person wrote,
/// by their order.
const MOST_ALIGNED: usize = 200;

/// Pairs the sites of two profiles. `weight` says how much of the matter a site holds, in the same measure on both sides.
pub(super) fn pairs<'a>(base: &'a [Site], now: &'a [Site], weight: impl Fn(&Site, bool) -> f64) -> Vec<Pair<'a>> {
    let mut functions: BTreeMap<(&str, &str, &str), [Vec<&Site>; 2]> = BTreeMap::new();
    for (side, sites) in [base, now].into_iter().enumerate() {
        for site in sites {
            let Place { function, file, call, .. } = &site.place;
            functions.entry((function, file, call)).or_default()[side].push(site);
        }
    }
    let mut pairs = Vec::new();
    for [mut base, mut now] in functions.into_values() {
        base.sort_by_key(|site| site.place.line);
        now.sort_by_key(|site| site.place.line);
        let lines = |sites: &[&Site]| sites.iter().map(|site| site.place.line).collect::<BTreeSet<_>>();
        if lines(&base) == lines(&now) || base.len().max(now.len()) > MOST_ALIGNED {
            let rest = base.len().min(now.len());
            pairs.extend(base.iter().zip(&now).map(|(&base, &now)| Pair { base: Some(base), now: Some(now) }));
            pairs.extend(base[rest..].iter().map(|&base| Pair { base: Some(base), now: None }));
            pairs.extend(now[rest..].iter().map(|&now| Pair { base: None, now: Some(now) }));
        } else {
            align(&base, &now, &weight, &mut pairs);
        }
    }
    pairs
}

/// What leaving a site alone costs, as a share of what it holds: less than all, so that a site of about the same size is
/// found behind a new one.
const ALONE: f64 = 0.5;

/// Aligns two lists in their order such that sites which hold about the same are together (the dynamic programme of
/// Needleman and Wunsch 1970); of what is equally good, those whose lines are nearest. What is left alone on both sides
/// between two pairs is one that changed.
fn align<'a>(base: &[&'a Site], now: &[&'a Site], weight: &impl Fn(&Site, bool) -> f64, pairs: &mut Vec<Pair<'a>>) {
    let before: Vec<f64> = base.iter().map(|site| weight(site, false)).collect();
    let after: Vec<f64> = now.iter().map(|site| weight(site, true)).collect();
    let all: f64 = before.iter().chain(&after).sum();
    let matched = |i: usize, j: usize| {
        let lines = f64::from(base[i].place.line.abs_diff(now[j].place.line));
        (before[i] - after[j]).abs() + all * 1e-9 * lines
    };
    let width = now.len() + 1;
    let mut costs = vec![0.0; (base.len() + 1) * width];
    for i in 0..=base.len() {
        for j in 0..=now.len() {
            costs[i * width + j] = match (i, j) {
                (0, 0) => 0.0,
                (0, j) => costs[j - 1] + ALONE * after[j - 1],
                (i, 0) => costs[(i - 1) * width] + ALONE * before[i - 1],
                (i, j) => (costs[(i - 1) * width + j - 1] + matched(i - 1, j - 1))
                    .min(costs[(i - 1) * width + j] + ALONE * before[i - 1])
                    .min(costs[i * width + j - 1] + ALONE * after[j - 1]),
            };
        }
    }
    let (mut i, mut j) = (base.len(), now.len());
    let mut alone = [Vec::new(), Vec::new()];
    while i > 0 || j > 0 {
        let here = costs[i * width + j];
        // The sums were made of the same terms, so the way back finds them again to the bit.
        if i > 0 && j > 0 && here == costs[(i - 1) * width + j - 1] + matched(i - 1, j - 1) {
            (i, j) = (i - 1, j - 1);
            push_alone(&mut alone, pairs);
            pairs.push(Pair { base: Some(base[i]), now: Some(now[j]) });
        } else if i > 0 && here == costs[(i - 1) * width + j] + ALONE * before[i - 1] {
            i -= 1;
            alone[0].push(base[i]);
        } else {
            j -= 1;
            alone[1].push(now[j]);
        }
    }
    push_alone(&mut alone, pairs);
}

/// Takes those that are alone as pairs, as far as there are some on both sides.
fn push_alone<'a>(alone: &mut [Vec<&'a Site>; 2], pairs: &mut Vec<Pair<'a>>) {
    let [base, now] = alone;
    for index in 0..base.len().max(now.len()) {
        pairs.push(Pair { base: base.get(index).copied(), now: now.get(index).copied() });
    }
    base.clear();
    now.clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(function: &str, line: u32, calls: f64) -> Site {
        let place = Place { function: function.to_owned(), file: "a.rs".to_owned(), line, call: String::new() };
        Site { place, values: vec![calls], ..Site::default() }
    }

    fn lines(base: &[Site], now: &[Site]) -> Vec<(u32, u32)> {
        let line = |site: Option<&Site>| site.map_or(0, |site| site.place.line);
        let mut lines: Vec<_> =
            pairs(base, now, |site, _| site.values[0]).iter().map(|p| (line(p.base), line(p.now))).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn lines_that_moved_together_are_the_same_though_some_numbers_come_twice() {
        let base = [site("f", 10, 100.0), site("f", 12, 50.0), site("f", 14, 7.0)];
        let now = [site("f", 12, 101.0), site("f", 14, 48.0), site("f", 16, 7.0)];
        assert_eq!(lines(&base, &now), [(10, 12), (12, 14), (14, 16)]);
    }

    #[test]
    fn a_line_put_between_is_new_and_one_taken_out_is_gone() {
        let (base, now) = (
            [site("f", 10, 100.0), site("f", 20, 50.0)],
            [site("f", 10, 99.0), site("f", 11, 300.0), site("f", 21, 52.0)],
        );
        assert_eq!(lines(&base, &now), [(0, 11), (10, 10), (20, 21)]);
        assert_eq!(lines(&now, &base), [(10, 10), (11, 0), (21, 20)]);
    }

    #[test]
    fn one_that_moved_and_grew_tenfold_is_still_the_same() {
        let (base, now) = ([site("f", 10, 100.0), site("f", 20, 50.0)], [site("f", 11, 1000.0), site("f", 21, 50.0)]);
        assert_eq!(lines(&base, &now), [(10, 11), (20, 21)]);
    }

    #[test]
    fn another_function_is_another_site() {
        assert_eq!(lines(&[site("f", 10, 5.0)], &[site("g", 10, 5.0)]), [(0, 10), (10, 0)]);
    }
}
