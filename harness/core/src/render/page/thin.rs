//! Fewer points for a picture, without losing what matters in it.

/// At most `most` (but never fewer than four) of `points`, which are in order of their first number. Time is cut into equal parts, and each keeps
/// its lowest and its highest point at the times they had, so that no peak is lost; the first and the last point stay.
pub(super) fn curve(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let (Some(&first), Some(&last)) = (points.first(), points.last()) else { return Vec::new() };
    if points.len() <= most {
        return points.to_vec();
    }
    let parts = (most.saturating_sub(2) / 2).max(1);
    let span = last.0 - first.0;
    let part = |x: f64| if span > 0.0 { (((x - first.0) / span) * parts as f64) as usize } else { 0 }.min(parts - 1);
    let mut kept = vec![first];
    for group in points.chunk_by(|a, b| part(a.0) == part(b.0)) {
        let lowest = group.iter().enumerate().min_by(|a, b| a.1.1.total_cmp(&b.1.1)).map_or(0, |found| found.0);
        let highest = group.iter().enumerate().max_by(|a, b| a.1.1.total_cmp(&b.1.1)).map_or(0, |found| found.0);
        kept.extend([group[lowest.min(highest)], group[lowest.max(highest)]]);
    }
    kept.push(last);
    kept.dedup();
    kept
}

/// At most `most` of `values`: sorted, and evenly taken, the smallest and the largest among them.
pub(super) fn values(values: &[f64], most: usize) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    if sorted.len() <= most || most < 2 {
        return sorted;
    }
    (0..most).map(|i| sorted[i * (sorted.len() - 1) / (most - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_of_one_sample_stays() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), 5.0 + f64::from(i % 7))).collect();
        points[77_777].1 = 1e9;
        points[12_345].1 = -3.0;
        let kept = curve(&points, 200);
        assert!(kept.len() <= 200, "{}", kept.len());
        for point in [points[0], points[77_777], points[12_345], points[99_999]] {
            assert!(kept.contains(&point), "{point:?}");
        }
        assert!(kept.is_sorted_by(|a, b| a.0 <= b.0));
    }

    #[test]
    fn few_points_and_points_of_one_time_are_no_trouble() {
        assert_eq!(curve(&[], 10), []);
        assert_eq!(curve(&[(1.0, 2.0)], 10), [(1.0, 2.0)]);
        assert_eq!(curve(&[(1.0, 2.0); 50], 10), [(1.0, 2.0)]);
    }

    #[test]
    fn the_extremes_of_values_stay() {
        let all: Vec<f64> = (0..3000).map(f64::from).rev().collect();
        let kept = values(&all, 60);
        assert_eq!((kept.len(), kept[0], kept[59]), (60, 0.0, 2999.0));
        assert_eq!(values(&[3.0, 1.0], 60), [1.0, 3.0]);
    }
}
