//! Which requests arrive when, and how much work each is: fixed by the seed before the run begins.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

/// How burst lengths are distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// `short_ms`, and with probability `long_share` `long_ms`.
    Bimodal,
    /// Pareto with tail index `alpha` and mean `mean_ms`, cut at 200 times the mean.
    Pareto,
    /// Exponential with mean `mean_ms`.
    Exponential,
    /// All `mean_ms`.
    Homogeneous,
}

/// The sizes of the bursts.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub shape: Shape,
    pub short_ms: f64,
    pub long_ms: f64,
    pub long_share: f64,
    pub mean_ms: f64,
    pub alpha: f64,
}

/// The largest Pareto burst, in means. Without a cut a single burst could outlast the whole run.
const PARETO_CUT: f64 = 200.0;

impl Sizes {
    /// One burst in ms.
    fn draw(&self, rng: &mut ChaCha8Rng) -> f64 {
        // In (0, 1]: its logarithm is finite.
        let u = 1.0 - rng.random::<f64>();
        match self.shape {
            Shape::Bimodal => {
                if u <= self.long_share {
                    self.long_ms
                } else {
                    self.short_ms
                }
            }
            Shape::Pareto => {
                (self.pareto_scale() * u.powf(-1.0 / self.alpha)).min(PARETO_CUT * self.mean_ms)
            }
            Shape::Exponential => -self.mean_ms * u.ln(),
            Shape::Homogeneous => self.mean_ms,
        }
    }

    /// The smallest burst for which the uncut mean is `mean_ms`.
    fn pareto_scale(&self) -> f64 {
        self.mean_ms * (self.alpha - 1.0) / self.alpha
    }

    /// The mean burst in ms. For Pareto that of the distribution as cut.
    pub fn mean(&self) -> f64 {
        match self.shape {
            Shape::Bimodal => {
                self.short_ms * (1.0 - self.long_share) + self.long_ms * self.long_share
            }
            Shape::Pareto => {
                // E[min(X, c)] = mean - scale^alpha c^(1-alpha) / (alpha - 1).
                let (s, c) = (self.pareto_scale(), PARETO_CUT * self.mean_ms);
                self.mean_ms - s.powf(self.alpha) * c.powf(1.0 - self.alpha) / (self.alpha - 1.0)
            }
            Shape::Exponential | Shape::Homogeneous => self.mean_ms,
        }
    }

    /// The number of classes bursts are told apart by, and reported by.
    pub fn classes(&self) -> usize {
        if self.shape == Shape::Homogeneous {
            1
        } else {
            2
        }
    }

    /// 0: short, 1: long. Where the distribution has no two modes, long is above the mean.
    fn class(&self, ms: f64) -> usize {
        match self.shape {
            Shape::Homogeneous => 0,
            Shape::Bimodal => usize::from(ms == self.long_ms),
            Shape::Pareto | Shape::Exponential => usize::from(ms > self.mean_ms),
        }
    }
}

/// One request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// When it is meant to arrive, in ns from the start of the run.
    pub at_ns: u64,
    pub burst_ms: f64,
    pub class: usize,
}

/// Poisson arrivals for `seconds`, at the rate that keeps `cpus` CPUs busy for `load` of the time.
pub fn schedule(sizes: &Sizes, load: f64, cpus: usize, seconds: f64, seed: u64) -> Vec<Arrival> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let gap_ms = sizes.mean() / (load * cpus as f64);
    let mut arrivals = Vec::with_capacity((seconds * 1000.0 / gap_ms * 1.1) as usize);
    let mut at_ms = 0.0;
    loop {
        at_ms += -gap_ms * (1.0 - rng.random::<f64>()).ln();
        if at_ms >= seconds * 1000.0 {
            return arrivals;
        }
        let burst_ms = sizes.draw(&mut rng);
        arrivals.push(Arrival {
            at_ns: (at_ms * 1e6) as u64,
            burst_ms,
            class: sizes.class(burst_ms),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(shape: Shape) -> Sizes {
        Sizes {
            shape,
            short_ms: 1.0,
            long_ms: 40.0,
            long_share: 0.05,
            mean_ms: 2.0,
            alpha: 1.5,
        }
    }

    #[test]
    fn the_offered_load_is_the_one_asked_for() {
        for shape in [
            Shape::Bimodal,
            Shape::Pareto,
            Shape::Exponential,
            Shape::Homogeneous,
        ] {
            let s = sizes(shape);
            let a = schedule(&s, 0.8, 2, 2000.0, 3);
            let offered = a.iter().map(|a| a.burst_ms).sum::<f64>() / (2.0 * 2_000_000.0);
            assert!((offered - 0.8).abs() < 0.02, "{shape:?}: {offered}");
        }
    }

    #[test]
    fn arrivals_are_poisson_and_bursts_bimodal() {
        let a = schedule(&sizes(Shape::Bimodal), 0.5, 1, 1000.0, 1);
        let long = a.iter().filter(|a| a.class == 1).count() as f64 / a.len() as f64;
        assert!((long - 0.05).abs() < 0.003, "{long}");
        let gaps: Vec<f64> = a
            .windows(2)
            .map(|w| (w[1].at_ns - w[0].at_ns) as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let cv2 =
            gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64 / mean / mean;
        assert!(
            (cv2 - 1.0).abs() < 0.05,
            "exponential gaps vary as much as their mean: {cv2}"
        );
    }

    #[test]
    fn the_schedule_follows_from_the_seed() {
        let s = sizes(Shape::Pareto);
        assert_eq!(schedule(&s, 0.8, 1, 5.0, 7), schedule(&s, 0.8, 1, 5.0, 7));
        assert_ne!(schedule(&s, 0.8, 1, 5.0, 7), schedule(&s, 0.8, 1, 5.0, 8));
    }
}
