//! How a class's predictions have turned out of late: the distribution of what they missed by, which forgets. A model's
//! margins come from here, from bursts that it was not fitted on.

use crate::model::{LOG2_MAX, Linear};

/// Bins an octave, and the octaves on either side of 0 that they cover; what is beyond counts as at the edge.
const BINS_PER_OCTAVE: usize = 16;
const OCTAVES: usize = 12;
const BINS: usize = 2 * OCTAVES * BINS_PER_OCTAVE;

/// The quantiles of the residuals that become a model's margins.
pub const HIGH_QUANTILE: f64 = 0.95;
pub const LOW_QUANTILE: f64 = 0.05;

/// Rows from which on they tell anything of quantiles.
const ROWS_MIN: usize = 50;

/// About so many rows, the newest, tell in a stream.
const MEMORY_ROWS: f64 = 2_000.0;

/// Weights are scaled back when a new row would count for so much.
const SCALE_MAX: f64 = (1u64 << 32) as f64;

/// See the module.
#[derive(Debug, Clone)]
pub struct Residuals {
    /// Weight of each bin, times `scale`.
    bins: Vec<f64>,
    /// Sums of the weights, and of the weighted squares of the residuals, octaves², as scaled.
    weight: f64,
    squares: f64,
    /// Rows that were added.
    rows: usize,
    /// Share of what is known that a row leaves.
    keep: f64,
    /// What a weight of 1 counts for now, at least 1.
    scale: f64,
}

impl Default for Residuals {
    /// Of a stream.
    fn default() -> Self {
        Self::remembering(MEMORY_ROWS)
    }
}

impl Residuals {
    /// That know about so many rows, the newest; infinity: all.
    pub fn remembering(rows: f64) -> Self {
        Self {
            bins: vec![0.0; BINS],
            weight: 0.0,
            squares: 0.0,
            rows: 0,
            keep: 1.0 - 1.0 / rows,
            scale: 1.0,
        }
    }

    /// A row of `weight` bursts that were so many octaves longer than predicted.
    pub fn add(&mut self, missed: f64, weight: f64) {
        if !missed.is_finite() {
            return;
        }
        let missed = missed.clamp(-LOG2_MAX, LOG2_MAX);
        self.scale /= self.keep;
        self.rows += 1;
        let counts = weight * self.scale;
        let bin = (missed + OCTAVES as f64) * BINS_PER_OCTAVE as f64;
        self.bins[(bin.max(0.0) as usize).min(BINS - 1)] += counts;
        self.weight += counts;
        self.squares += counts * missed * missed;
        if self.scale > SCALE_MAX {
            let back = 1.0 / self.scale;
            self.bins.iter_mut().for_each(|w| *w *= back);
            self.weight *= back;
            self.squares *= back;
            self.scale = 1.0;
        }
    }

    /// Let what is known count for the share `keep` of what it did beside what comes.
    pub fn fade(&mut self, keep: f64) {
        self.scale /= keep;
    }

    /// Set the spread and the margins of `model`, whose residuals these are; it keeps its own where they are too few.
    pub fn set_margins(&self, model: &mut Linear) {
        if self.rows < ROWS_MIN {
            return;
        }
        model.sigma = (self.squares / self.weight).sqrt();
        model.margin = self.quantile(HIGH_QUANTILE).max(0.0);
        model.long_margin = (-self.quantile(LOW_QUANTILE)).max(0.0);
    }

    /// By weight, evenly within a bin.
    fn quantile(&self, q: f64) -> f64 {
        let mut left = q * self.weight;
        let within = |(i, w): (usize, &f64)| {
            if *w < left {
                left -= w;
                return None;
            }
            let part = if *w > 0.0 { left / w } else { 0.0 };
            Some((i as f64 + part) / BINS_PER_OCTAVE as f64 - OCTAVES as f64)
        };
        self.bins
            .iter()
            .enumerate()
            .find_map(within)
            // Rounding left a trace.
            .unwrap_or(OCTAVES as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::NR_FEATURES;

    fn model() -> Linear {
        Linear {
            intercept: 0.0,
            coef: [0.0; NR_FEATURES],
            sigma: 9.0,
            margin: 9.0,
            long_margin: 9.0,
            samples: 0,
            chosen: vec![],
            dropped: vec![],
        }
    }

    #[test]
    fn margins_are_the_quantiles_by_weight() {
        let mut residuals = Residuals::remembering(f64::INFINITY);
        for i in 0..1_000 {
            // From -2 to 2 octaves, those above 0 three times as often.
            let missed = (f64::from(i) + 0.5) / 250.0 - 2.0;
            residuals.add(missed, if missed > 0.0 { 3.0 } else { 1.0 });
        }
        let mut model = model();
        residuals.set_margins(&mut model);
        // 5 % of 4 parts lie above 2 - 2 * 0.2 / 3, and below -2 + 2 * 0.2.
        assert!((model.margin - 1.867).abs() < 0.05, "{model:?}");
        assert!((model.long_margin - 1.6).abs() < 0.05, "{model:?}");
        assert!((model.sigma - 1.155).abs() < 0.05, "{model:?}");
    }

    #[test]
    fn the_newest_tell_and_a_few_tell_nothing() {
        let mut residuals = Residuals::default();
        let mut found = model();
        for _ in 0..ROWS_MIN - 1 {
            residuals.add(1.0, 1.0);
        }
        residuals.set_margins(&mut found);
        assert_eq!(found, model());
        for missed in [5.0, 1.0] {
            for _ in 0..30_000 {
                residuals.add(missed, 1.0);
            }
        }
        residuals.set_margins(&mut found);
        assert!((found.margin - 1.0).abs() < 0.1, "{found:?}");
        assert_eq!(found.long_margin, 0.0);
    }

    #[test]
    fn what_is_far_off_counts_as_at_the_edge() {
        let mut residuals = Residuals::default();
        for missed in [1e300, -1e300, 40.0, f64::NAN, f64::INFINITY] {
            for _ in 0..20 {
                residuals.add(missed, 64.0);
            }
        }
        let mut model = model();
        residuals.set_margins(&mut model);
        assert!(model.margin <= OCTAVES as f64 && model.long_margin <= OCTAVES as f64);
    }
}
