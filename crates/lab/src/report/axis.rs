//! A logarithmic axis of ratios.

/// From the smallest ratio that there is room for to the largest.
pub struct Axis {
    pub low: f64,
    pub high: f64,
}

impl Axis {
    /// With room for 1 and for all of these but what is no positive number.
    pub fn of(ratios: impl Iterator<Item = f64>) -> Self {
        let ratios = ratios.filter(|v| v.is_finite() && *v > 0.0);
        let (low, high) = ratios.fold((0.8, 1.25), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
        Self { low, high }
    }

    /// The same with a margin of a twentieth at either end.
    pub fn with_margin(self) -> Self {
        Self {
            low: self.low * 0.95,
            high: self.high * 1.05,
        }
    }

    /// Where a ratio lies, from 0 at the lower end to 1; the nearer end for what is outside.
    pub fn share(&self, ratio: f64) -> f64 {
        let share = (ratio.max(1e-9) / self.low).ln() / (self.high / self.low).ln();
        share.clamp(0.0, 1.0)
    }
}
