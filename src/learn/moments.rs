//! What a fit needs of a stream of samples, and all that is kept of them: weighted means and second moments about the
//! means, which forget.
//!
//! One pass, a row at a time: the mean moves by its share of the row's distance from it, and the sums of products grow by
//! products of distances (Welford 1962; with weights, West 1979). What is added is positive semidefinite, so the sums
//! stay that, whatever comes. To forget is to multiply all sums by a factor below 1; here new rows are weighted up
//! instead, and all is scaled back now and then, so that a row costs one update and forgetting nothing.

use crate::kernel::bpf::NR_FEATURES;
use crate::kernel::bpf::intf::scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST;
use crate::learn::row::Row;

/// The features, and behind them what the kind's average has missed by.
const COLUMNS: usize = NR_FEATURES + 1;
const TARGET: usize = NR_FEATURES;

/// Sums are scaled back when a new row would count for so much.
const SCALE_MAX: f64 = (1u64 << 32) as f64;

/// See the module. Columns are the features; the target is log2(burst) less the kind's average, in octaves.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Rows that were added, whatever is left of them.
    rows: usize,
    /// What a weight of 1 counts for in the sums now, at least 1.
    scale: f64,
    /// Sum of the weights, and of their squares, as scaled.
    weight: f64,
    weight_squared: f64,
    mean: [f64; COLUMNS],
    /// Sums of weighted products of the distances from the mean, as scaled: lower triangle by lines.
    products: Vec<f64>,
}

impl Default for Moments {
    fn default() -> Self {
        Self {
            rows: 0,
            scale: 1.0,
            weight: 0.0,
            weight_squared: 0.0,
            mean: [0.0; COLUMNS],
            products: vec![0.0; COLUMNS * (COLUMNS + 1) / 2],
        }
    }
}

impl Moments {
    /// Take a row in, which counts for `weight` (above 0) bursts. One that is not all of finite numbers is left out.
    pub fn add(&mut self, row: &Row, weight: f64) {
        let target = row.y - row.avg;
        // A sum is finite only if all of it is.
        if !(row.x.iter().sum::<f64>() + target + weight).is_finite() || weight <= 0.0 {
            return;
        }
        let weight = weight * self.scale;
        let total = self.weight + weight;
        let share = weight / total;
        let mut off = [0.0; COLUMNS];
        for (off, (value, mean)) in off
            .iter_mut()
            .zip(row.x.iter().chain([&target]).zip(&mut self.mean))
        {
            *off = value - *mean;
            *mean += share * *off;
        }
        // Of a row's distance from the old mean, and that from the new one, the product of lengths.
        let count = weight * (self.weight / total);
        let mut lines = &mut self.products[..];
        for i in 0..COLUMNS {
            let (line, rest) = lines.split_at_mut(i + 1);
            lines = rest;
            let counted = count * off[i];
            // Columns that never change, flags above all, are common.
            if counted != 0.0 {
                for (sum, off) in line.iter_mut().zip(&off) {
                    *sum += counted * off;
                }
            }
        }
        self.weight = total;
        self.weight_squared += weight * weight;
        self.rows += 1;
    }

    /// Leave of what is known the share `keep`, above 0 and at most 1.
    pub fn forget(&mut self, keep: f64) {
        self.scale /= keep;
        if self.scale > SCALE_MAX {
            let back = 1.0 / self.scale;
            self.weight *= back;
            self.weight_squared *= back * back;
            self.products.iter_mut().for_each(|p| *p *= back);
            self.scale = 1.0;
        }
    }

    /// Rows that were added since the beginning.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows of equal weight that would tell as much: (Σw)² / Σw² (Kish 1965). 0 of none.
    pub fn effective_rows(&self) -> f64 {
        if self.weight_squared > 0.0 {
            self.weight * self.weight / self.weight_squared
        } else {
            0.0
        }
    }

    /// Mean of feature `i`.
    pub fn mean(&self, i: usize) -> f64 {
        self.mean[i]
    }

    /// Mean of what the kind's average missed by, octaves: above 0 where bursts were longer.
    pub fn mean_target(&self) -> f64 {
        self.mean[TARGET]
    }

    /// Covariance of the features `i` and `j`.
    pub fn covariance(&self, i: usize, j: usize) -> f64 {
        self.product(i, j) / self.weight
    }

    /// Standard deviation of feature `i`.
    pub fn std(&self, i: usize) -> f64 {
        self.covariance(i, i).max(0.0).sqrt()
    }

    /// Covariance of feature `i` with what the kind's average missed by.
    pub fn with_target(&self, i: usize) -> f64 {
        self.product(i, TARGET) / self.weight
    }

    /// Variance of what the kind's average missed by, octaves².
    pub fn variance_missed(&self) -> f64 {
        (self.product(TARGET, TARGET) / self.weight).max(0.0)
    }

    /// Variance of log2(burst), octaves².
    pub fn variance(&self) -> f64 {
        let kind = KIND_BURST as usize;
        let both =
            self.variance_missed() + 2.0 * self.with_target(kind) + self.covariance(kind, kind);
        both.max(0.0)
    }

    fn product(&self, i: usize, j: usize) -> f64 {
        let (line, column) = (i.max(j), i.min(j));
        self.products[line * (line + 1) / 2 + column]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::row::tests::{KIND, row, rows};

    fn of(rows: &[Row]) -> Moments {
        let mut moments = Moments::default();
        rows.iter().for_each(|r| moments.add(r, r.weight));
        moments
    }

    #[test]
    fn the_sums_are_those_of_two_passes() {
        let mut rows = rows(500, |x| x[KIND] + 0.5 * x[3]);
        for (i, row) in rows.iter_mut().enumerate() {
            row.weight = 1.0 + (i % 5) as f64;
        }
        let moments = of(&rows);
        let total: f64 = rows.iter().map(|r| r.weight).sum();
        let mean =
            |f: &dyn Fn(&Row) -> f64| rows.iter().map(|r| r.weight * f(r)).sum::<f64>() / total;
        let missed = |r: &Row| r.y - r.avg;
        let (mean_3, mean_7) = (mean(&|r| r.x[3]), mean(&|r| r.x[7]));
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        close(moments.mean(3), mean_3);
        close(moments.mean_target(), mean(&missed));
        let covariance = mean(&|r| (r.x[3] - mean_3) * (r.x[7] - mean_7));
        close(moments.covariance(3, 7), covariance);
        close(moments.covariance(7, 3), covariance);
        let target = mean(&missed);
        close(
            moments.with_target(3),
            mean(&|r| (r.x[3] - mean_3) * (missed(r) - target)),
        );
        close(
            moments.variance_missed(),
            mean(&|r| (missed(r) - target).powi(2)),
        );
        let y = mean(&|r| r.y);
        close(moments.variance(), mean(&|r| (r.y - y).powi(2)));
        let squares: f64 = rows.iter().map(|r| r.weight * r.weight).sum();
        close(moments.effective_rows(), total * total / squares);
    }

    #[test]
    fn what_is_forgotten_counts_for_less_however_often_the_sums_are_scaled_back() {
        let rows = rows(60_000, |x| x[KIND] + 0.5 * x[3]);
        let keep = 0.999;
        let mut moments = Moments::default();
        for row in &rows {
            moments.forget(keep);
            moments.add(row, 1.0);
        }
        let (mut sum, mut weight) = (0.0, 0.0);
        for row in &rows {
            sum = sum * keep + row.x[3];
            weight = weight * keep + 1.0;
        }
        assert!((moments.mean(3) - sum / weight).abs() < 1e-9);
        assert!((moments.effective_rows() - 2_000.0).abs() < 5.0);
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        let good = rows(10, |x| x[KIND]);
        let mut moments = of(&good);
        let before = format!("{moments:?}");
        for bad in [f64::NAN, f64::INFINITY] {
            let mut x = good[0].x;
            x[4] = bad;
            moments.add(&row(0, x, 20.0), 1.0);
            moments.add(&Row { y: bad, ..good[0] }, 1.0);
            moments.add(&good[0], bad);
        }
        moments.add(&good[0], 0.0);
        assert_eq!(format!("{moments:?}"), before);
    }
}
