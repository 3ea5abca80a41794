//! Fitting: a correction of the kind's average, by weighted ridge regression on the sums of the stream.
//!
//! What is fitted is what the kind's average misses by, so that the penalty pulls towards that average itself: few
//! samples, a load that nothing is known of yet or features that tell nothing give it back. Columns are standardised, and
//! chosen one by one, by what each explains beside those chosen before (orthogonal least squares; Chen, Billings and Luo
//! 1989), less what that may be by chance and what the feature costs at a wake-up. All of it is of the size of the
//! features, whatever has gone through the sums.
//!
//! linfa-linear has neither weights nor ridge, and on nearly collinear columns returns huge coefficients without an
//! error. So: constant and collinear columns are left out; weights are in the sums; it is given the problem condensed into
//! its Cholesky factor, which has the same solution; and the ridge penalty enters as √λ rows below that (Hoerl and
//! Kennard's augmentation).

use crate::kernel::bpf::NR_FEATURES;
use crate::kernel::bpf::intf::scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST;
use crate::kernel::features;
use crate::learn::least_squares::{FitError, ROWS_MIN, least_squares};
use crate::learn::moments::Moments;
use crate::learn::price::price_ns;
use crate::model::{Chosen, Dropped, Linear};

/// Columns that a correction has at most: each costs time at every wake-up.
const TERMS_MAX: usize = 8;

/// A column with a standard deviation below this, in octaves, is constant: a flag that one row in four hundred has tells of
/// that row.
const CONSTANT_STD: f64 = 0.05;

/// A column of which less than this share of variance is left beside the columns in use is collinear.
const COLLINEAR_SHARE: f64 = 1e-3;

/// Share of the variance that the kind's average leaves which a column must explain for each ns that it costs.
const SHARE_PER_NS: f64 = 1e-4;

/// A column must explain so many times what one that tells nothing explains by chance: the best of some forty of those
/// comes to about that.
const BEYOND_CHANCE: f64 = 6.0;

/// The kind's average counts as so many rows that say that there is nothing to correct.
const PRIOR_ROWS: f64 = 5.0;

/// A model of the rows that `moments` has seen. Its margins are 0 yet.
///
/// # Errors
/// When they are too few, or when linfa finds no solution.
pub fn fit(moments: &Moments) -> Result<Linear, FitError> {
    if moments.rows() < ROWS_MIN {
        let found = moments.rows();
        return Err(FitError::TooFew { found });
    }
    let rows = moments.effective_rows();
    let columns = choose_columns(moments, rows);
    let beta = least_squares(&columns.factor, &columns.z, PRIOR_ROWS / rows)?;

    let mut coef = [0.0; NR_FEATURES];
    let mut intercept = moments.mean_target() * rows / (rows + PRIOR_ROWS);
    for (&i, b) in columns.kept.iter().zip(beta) {
        coef[i] = b / moments.std(i);
        if !coef[i].is_finite() {
            return Err(FitError::Coefficient {
                feature: features::name(i),
                value: coef[i],
            });
        }
        intercept -= coef[i] * moments.mean(i);
    }
    let kind = KIND_BURST as usize;
    coef[kind] += 1.0;

    let variance = moments.variance().max(f64::MIN_POSITIVE);
    let known = (1.0 - moments.variance_missed() / variance).clamp(0.0, 1.0);
    let mut chosen = vec![Chosen {
        feature: kind,
        explains: known,
    }];
    for (&feature, z) in columns.kept.iter().zip(&columns.z) {
        let explains = (z * z / variance).min(1.0);
        if feature == kind {
            chosen[0].explains = (known + explains).min(1.0);
        } else {
            chosen.push(Chosen { feature, explains });
        }
    }
    Ok(Linear {
        intercept,
        coef,
        sigma: 0.0,
        margin: 0.0,
        long_margin: 0.0,
        samples: moments.rows(),
        chosen,
        dropped: columns.dropped,
    })
}

/// The columns that a fit uses.
struct Columns {
    /// In the order in which they were chosen, the most telling first.
    kept: Vec<usize>,
    /// Lower Cholesky factor of their correlation matrix, by lines.
    factor: Vec<Vec<f64>>,
    /// The target's covariance with them, each freed of those before it: L⁻¹ X'y.
    z: Vec<f64>,
    dropped: Vec<(usize, Dropped)>,
}

/// A column that may still be chosen.
struct Candidate {
    column: usize,
    /// Its line of the Cholesky factor so far.
    line: Vec<f64>,
    /// Share of its variance that the chosen columns leave.
    left: f64,
    /// Covariance with the target, beside the chosen columns.
    with_target: f64,
}

impl Candidate {
    /// Variance of the target that choosing it would explain.
    fn gain(&self) -> f64 {
        self.with_target * self.with_target / self.left.max(COLLINEAR_SHARE)
    }
}

/// Forward selection, by one step of a pivoted Cholesky factorisation each.
fn choose_columns(moments: &Moments, rows: f64) -> Columns {
    let std: [f64; NR_FEATURES] = std::array::from_fn(|i| moments.std(i));
    let mut dropped = vec![];
    let mut open: Vec<Candidate> = vec![];
    for (column, &std) in std.iter().enumerate() {
        if std < CONSTANT_STD {
            dropped.push((column, Dropped::Constant));
        } else {
            open.push(Candidate {
                column,
                line: vec![],
                left: 1.0,
                with_target: moments.with_target(column) / std,
            });
        }
    }

    let mut columns = Columns {
        kept: vec![],
        factor: vec![],
        z: vec![],
        dropped: vec![],
    };
    let mut unexplained = moments.variance_missed();
    let share_per_ns = SHARE_PER_NS * unexplained;
    while columns.kept.len() < TERMS_MAX {
        let chance = BEYOND_CHANCE * unexplained / rows;
        let best = open
            .iter()
            .enumerate()
            .filter(|(_, c)| c.left >= COLLINEAR_SHARE)
            .map(|(at, c)| {
                let price = share_per_ns * price_ns(c.column, &columns.kept);
                (at, c.gain() - chance - price)
            })
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((at, _)) = best.filter(|&(_, worth)| worth > 0.0) else {
            break;
        };
        let best = open.swap_remove(at);
        let pivot = best.left.sqrt();
        let z = best.with_target / pivot;
        for c in &mut open {
            let known: f64 = c.line.iter().zip(&best.line).map(|(a, b)| a * b).sum();
            let covariance = moments.covariance(c.column, best.column);
            let l = (covariance / std[c.column] / std[best.column] - known) / pivot;
            c.line.push(l);
            c.left -= l * l;
            c.with_target -= l * z;
        }
        unexplained = (unexplained - z * z).max(0.0);
        columns.kept.push(best.column);
        columns
            .factor
            .push(best.line.into_iter().chain([pivot]).collect());
        columns.z.push(z);
    }

    dropped.extend(open.iter().map(|c| {
        let why = match c.left < COLLINEAR_SHARE {
            true => Dropped::Collinear,
            false => Dropped::Useless,
        };
        (c.column, why)
    }));
    // Without it there is no correction: it is in every model.
    dropped.retain(|&(i, _)| i != KIND_BURST as usize);
    dropped.sort_unstable();
    columns.dropped = dropped;
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::features::Features;
    use crate::learn::row::Row;
    use crate::learn::row::tests::{KIND, noise, row, rows};
    use crate::learn::stream::Stream;
    use linfa::Dataset;
    use linfa::traits::Fit;
    use linfa_linear::LinearRegression;
    use ndarray::{Array1, Array2};

    fn fit_all(rows: &[Row]) -> Result<Linear, FitError> {
        let mut stream = Stream::default();
        rows.iter().for_each(|r| stream.add(r, r.weight));
        fit(stream.moments())
    }

    fn why(model: &Linear, column: usize) -> Option<Dropped> {
        let found = model.dropped.iter().find(|(i, _)| *i == column);
        found.map(|&(_, why)| why)
    }

    #[test]
    fn a_plane_is_recovered_and_nothing_else_is_used() {
        let rows = rows(2_000, |x| x[KIND] + 3.0 + 0.5 * x[0] - 0.25 * x[4]);
        let model = fit_all(&rows).expect("a plane");
        assert!((model.coef[0] - 0.5).abs() < 0.01, "{model:?}");
        assert!((model.coef[4] + 0.25).abs() < 0.01, "{model:?}");
        assert!((model.coef[KIND] - 1.0).abs() < 1e-9, "{model:?}");
        assert_eq!(model.used().collect::<Vec<_>>(), [0, 4, KIND]);
        assert_eq!(why(&model, 7), Some(Dropped::Useless));
        let missed = rows.iter().map(|r| (model.predict(&r.x) - r.y).abs());
        assert!(missed.sum::<f64>() / 2_000.0 < 0.02, "{model:?}");
    }

    #[test]
    fn the_solution_is_that_of_linfa_on_all_rows() {
        let y = |x: &Features| 4.0 + 0.3 * x[KIND] + 0.5 * x[0] - 0.25 * x[4] + 0.2 * x[9];
        let mut rows = rows(1_000, y);
        for (i, row) in rows.iter_mut().enumerate() {
            // What the integers of a stream hold exactly.
            row.y = ((row.y + noise(99, i)) * 4096.0).round() / 4096.0;
            row.weight = [1.0, 2.0, 4.0][i % 3];
        }
        let model = fit_all(&rows).expect("a fit");
        let mut stream = Stream::default();
        rows.iter().for_each(|r| stream.add(r, r.weight));
        let moments = stream.moments();

        // Rows scaled by the roots of their weights, and as many of the penalty below.
        let used: Vec<usize> = model.used().collect();
        let (n, k) = (rows.len(), used.len());
        let total: f64 = rows.iter().map(|r| r.weight).sum();
        let mut x = Array2::zeros((n + k, k));
        let mut y = Array1::zeros(n + k);
        for (r, row) in rows.iter().enumerate() {
            let root = (row.weight / total).sqrt();
            for (c, &i) in used.iter().enumerate() {
                x[[r, c]] = root * (row.x[i] - moments.mean(i)) / moments.std(i);
            }
            y[r] = root * (row.y - row.avg - moments.mean_target());
        }
        for c in 0..k {
            x[[n + c, c]] = (PRIOR_ROWS / moments.effective_rows()).sqrt();
        }
        let whole = LinearRegression::new()
            .with_intercept(false)
            .fit(&Dataset::new(x, y))
            .expect("solvable");
        for (&i, b) in used.iter().zip(whole.params()) {
            let expected = b / moments.std(i) + f64::from(u8::from(i == KIND));
            assert!((model.coef[i] - expected).abs() < 1e-9, "{i}: {model:?}");
        }
    }

    #[test]
    fn where_nothing_can_be_learned_it_is_the_kinds_average() {
        let exact = fit_all(&rows(500, |x| x[KIND])).expect("a fit");
        assert_eq!(exact.used().collect::<Vec<_>>(), [KIND]);
        let mut noisy = rows(500, |x| x[KIND]);
        for (i, row) in noisy.iter_mut().enumerate() {
            row.y += 4.0 * noise(77, i);
        }
        let model = fit_all(&noisy).expect("a fit");
        let off = |r: &Row| (model.predict(&r.x) - r.avg).abs();
        assert!(noisy.iter().all(|r| off(r) < 0.5), "{model:?}");
    }

    #[test]
    fn the_order_of_choice_is_told_with_what_each_column_explains() {
        let model = fit_all(&rows(1_000, |x| x[KIND] + 0.5 * x[4] - 2.0 * x[9])).expect("a plane");
        let order: Vec<usize> = model.chosen.iter().map(|c| c.feature).collect();
        assert_eq!(order, [KIND, 9, 4]);
        // Columns of the same spread, nearly independent: 1, 4 and 0.25 of 5.25.
        for (chosen, share) in model.chosen.iter().zip([0.19, 0.76, 0.05]) {
            assert!((chosen.explains - share).abs() < 0.05, "{model:?}");
        }
    }

    #[test]
    fn constant_columns_are_dropped_and_named() {
        let mut rows = rows(1_000, |x| x[KIND] + x[0]);
        rows.iter_mut().for_each(|r| r.x[11] = 6.64);
        let model = fit_all(&rows).expect("a fit");
        assert_eq!(why(&model, 11), Some(Dropped::Constant));
        assert_eq!(model.coef[11], 0.0);
    }

    #[test]
    fn duplicated_and_summed_columns_are_dropped_and_coefficients_stay_small() {
        let mut rows = rows(1_000, |x| x[KIND] + x[0] + 0.3 * x[1] + 0.1 * x[2]);
        for row in &mut rows {
            row.x[8] = row.x[0];
            row.x[7] = 0.5 * row.x[0] + 0.5 * row.x[1] + 1e-9 * row.x[3];
        }
        let model = fit_all(&rows).expect("a fit");
        // 0 and 8 are the same; of 0, 1 and 7 any two give the third.
        let used: Vec<usize> = model.used().collect();
        assert_eq!(used.len(), 4, "{used:?}");
        for i in [0, 1, 7, 8] {
            assert!(used.contains(&i) || why(&model, i) == Some(Dropped::Collinear));
        }
        assert!(model.coef.iter().all(|c| c.abs() < 3.0), "{model:?}");
        assert!((model.predict(&rows[9].x) - rows[9].y).abs() < 0.2);
    }

    #[test]
    fn of_two_that_tell_the_same_the_cheap_one_is_chosen() {
        let cheap = features::index("seen").expect("a feature");
        let dear = features::index("age_fork").expect("a feature");
        let mut rows = rows(2_000, |x| x[KIND] + 0.1 * x[cheap]);
        for (i, row) in rows.iter_mut().enumerate() {
            row.x[dear] = row.x[cheap];
            row.x[cheap] += 0.001 * noise(31, i);
            row.y += 4.0 * noise(77, i);
        }
        let model = fit_all(&rows).expect("a fit");
        assert!(
            model.coef[cheap] != 0.0 && model.coef[dear] == 0.0,
            "{model:?}"
        );
    }

    #[test]
    fn no_more_terms_are_chosen_than_are_paid_for() {
        let rows = rows(3_000, |x| x.iter().sum::<f64>() / 16.0);
        let model = fit_all(&rows).expect("a fit");
        let used = model.used().count();
        assert!((TERMS_MAX..=TERMS_MAX + 1).contains(&used), "{used}");
    }

    #[test]
    fn a_constant_target_is_its_own_prediction() {
        let rows: Vec<Row> = (0..500).map(|i| row(i, [3.0; NR_FEATURES], 17.0)).collect();
        let model = fit_all(&rows).expect("a fit");
        assert!((model.predict(&[3.0; NR_FEATURES]) - 17.0).abs() < 0.2);
    }

    #[test]
    fn too_few_rows_are_refused() {
        let rows = rows(ROWS_MIN - 1, |x| x[0]);
        let found = ROWS_MIN - 1;
        assert_eq!(fit_all(&rows), Err(FitError::TooFew { found }));
    }
}
