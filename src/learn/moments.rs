//! What a fit needs of a stream of samples, and all that is kept of them: weighted means and second moments about the
//! means.
//!
//! One pass, a block of rows at a time: the mean moves by the block's share of the distance between both means, and to the
//! sums of products come those of the block and the product of those distances (Chan, Golub and LeVeque 1979). What is
//! added is positive semidefinite, so the sums stay that, whatever comes.

use crate::kernel::bpf::intf::scx_ml_feature_FEATURE_KIND_BURST as KIND_BURST;
use crate::learn::block::{Block, COLUMNS, PRODUCTS, TARGET, line};

/// See the module. Columns are the features; the target is log2(burst) less the kind's average, in octaves.
#[derive(Debug, Clone)]
pub struct Moments {
    /// Rows that were added, whatever is left of them.
    rows: usize,
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
            weight: 0.0,
            weight_squared: 0.0,
            mean: [0.0; COLUMNS],
            products: vec![0.0; PRODUCTS],
        }
    }
}

impl Moments {
    /// Take the rows of a block in that has some.
    pub fn add(&mut self, block: &Block) {
        let weight = block.weight();
        let total = self.weight + weight;
        let share = weight / total;
        let mut off = [0.0; COLUMNS];
        for (i, off) in off.iter_mut().enumerate() {
            *off = block.mean(i) - self.mean[i];
            self.mean[i] += share * *off;
        }
        let count = self.weight * share;
        let mut at = 0;
        for i in 0..COLUMNS {
            let counted = count * off[i];
            for (j, off) in off[..=i].iter().enumerate() {
                self.products[at] += block.product(i, j, at) + counted * off;
                at += 1;
            }
        }
        self.weight = total;
        self.weight_squared += block.weight_squared();
        self.rows += block.rows();
    }

    /// Multiply all sums by `share`.
    pub fn scale_back(&mut self, share: f64) {
        self.weight *= share;
        self.weight_squared *= share * share;
        self.products.iter_mut().for_each(|p| *p *= share);
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
        self.products[line(i.max(j)) + i.min(j)]
    }
}
