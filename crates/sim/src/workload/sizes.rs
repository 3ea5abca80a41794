//! Distributions of work: those of the benchmark's `open-loop`, with the same names, defaults and draws.

use clap::ValueEnum;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// How the work of requests is distributed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
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

/// The work of requests.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Sizes {
    pub shape: Shape,
    pub short_ms: f64,
    pub long_ms: f64,
    pub long_share: f64,
    pub mean_ms: f64,
    pub alpha: f64,
    /// Standard deviation of log-normal noise on each request's work, octaves. 0: none, as in the benchmark.
    pub spread: f64,
}

impl Default for Sizes {
    /// The benchmark's.
    fn default() -> Self {
        Self {
            shape: Shape::Bimodal,
            short_ms: 1.0,
            long_ms: 40.0,
            long_share: 0.05,
            mean_ms: 2.0,
            alpha: 1.5,
            spread: 0.0,
        }
    }
}

/// The largest Pareto request, in means.
const PARETO_CUT: f64 = 200.0;

impl Sizes {
    /// Work in ns, and its class: 0 short, 1 long. Where there are no two modes, long is above the mean.
    pub fn draw(&self, rng: &mut ChaCha8Rng) -> (u64, u8) {
        // In (0, 1]: its logarithm is finite.
        let u = 1.0 - rng.random::<f64>();
        let (ms, class) = match self.shape {
            Shape::Bimodal if u <= self.long_share => (self.long_ms, 1),
            Shape::Bimodal => (self.short_ms, 0),
            Shape::Pareto => {
                let ms = (self.pareto_scale() * u.powf(-1.0 / self.alpha))
                    .min(PARETO_CUT * self.mean_ms);
                (ms, u8::from(ms > self.mean_ms))
            }
            Shape::Exponential => {
                let ms = -self.mean_ms * u.ln();
                (ms, u8::from(ms > self.mean_ms))
            }
            Shape::Homogeneous => (self.mean_ms, 0),
        };
        let noise = noise(rng, self.spread);
        ((ms * noise * 1e6) as u64, class)
    }

    fn pareto_scale(&self) -> f64 {
        self.mean_ms * (self.alpha - 1.0) / self.alpha
    }

    /// Mean work in ms. For Pareto that of the distribution as cut.
    pub fn mean_ms(&self) -> f64 {
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

    pub fn classes(&self) -> &'static [&'static str] {
        match self.shape {
            Shape::Homogeneous => &["all"],
            _ => &["short", "long"],
        }
    }
}

/// Log-normal noise of so many octaves and of mean 1, so that the load stays what it was. Draws nothing for 0.
pub fn noise(rng: &mut ChaCha8Rng, octaves: f64) -> f64 {
    if octaves <= 0.0 {
        return 1.0;
    }
    let sigma = octaves * std::f64::consts::LN_2;
    (sigma * normal(rng) - sigma * sigma / 2.0).exp()
}

/// A normal deviate (Box and Muller 1958; the second of the pair is thrown away).
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let u = 1.0 - rng.random::<f64>();
    let v = rng.random::<f64>();
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// An exponential deviate with this mean.
pub fn exponential(rng: &mut ChaCha8Rng, mean: f64) -> f64 {
    -mean * (1.0 - rng.random::<f64>()).ln()
}
