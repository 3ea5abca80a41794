//! Robust refinement: from least squares to least absolute errors.
//!
//! Problem: bursts have outliers of many octaves (a fault, a garbage collection, an exec), and least squares bends the
//! whole plane towards them, while what is asked of a model is its mean |log2 error|.
//! How: iteratively reweighted least squares. A row's weight is divided by its own |residual|, so that the weighted
//! squares add up to the absolute errors (Schlossmacher 1973; the floor on the residual makes it Huber's loss near 0).
//! Only the columns that were chosen take part, so that an iteration costs little beside the fit itself. Each step is a
//! plain least-squares problem, which linfa solves as in the fit.
//! Possible limitation: the plane then goes through conditional medians; the margins, which are quantiles of the
//! residuals, do not depend on that.

use crate::fit::{FitError, Row, least_squares};
use crate::model::Linear;

/// Steps at most; the gain is nearly all in the first ones.
const STEPS: usize = 5;

/// A step that lowers the error by less than this share was the last.
const ENOUGH: f64 = 0.002;

/// Residuals below this count as this, octaves: a row that is met exactly must not weigh infinitely.
const FLOOR: f64 = 0.1;

/// A column that the reweighting leaves with less than this share of its variance is left as it was.
const PIVOT_MIN: f64 = 1e-6;

/// Weighted mean of |log2(burst) - prediction|, octaves.
fn mean_error(rows: &[&Row], model: &Linear) -> f64 {
    let total: f64 = rows.iter().map(|r| r.weight).sum();
    let sum: f64 = rows
        .iter()
        .map(|r| r.weight * (r.y - model.predict(&r.x)).abs())
        .sum();
    sum / total
}

/// `model`, fitted on `rows` by least squares, with the coefficients that lower the mean |error| on them. The same
/// model when that is not possible.
///
/// # Errors
/// When linfa cannot solve a step.
pub fn refine(rows: &[&Row], model: Linear) -> Result<Linear, FitError> {
    let columns: Vec<usize> = model.used().collect();
    let mut best_error = mean_error(rows, &model);
    let mut best = model;
    for _ in 0..STEPS {
        let Some(next) = step(rows, &columns, &best)? else {
            break;
        };
        let error = mean_error(rows, &next);
        // NaN is not less.
        if !(error < best_error) {
            break;
        }
        let gain = best_error - error;
        (best, best_error) = (next, error);
        if gain < ENOUGH * best_error {
            break;
        }
    }
    Ok(best)
}

/// One reweighted least-squares problem. None when it is degenerate.
fn step(rows: &[&Row], columns: &[usize], model: &Linear) -> Result<Option<Linear>, FitError> {
    let k = columns.len();
    let weight = |r: &Row| r.weight / (r.y - model.predict(&r.x)).abs().max(FLOOR);
    let total: f64 = rows.iter().map(|r| weight(r)).sum();

    // Of the columns, and of the target behind them.
    let value = |r: &Row, i: usize| if i < k { r.x[columns[i]] } else { r.y };
    let mut mean = vec![0.0; k + 1];
    for row in rows {
        let share = weight(row) / total;
        for (i, m) in mean.iter_mut().enumerate() {
            *m += share * value(row, i);
        }
    }
    let mut moments = vec![vec![0.0; k + 1]; k + 1];
    let mut centred = vec![0.0; k + 1];
    for row in rows {
        let share = weight(row) / total;
        for (i, c) in centred.iter_mut().enumerate() {
            *c = value(row, i) - mean[i];
        }
        for (i, line) in moments.iter_mut().enumerate() {
            let x = share * centred[i];
            for (sum, other) in line.iter_mut().zip(&centred).take(i + 1) {
                *sum += x * other;
            }
        }
    }

    // Cholesky of the correlation matrix, the target's line last: L and z of fit.rs.
    let std: Vec<f64> = (0..k).map(|i| moments[i][i].sqrt()).collect();
    if std.iter().any(|s| s.is_nan() || *s <= f64::MIN_POSITIVE) {
        return Ok(None);
    }
    let mut factor: Vec<Vec<f64>> = Vec::with_capacity(k);
    for i in 0..k {
        let mut line: Vec<f64> = Vec::with_capacity(i + 1);
        for j in 0..i {
            let known: f64 = line.iter().zip(&factor[j]).map(|(a, b)| a * b).sum();
            line.push((moments[i][j] / (std[i] * std[j]) - known) / factor[j][j]);
        }
        let left = 1.0 - line.iter().map(|l| l * l).sum::<f64>();
        if left < PIVOT_MIN {
            return Ok(None);
        }
        line.push(left.sqrt());
        factor.push(line);
    }
    let mut z: Vec<f64> = Vec::with_capacity(k);
    for i in 0..k {
        let known: f64 = z.iter().zip(&factor[i]).map(|(a, b)| a * b).sum();
        z.push((moments[k][i] / std[i] - known) / factor[i][i]);
    }

    let beta = least_squares(&factor, &z)?;
    let mut next = model.clone();
    next.intercept = mean[k];
    for ((&column, b), (s, m)) in columns.iter().zip(beta).zip(std.iter().zip(&mean)) {
        next.coef[column] = b / s;
        next.intercept -= next.coef[column] * m;
    }
    let sound = next.intercept.is_finite() && next.coef.iter().all(|c| c.is_finite());
    Ok(sound.then_some(next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::NR_FEATURES;
    use crate::fit::fit;

    /// A plane with a fifth of the rows six octaves above it.
    fn with_outliers() -> Vec<Row> {
        (0..2_000usize)
            .map(|i| {
                let mut x = [1.0; NR_FEATURES];
                x[0] = 10.0 + ((i * 7919) % 1000) as f64 / 100.0;
                x[3] = 10.0 + ((i * 104_729) % 1000) as f64 / 100.0;
                let noise = ((i * 31) % 100) as f64 / 500.0;
                let outlier = if i % 5 == 0 { 6.0 } else { 0.0 };
                Row {
                    x,
                    y: 2.0 + 0.5 * x[0] + 0.25 * x[3] + noise + outlier,
                    avg: 15.0,
                    weight: 1.0 + (i % 3) as f64,
                    class: 0,
                    end_ns: i as u64,
                }
            })
            .collect()
    }

    #[test]
    fn outliers_no_longer_lift_the_plane() {
        let rows = with_outliers();
        let rows: Vec<&Row> = rows.iter().collect();
        let model = fit(&rows).expect("a fit");
        let at = |m: &Linear| {
            let mut x = [1.0; NR_FEATURES];
            (x[0], x[3]) = (15.0, 15.0);
            m.predict(&x)
        };
        // The plane is at 13.25 plus the noise's median of 0.1; the mean of the outliers would add 1.2.
        assert!((at(&model) - 13.35).abs() < 0.1, "{}", at(&model));
        assert!(mean_error(&rows, &model) < 1.4);
    }

    #[test]
    fn refining_never_makes_the_error_on_its_rows_larger() {
        let rows = with_outliers();
        for n in [250, 700, 2_000] {
            let rows: Vec<&Row> = rows.iter().take(n).collect();
            let mut skewed = fit(&rows).expect("a fit");
            skewed.intercept += 1.0;
            let before = mean_error(&rows, &skewed);
            let refined = refine(&rows, skewed).expect("solvable");
            assert!(mean_error(&rows, &refined) < before);
        }
    }

    #[test]
    fn a_model_without_columns_becomes_the_median() {
        let rows: Vec<Row> = (0..1_000)
            .map(|i| Row {
                x: [1.0; NR_FEATURES],
                y: if i % 10 == 0 { 30.0 } else { 16.0 },
                avg: 0.0,
                weight: 1.0,
                class: 0,
                end_ns: i as u64,
            })
            .collect();
        let rows: Vec<&Row> = rows.iter().collect();
        let model = fit(&rows).expect("a fit");
        assert!((model.predict(&[1.0; NR_FEATURES]) - 16.0).abs() < 0.3);
    }
}
