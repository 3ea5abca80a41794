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

use crate::learn::least_squares::{FitError, least_squares};
use crate::learn::moments::{BLOCK, Column, Sums};
use crate::learn::row::Row;
use crate::model::{LOG2_MAX, Linear};

/// Steps at most; the gain is nearly all in the first ones.
const STEPS: usize = 5;

/// A step that lowers the error by less than this share was the last.
const ENOUGH: f64 = 0.002;

/// Residuals below this count as this, octaves: a row that is met exactly must not weigh infinitely.
const FLOOR: f64 = 0.1;

/// A column that the reweighting leaves with less than this share of its variance is left as it was.
const PIVOT_MIN: f64 = 1e-6;

/// `model`, fitted on `rows` by least squares, with the coefficients that lower the mean |error| on them. The same
/// model when that is not possible.
///
/// # Errors
/// When linfa cannot solve a step.
pub fn refine(rows: &[&Row], model: Linear) -> Result<Linear, FitError> {
    let columns: Vec<usize> = model.used().collect();
    let table = Table::of(rows, &columns);
    let mut best = table.plane(&model);
    let (mut residuals, mut best_error) = table.residuals(&best);
    let mut improved = false;
    for _ in 0..STEPS {
        let Some(next) = table.step(&residuals, &best)? else {
            break;
        };
        let (next_residuals, error) = table.residuals(&next);
        if error.is_nan() || error >= best_error {
            break;
        }
        let gain = best_error - error;
        (best, residuals, best_error, improved) = (next, next_residuals, error, true);
        if gain < ENOUGH * best_error {
            break;
        }
    }
    if !improved {
        return Ok(model);
    }
    Ok(table.linear(&best, model))
}

/// The columns that take part, and the target behind them, about the first row: sums of products about zero would lose
/// digits.
struct Table {
    columns: Vec<usize>,
    origin: Vec<f64>,
    blocks: Vec<Block>,
    /// Of all weights.
    total: f64,
}

struct Block {
    values: Vec<Column>,
    /// 0 where there is no row.
    weights: Column,
}

/// A model in the table's coordinates.
struct Plane {
    /// What it predicts for the first row.
    at_origin: f64,
    coef: Vec<f64>,
}

impl Table {
    fn of(rows: &[&Row], columns: &[usize]) -> Self {
        let k = columns.len();
        let value = |r: &Row, i: usize| if i < k { r.x[columns[i]] } else { r.y };
        let origin: Vec<f64> = (0..=k).map(|i| value(rows[0], i)).collect();
        let block = |rows: &[&Row]| {
            let mut block = Block {
                values: vec![[0.0; BLOCK]; k + 1],
                weights: [0.0; BLOCK],
            };
            for (r, row) in rows.iter().enumerate() {
                block.weights[r] = row.weight;
                for (i, column) in block.values.iter_mut().enumerate() {
                    column[r] = value(row, i) - origin[i];
                }
            }
            block
        };
        Self {
            blocks: rows.chunks(BLOCK).map(block).collect(),
            columns: columns.to_vec(),
            origin,
            total: rows.iter().map(|r| r.weight).sum(),
        }
    }

    fn plane(&self, model: &Linear) -> Plane {
        let coef: Vec<f64> = self.columns.iter().map(|&c| model.coef[c]).collect();
        let there: f64 = coef.iter().zip(&self.origin).map(|(c, m)| c * m).sum();
        Plane {
            at_origin: model.intercept + there,
            coef,
        }
    }

    /// `model` with the plane's coefficients.
    fn linear(&self, plane: &Plane, mut model: Linear) -> Linear {
        model.intercept = plane.at_origin;
        for ((&column, &c), m) in self.columns.iter().zip(&plane.coef).zip(&self.origin) {
            model.coef[column] = c;
            model.intercept -= c * m;
        }
        model
    }

    /// log2(burst) less its prediction, limited as the kernel limits it; and the weighted mean of their size, octaves.
    fn residuals(&self, plane: &Plane) -> (Vec<Column>, f64) {
        let k = self.columns.len();
        let mut sum = 0.0;
        let residuals = self.blocks.iter().map(|block| {
            let mut residuals = [plane.at_origin; BLOCK];
            for (c, column) in plane.coef.iter().zip(&block.values) {
                for (prediction, x) in residuals.iter_mut().zip(column) {
                    *prediction += c * x;
                }
            }
            for (r, y) in residuals.iter_mut().zip(&block.values[k]) {
                *r = y + self.origin[k] - r.clamp(0.0, LOG2_MAX);
            }
            for (r, w) in residuals.iter().zip(&block.weights) {
                sum += w * r.abs();
            }
            residuals
        });
        let residuals = residuals.collect();
        (residuals, sum / self.total)
    }

    /// One reweighted least-squares problem. None when it is degenerate.
    fn step(&self, residuals: &[Column], plane: &Plane) -> Result<Option<Plane>, FitError> {
        let k = self.columns.len();
        let mut sums = Sums::new(k + 1);
        let mut total = 0.0;
        for (block, residuals) in self.blocks.iter().zip(residuals) {
            let weights: Column =
                std::array::from_fn(|r| block.weights[r] / residuals[r].abs().max(FLOOR));
            total += weights.iter().sum::<f64>();
            sums.add(&block.values, &weights);
        }
        // About the means by these weights.
        let mean: Vec<f64> = sums.first.iter().map(|s| s / total).collect();
        let moment = |i: usize, j: usize| sums.second[i][j] / total - mean[i] * mean[j];

        // Cholesky of the correlation matrix, the target's line last: L and z of fit.rs.
        let std: Vec<f64> = (0..k).map(|i| moment(i, i).sqrt()).collect();
        if std.iter().any(|s| s.is_nan() || *s <= f64::MIN_POSITIVE) {
            return Ok(None);
        }
        let mut factor: Vec<Vec<f64>> = Vec::with_capacity(k);
        for i in 0..k {
            let mut line: Vec<f64> = Vec::with_capacity(i + 1);
            for j in 0..i {
                let known: f64 = line.iter().zip(&factor[j]).map(|(a, b)| a * b).sum();
                line.push((moment(i, j) / (std[i] * std[j]) - known) / factor[j][j]);
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
            z.push((moment(k, i) / std[i] - known) / factor[i][i]);
        }

        let beta = least_squares(&factor, &z)?;
        let mut next = Plane {
            at_origin: self.origin[k] + mean[k],
            coef: plane.coef.clone(),
        };
        for (i, b) in beta.into_iter().enumerate() {
            next.coef[i] = b / std[i];
            next.at_origin -= next.coef[i] * mean[i];
        }
        let sound = next.at_origin.is_finite() && next.coef.iter().all(|c| c.is_finite());
        Ok(sound.then_some(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::NR_FEATURES;
    use crate::learn::fit::fit;
    use crate::learn::gate::mean_error;

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
        assert!(mean_error(&rows, |r| model.predict(&r.x)) < 1.4);
    }

    #[test]
    fn refining_never_makes_the_error_on_its_rows_larger() {
        let rows = with_outliers();
        for n in [250, 700, 2_000] {
            let rows: Vec<&Row> = rows.iter().take(n).collect();
            let mut skewed = fit(&rows).expect("a fit");
            skewed.intercept += 1.0;
            let error = |m: &Linear| mean_error(&rows, |r| m.predict(&r.x));
            let before = error(&skewed);
            let refined = refine(&rows, skewed).expect("solvable");
            assert!(error(&refined) < before);
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
