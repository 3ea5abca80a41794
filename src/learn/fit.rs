//! Fitting: weighted ridge regression of log2(burst), through linfa's plain least squares.
//!
//! linfa-linear has neither weights nor ridge, and on nearly collinear columns returns huge coefficients without an
//! error. So: columns are standardised; constant and collinear ones are dropped, and so are those that explain next to
//! nothing; weights enter with the moments; and the ridge penalty enters as √λ rows below the data (Hoerl and Kennard's
//! augmentation), which turns weighted ridge into plain least squares. linfa copies and factorises what it is given, so
//! it is given the window condensed into its Cholesky factor, which has the same solution. What comes out is then
//! refined (robust): least squares listens to outliers, and what counts is the mean |log2 error|.

use crate::kernel::bpf::{MODEL_TERMS, NR_FEATURES};
use crate::kernel::features::{self, Features};
use crate::learn::least_squares::{FitError, MIN_ROWS, least_squares};
use crate::learn::moments::{BLOCK, Sums};
use crate::learn::robust;
use crate::learn::row::Row;
use crate::model::{Chosen, Dropped, Linear};

/// A model has at most one column for so many rows: more would fit the noise of few samples.
const ROWS_PER_COLUMN: usize = 25;

/// A column with a standard deviation below this, in octaves, is constant.
const CONSTANT_STD: f64 = 1e-3;

/// A column of which less than this share of variance is left beside the columns in use is collinear.
const COLLINEAR_SHARE: f64 = 1e-3;

/// A column that explains less than this share of the target's variance, beside the columns in use, is useless.
const USEFUL_SHARE: f64 = 2e-4;

/// What the regression needs of the rows: weighted means, and second moments about them. One pass over the window;
/// everything after is the size of the features.
struct Moments {
    mean: Features,
    mean_y: f64,
    /// Covariance of columns, lower triangle.
    xx: [[f64; NR_FEATURES]; NR_FEATURES],
    /// Covariance of column and target.
    xy: Features,
    /// Variance of the target.
    yy: f64,
}

impl Moments {
    fn of(rows: &[&Row]) -> Result<Self, FitError> {
        let total: f64 = rows.iter().map(|r| r.weight).sum();
        if total <= 0.0 {
            return Err(FitError::NoWeight);
        }
        // About the first row: sums of products about zero would lose digits. The target is the last column.
        let origin = rows[0];
        let mut columns = vec![[0.0; BLOCK]; NR_FEATURES + 1];
        let mut sums = Sums::new(columns.len());
        for block in rows.chunks(BLOCK) {
            let mut shares = [0.0; BLOCK];
            for (r, row) in block.iter().enumerate() {
                shares[r] = row.weight / total;
                for (column, (x, x0)) in columns.iter_mut().zip(row.x.iter().zip(&origin.x)) {
                    column[r] = x - x0;
                }
                columns[NR_FEATURES][r] = row.y - origin.y;
            }
            sums.add(&columns, &shares);
        }
        let off = &sums.first;
        let moment = |i: usize, j: usize| sums.second[i][j] - off[i] * off[j];
        let mut moments = Self {
            mean: std::array::from_fn(|i| origin.x[i] + off[i]),
            mean_y: origin.y + off[NR_FEATURES],
            xx: [[0.0; NR_FEATURES]; NR_FEATURES],
            xy: std::array::from_fn(|i| moment(NR_FEATURES, i)),
            // What rounding leaves of nothing may be negative.
            yy: moment(NR_FEATURES, NR_FEATURES).max(0.0),
        };
        for i in 0..NR_FEATURES {
            for j in 0..i {
                moments.xx[i][j] = moment(i, j);
            }
            moments.xx[i][i] = moment(i, i).max(0.0);
        }
        Ok(moments)
    }

    fn std(&self, i: usize) -> f64 {
        self.xx[i][i].sqrt()
    }

    fn correlation(&self, i: usize, j: usize) -> f64 {
        self.xx[i.max(j)][i.min(j)] / (self.std(i) * self.std(j))
    }
}

/// Fit a model on `rows`. Its margins and sigma are left 0: they belong to samples that the fit has not seen.
///
/// # Errors
/// See [`FitError`]; a constant, collinear or useless column is no error, it is dropped and named in
/// [`Linear::dropped`].
pub fn fit(rows: &[&Row]) -> Result<Linear, FitError> {
    check(rows)?;
    let moments = Moments::of(rows)?;
    let columns = choose_columns(&moments, rows.len());
    let beta = solve(&moments, &columns)?;

    let mut coef = [0.0; NR_FEATURES];
    let mut intercept = moments.mean_y;
    for (&i, b) in columns.kept.iter().zip(beta) {
        coef[i] = b / moments.std(i);
        if !coef[i].is_finite() {
            return Err(FitError::Coefficient {
                feature: features::name(i),
                value: coef[i],
            });
        }
        intercept -= coef[i] * moments.mean[i];
    }
    let linear = Linear {
        intercept,
        coef,
        sigma: 0.0,
        margin: 0.0,
        long_margin: 0.0,
        samples: rows.len(),
        chosen: columns.chosen,
        dropped: columns.dropped,
    };
    robust::refine(rows, linear)
}

fn check(rows: &[&Row]) -> Result<(), FitError> {
    if rows.len() < MIN_ROWS {
        return Err(FitError::TooFew { found: rows.len() });
    }
    for row in rows {
        // A sum is finite only if all of it is: the quick look.
        if (row.x.iter().sum::<f64>() + row.y + row.weight).is_finite() {
            continue;
        }
        let numbers = row.x.into_iter().chain([row.y, row.weight]);
        if let Some((i, value)) = numbers.enumerate().find(|(_, v)| !v.is_finite()) {
            let what = match i.checked_sub(NR_FEATURES) {
                None => features::name(i),
                Some(0) => "burst",
                Some(_) => "weight",
            };
            return Err(FitError::NotFinite { what, value });
        }
    }
    Ok(())
}

/// The columns that a fit uses.
struct Columns {
    /// In the order in which they were chosen, the most telling first.
    kept: Vec<usize>,
    /// Lower Cholesky factor of their correlation matrix, by lines.
    factor: Vec<Vec<f64>>,
    /// The target's covariance with them, each freed of those before it: L⁻¹ X'y.
    z: Vec<f64>,
    /// What is in `kept`, with what each explains.
    chosen: Vec<Chosen>,
    dropped: Vec<(usize, Dropped)>,
}

/// Forward selection: again and again the column that explains most of what is left of the target, beside those chosen
/// before (orthogonal least squares; Chen, Billings and Luo 1989), by one step of a pivoted Cholesky factorisation each.
fn choose_columns(moments: &Moments, rows: usize) -> Columns {
    let mut dropped = vec![];
    let mut open: Vec<Candidate> = vec![];
    for i in 0..NR_FEATURES {
        if moments.std(i) < CONSTANT_STD {
            dropped.push((i, Dropped::Constant));
        } else {
            open.push(Candidate {
                column: i,
                line: vec![],
                left: 1.0,
                with_y: moments.xy[i] / moments.std(i),
            });
        }
    }

    let mut columns = Columns {
        kept: vec![],
        factor: vec![],
        z: vec![],
        chosen: vec![],
        dropped: vec![],
    };
    let most = MODEL_TERMS.min(rows / ROWS_PER_COLUMN);
    while columns.kept.len() < most {
        let best = open
            .iter()
            .enumerate()
            .filter(|(_, c)| c.left >= COLLINEAR_SHARE)
            .max_by(|a, b| a.1.gain().total_cmp(&b.1.gain()));
        let Some((at, best)) = best else { break };
        if best.gain() < USEFUL_SHARE * moments.yy {
            break;
        }
        let best = open.swap_remove(at);
        let pivot = best.left.sqrt();
        let z = best.with_y / pivot;
        for c in &mut open {
            let known: f64 = c.line.iter().zip(&best.line).map(|(a, b)| a * b).sum();
            let l = (moments.correlation(c.column, best.column) - known) / pivot;
            c.line.push(l);
            c.left -= l * l;
            c.with_y -= l * z;
        }
        columns.kept.push(best.column);
        columns.chosen.push(Chosen {
            feature: best.column,
            explains: z * z / moments.yy,
        });
        columns
            .factor
            .push(best.line.into_iter().chain([pivot]).collect());
        columns.z.push(z);
    }

    dropped.extend(open.iter().map(|c| {
        let why = if c.left < COLLINEAR_SHARE {
            Dropped::Collinear
        } else {
            Dropped::Useless
        };
        (c.column, why)
    }));
    dropped.sort_unstable();
    columns.dropped = dropped;
    columns
}

/// A column that may still be chosen.
struct Candidate {
    column: usize,
    /// Its line of the Cholesky factor so far.
    line: Vec<f64>,
    /// Share of its variance that the chosen columns leave.
    left: f64,
    /// Covariance with the target, beside the chosen columns.
    with_y: f64,
}

impl Candidate {
    /// Variance of the target that choosing it would explain.
    fn gain(&self) -> f64 {
        self.with_y * self.with_y / self.left.max(f64::MIN_POSITIVE)
    }
}

/// Coefficients for the standardised columns, target centred.
///
/// With the Cholesky factor L of the correlation matrix, and z = L⁻¹ X'y, the least squares of L'β against z has the
/// solution of the whole window's: linfa gets a problem of as many rows as columns, and √λ rows below for the ridge.
fn solve(moments: &Moments, columns: &Columns) -> Result<Vec<f64>, FitError> {
    if moments.yy == 0.0 {
        return Ok(vec![0.0; columns.kept.len()]);
    }
    least_squares(&columns.factor, &columns.z)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Repeatable noise in [-0.5, 0.5).
    fn noise(seed: usize, i: usize) -> f64 {
        let mut z = ((seed as u64) << 32 | i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z ^= z >> 27;
        (z >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }

    fn rows(n: usize, y: impl Fn(&Features) -> f64) -> Vec<Row> {
        (0..n)
            .map(|i| {
                let x = std::array::from_fn(|j| 15.0 + 4.0 * noise(j, i));
                Row {
                    x,
                    y: y(&x),
                    avg: x[1],
                    weight: 1.0,
                    class: 0,
                    end_ns: i as u64,
                }
            })
            .collect()
    }

    fn fit_all(rows: &[Row]) -> Result<Linear, FitError> {
        fit(&rows.iter().collect::<Vec<_>>())
    }

    fn why(model: &Linear, column: usize) -> Option<Dropped> {
        let found = model.dropped.iter().find(|(i, _)| *i == column);
        found.map(|&(_, why)| why)
    }

    #[test]
    fn an_exact_plane_is_recovered_and_nothing_else_is_used() {
        let model = fit_all(&rows(1_000, |x| 3.0 + 0.5 * x[0] - 0.25 * x[4])).expect("a plane");
        assert!((model.coef[0] - 0.5).abs() < 1e-3, "{model:?}");
        assert!((model.coef[4] + 0.25).abs() < 1e-3, "{model:?}");
        assert!((model.intercept - 3.0).abs() < 0.05, "{model:?}");
        assert_eq!(model.used().collect::<Vec<_>>(), [0, 4]);
        assert_eq!(why(&model, 7), Some(Dropped::Useless));
    }

    #[test]
    fn the_order_of_choice_is_told_with_what_each_column_explains() {
        let model = fit_all(&rows(1_000, |x| 0.5 * x[4] - 2.0 * x[9])).expect("a plane");
        let order: Vec<usize> = model.chosen.iter().map(|c| c.feature).collect();
        assert_eq!(order, [9, 4]);
        // Columns of the same spread, nearly independent: 4 / 4.25 and 0.25 / 4.25 of the variance.
        assert!((model.chosen[0].explains - 0.94).abs() < 0.03, "{model:?}");
        let all: f64 = model.chosen.iter().map(|c| c.explains).sum();
        assert!((all - 1.0).abs() < 1e-6, "{model:?}");
    }

    #[test]
    fn constant_columns_are_dropped_and_named() {
        let mut rows = rows(1_000, |x| x[0]);
        rows.iter_mut().for_each(|r| r.x[11] = 6.64);
        let model = fit_all(&rows).expect("a fit");
        assert_eq!(why(&model, 11), Some(Dropped::Constant));
        assert_eq!(model.coef[11], 0.0);
    }

    #[test]
    fn duplicated_and_summed_columns_are_dropped_and_coefficients_stay_small() {
        let mut rows = rows(1_000, |x| x[0] + 0.3 * x[1] + 0.1 * x[2]);
        for row in &mut rows {
            row.x[5] = row.x[0];
            row.x[7] = 0.5 * row.x[0] + 0.5 * row.x[1] + 1e-9 * row.x[3];
        }
        let model = fit_all(&rows).expect("a fit");
        // 0 and 5 are the same; of 0, 1 and 7 any two give the third.
        let used: Vec<usize> = model.used().collect();
        assert_eq!(used.len(), 3, "{used:?}");
        for i in [0, 1, 5, 7] {
            assert!(used.contains(&i) || why(&model, i) == Some(Dropped::Collinear));
        }
        assert!(model.coef.iter().all(|c| c.abs() < 3.0), "{model:?}");
        assert!((model.predict(&rows[9].x) - rows[9].y).abs() < 0.01);
    }

    #[test]
    fn weights_count_as_repetitions() {
        let mut weighted = rows(600, |x| 0.5 * x[0]);
        for (i, row) in weighted.iter_mut().enumerate() {
            row.y += noise(99, i);
            row.weight = if i % 3 == 0 { 3.0 } else { 1.0 };
        }
        let repeated: Vec<Row> = weighted
            .iter()
            .flat_map(|r| std::iter::repeat_n(Row { weight: 1.0, ..*r }, r.weight as usize))
            .collect();
        let (a, b) = (
            fit_all(&weighted).expect("weighted"),
            fit_all(&repeated).expect("repeated"),
        );
        for (a, b) in a.coef.iter().zip(b.coef) {
            assert!((a - b).abs() < 1e-9);
        }
    }

    #[test]
    fn no_more_terms_are_chosen_than_the_kernel_takes() {
        let rows = rows(3_000, |x| x.iter().sum());
        let model = fit_all(&rows).expect("a fit");
        assert_eq!(model.used().count(), MODEL_TERMS);
    }

    #[test]
    fn only_constant_columns_give_the_mean() {
        let rows: Vec<Row> = (0..300)
            .map(|i| Row {
                x: [1.0; NR_FEATURES],
                y: if i % 2 == 0 { 10.0 } else { 20.0 },
                avg: 0.0,
                weight: 1.0,
                class: 0,
                end_ns: i as u64,
            })
            .collect();
        let model = fit_all(&rows).expect("a fit");
        assert!((model.predict(&[1.0; NR_FEATURES]) - 15.0).abs() < 1e-9);
        assert_eq!(model.dropped.len(), NR_FEATURES);
    }

    #[test]
    fn a_constant_target_is_its_own_prediction() {
        let model = fit_all(&rows(500, |_| 17.0)).expect("a fit");
        assert!((model.predict(&[3.0; NR_FEATURES]) - 17.0).abs() < 1e-9);
    }

    #[test]
    fn too_few_and_unusable_samples_are_refused() {
        assert_eq!(fit_all(&[]), Err(FitError::TooFew { found: 0 }));
        for bad in [f64::NAN, f64::INFINITY] {
            let mut broken = rows(300, |x| x[0]);
            broken[17].x[features::index("last_sleep").expect("a feature")] = bad;
            assert!(matches!(
                fit_all(&broken),
                Err(FitError::NotFinite {
                    what: "last_sleep",
                    ..
                })
            ));
            let mut broken = rows(300, |x| x[0]);
            broken[17].y = bad;
            assert!(matches!(
                fit_all(&broken),
                Err(FitError::NotFinite { what: "burst", .. })
            ));
        }
        let mut weightless = rows(300, |x| x[0]);
        weightless.iter_mut().for_each(|r| r.weight = 0.0);
        assert_eq!(fit_all(&weightless), Err(FitError::NoWeight));
    }
}
