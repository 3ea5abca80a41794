//! How good predictions are. All measures are weighted: a record counts as the bursts that it stands for.

use serde::Serialize;

/// A burst, and what was predicted of it, in log2(ns).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub truth: f64,
    pub prediction: f64,
    /// What the predictor gave as the 95 % quantile; None: it gave none.
    pub upper: Option<f64>,
    /// Whether the prediction is the predictor's own; else the kind's average stood in.
    pub own: bool,
    /// Bursts that the point stands for.
    pub weight: f64,
    /// Factor of the squared error: 1, but for means of the judged samples themselves, see
    /// [`super::predictors::ceiling`].
    pub correction: f64,
}

/// Measures of a predictor on a group of bursts.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Metrics {
    /// Records, and the bursts that they stand for.
    pub samples: usize,
    pub bursts: f64,
    /// Share of the bursts for which the prediction is the predictor's own; for the others the kind's average stood in.
    pub own_share: f64,
    /// Mean |log2 error|, octaves.
    pub log_mae: f64,
    /// Spearman's rank correlation of prediction and burst; None where one of them is constant.
    pub spearman: Option<f64>,
    /// Share of the variance of log2(burst) that is explained; None where there is none.
    pub r2: Option<f64>,
    /// Share of the bursts at or below the predicted 95 % quantile; None where none was predicted.
    pub coverage: Option<f64>,
}

impl Metrics {
    /// Of these points; None of none.
    pub fn of(points: &[Point]) -> Option<Self> {
        let bursts: f64 = points.iter().map(|p| p.weight).sum();
        if bursts <= 0.0 {
            return None;
        }
        // From 0: a sum of nothing is -0.
        let own = points
            .iter()
            .filter(|p| p.own)
            .fold(0.0, |sum, p| sum + p.weight);
        Some(Self {
            samples: points.len(),
            bursts,
            own_share: own / bursts,
            log_mae: log_mae(points),
            spearman: spearman(points),
            r2: r2(points),
            coverage: coverage(points),
        })
    }
}

fn mean(values: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (sum, total) = values.fold((0.0, 0.0), |(s, t), (v, w)| (s + v * w, t + w));
    sum / total
}

/// Mean |log2 error|, octaves. NaN of no points.
pub fn log_mae(points: &[Point]) -> f64 {
    mean(
        points
            .iter()
            .map(|p| ((p.prediction - p.truth).abs(), p.weight)),
    )
}

/// 1 - squared errors / squared distances from the mean.
fn r2(points: &[Point]) -> Option<f64> {
    let centre = mean(points.iter().map(|p| (p.truth, p.weight)));
    let square = |off: f64| off * off;
    let all = mean(points.iter().map(|p| (square(p.truth - centre), p.weight)));
    let left = mean(points.iter().map(|p| {
        let error = square(p.prediction - p.truth);
        (p.correction * error, p.weight)
    }));
    (all > 0.0).then(|| 1.0 - left / all)
}

fn coverage(points: &[Point]) -> Option<f64> {
    let judged: Vec<(f64, f64)> = points
        .iter()
        .filter_map(|p| Some((f64::from(u8::from(p.truth <= p.upper?)), p.weight)))
        .collect();
    (!judged.is_empty()).then(|| mean(judged.into_iter()))
}

/// Spearman's rank correlation: Pearson's, of the ranks. Ties share their mean rank, and a point of weight n counts as
/// n points that are tied with each other.
fn spearman(points: &[Point]) -> Option<f64> {
    let truth = ranks(points, |p| p.truth);
    let predicted = ranks(points, |p| p.prediction);
    let weights = || points.iter().map(|p| p.weight);
    let centre = |ranks: &[f64]| mean(ranks.iter().copied().zip(weights()));
    let (mt, mp) = (centre(&truth), centre(&predicted));
    let (mut tt, mut pp, mut tp) = (0.0, 0.0, 0.0);
    for ((t, p), w) in truth.iter().zip(&predicted).zip(weights()) {
        let (t, p) = (t - mt, p - mp);
        tt += w * t * t;
        pp += w * p * p;
        tp += w * t * p;
    }
    (tt > 0.0 && pp > 0.0).then(|| tp / (tt * pp).sqrt())
}

/// Rank of each point by `value`: the weight below it, and half of the weight that is tied with it.
fn ranks(points: &[Point], value: impl Fn(&Point) -> f64) -> Vec<f64> {
    let mut order: Vec<(f64, usize)> = points.iter().map(&value).zip(0..).collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut ranks = vec![0.0; points.len()];
    let mut below = 0.0;
    for tied in order.chunk_by(|a, b| a.0 == b.0) {
        let weight: f64 = tied.iter().map(|&(_, i)| points[i].weight).sum();
        for &(_, i) in tied {
            ranks[i] = below + weight / 2.0;
        }
        below += weight;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(truth: f64, prediction: f64, weight: f64) -> Point {
        Point {
            truth,
            prediction,
            upper: None,
            own: true,
            weight,
            correction: 1.0,
        }
    }

    fn points(of: &[(f64, f64)]) -> Vec<Point> {
        of.iter().map(|&(t, p)| point(t, p, 1.0)).collect()
    }

    fn close(a: Option<f64>, b: f64) {
        assert!(a.is_some_and(|a| (a - b).abs() < 1e-12), "{a:?}, not {b}");
    }

    #[test]
    fn an_example_by_hand() {
        // Errors 1, 0, 1, 2; truth has mean 4 and squared distances 9, 1, 1, 9.
        let m = Metrics::of(&points(&[(1.0, 2.0), (3.0, 3.0), (5.0, 4.0), (7.0, 9.0)]));
        let m = m.expect("points");
        assert_eq!((m.samples, m.bursts, m.log_mae), (4, 4.0, 1.0));
        close(m.r2, 1.0 - 6.0 / 20.0);
        close(m.spearman, 1.0);
        assert_eq!(m.coverage, None);
    }

    #[test]
    fn ranks_by_hand_with_a_tie() {
        // Ranks of truth 1 2 3 4, of the prediction 1 2.5 2.5 4: 1 - no formula of squares holds with ties.
        // Covariance 4.5, variances 5 and 4.5: 4.5 / sqrt(22.5).
        let m = Metrics::of(&points(&[(1.0, 5.0), (2.0, 6.0), (3.0, 6.0), (9.0, 70.0)]));
        close(m.expect("points").spearman, 4.5 / 22.5f64.sqrt());
        // Swapped ends of three: 1 - 6 * 8 / (3 * 8) = -1; one swap of neighbours: 1 - 6 * 2 / 24 = 0.5.
        let m = Metrics::of(&points(&[(1.0, 2.0), (2.0, 1.0), (3.0, 3.0)]));
        close(m.expect("points").spearman, 0.5);
    }

    #[test]
    fn coverage_is_over_what_has_a_quantile() {
        let mut of = points(&[(1.0, 0.0), (2.0, 0.0), (3.0, 0.0), (4.0, 0.0)]);
        (of[0].upper, of[1].upper, of[2].upper) = (Some(1.0), Some(1.9), Some(5.0));
        of[2].weight = 2.0;
        of[3].own = false;
        let none = of
            .iter()
            .map(|p| Point { own: false, ..*p })
            .collect::<Vec<_>>();
        let share = Metrics::of(&none).expect("points").own_share;
        assert!(share == 0.0 && share.is_sign_positive());
        let m = Metrics::of(&of).expect("points");
        close(m.coverage, 0.75);
        close(Some(m.own_share), 0.8);
    }

    #[test]
    fn what_cannot_be_told_is_not_told() {
        assert_eq!(Metrics::of(&[]), None);
        let constant = Metrics::of(&points(&[(3.0, 1.0), (3.0, 2.0)])).expect("points");
        assert_eq!((constant.r2, constant.spearman), (None, None));
        let constant = Metrics::of(&points(&[(1.0, 3.0), (2.0, 3.0)])).expect("points");
        assert_eq!(constant.spearman, None);
        assert!(constant.r2.is_some_and(|r2| r2 < 0.0));
    }

    /// Points with whole numbers, so that ties occur.
    fn any_points() -> impl Strategy<Value = Vec<Point>> {
        proptest::collection::vec((0..12u8, 0..12u8, 1..64u32), 2..40).prop_map(|of| {
            of.into_iter()
                .map(|(t, p, w)| point(t.into(), p.into(), w.into()))
                .collect()
        })
    }

    fn same(a: Option<f64>, b: Option<f64>) -> bool {
        match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() < 1e-9,
            (a, b) => a == b,
        }
    }

    fn all_same(a: &Metrics, b: &Metrics) -> bool {
        same(Some(a.log_mae), Some(b.log_mae)) && same(a.r2, b.r2) && same(a.spearman, b.spearman)
    }

    proptest! {
        #[test]
        fn a_perfect_prediction_has_no_error_and_correlates_fully(mut of in any_points()) {
            of.iter_mut().for_each(|p| p.prediction = p.truth);
            let m = Metrics::of(&of).expect("points");
            prop_assert_eq!(m.log_mae, 0.0);
            prop_assert!(m.r2.is_none_or(|r2| r2 == 1.0));
            prop_assert!(m.spearman.is_none_or(|r| (r - 1.0).abs() < 1e-12));
        }

        #[test]
        fn the_order_of_the_points_does_not_matter(of in any_points(), turn in 0..40usize) {
            let mut turned = of.clone();
            turned.rotate_left(turn % of.len());
            turned.reverse();
            let (a, b) = (Metrics::of(&of).expect("points"), Metrics::of(&turned).expect("points"));
            prop_assert!(all_same(&a, &b), "{a:?} {b:?}");
        }

        #[test]
        fn a_weight_is_a_number_of_points(mut of in any_points()) {
            of.iter_mut().for_each(|p| p.weight = (p.weight / 16.0).ceil());
            let repeated: Vec<Point> = of
                .iter()
                .flat_map(|p| std::iter::repeat_n(Point { weight: 1.0, ..*p }, p.weight as usize))
                .collect();
            let (a, b) = (Metrics::of(&of).expect("points"), Metrics::of(&repeated).expect("points"));
            prop_assert!(all_same(&a, &b), "{a:?} {b:?}");
        }

        #[test]
        fn ranks_know_order_only_and_all_stay_in_their_bounds(of in any_points()) {
            let a = Metrics::of(&of).expect("points");
            let bent: Vec<Point> = of
                .iter()
                .map(|p| Point { prediction: p.prediction.exp2(), ..*p })
                .collect();
            let b = Metrics::of(&bent).expect("points");
            prop_assert!(same(a.spearman, b.spearman));
            prop_assert!(a.spearman.is_none_or(|r| (-1.0 - 1e-12..=1.0 + 1e-12).contains(&r)));
            prop_assert!(a.r2.is_none_or(|r2| r2 <= 1.0));
        }
    }
}
