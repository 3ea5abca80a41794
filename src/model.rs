//! A linear model of log2(burst): as it was fitted, and as the kernel reads it.

use crate::bpf::NR_FEATURES;
use crate::bpf::intf::{
    self, scx_ml_consts_COEF_LIMIT_Q16 as COEF_LIMIT_Q16, scx_ml_consts_LOG2_MAX_Q8 as LOG2_MAX_Q8,
};
use crate::features::{self, Features};

/// Largest log2(ns) that is told apart, in octaves.
pub const LOG2_MAX: f64 = LOG2_MAX_Q8 as f64 / 256.0;

/// Largest |coefficient| that may be published.
pub const COEF_LIMIT: f64 = COEF_LIMIT_Q16 as f64 / 65536.0;

/// Largest |intercept| that may be published: 2^16 octaves, the kernel's own bound.
const INTERCEPT_LIMIT: f64 = 65536.0;

/// How far the kernel's prediction may be from [`Model::predict`] for the same record, in octaves: each coefficient
/// is rounded to Q16 (half a unit) and multiplied by a feature of at most [`LOG2_MAX`]; the result is truncated to
/// Q16 once.
pub const QUANTISATION_BOUND: f64 = NR_FEATURES as f64 * LOG2_MAX / 131_072.0 + 1.0 / 32_768.0;

/// Why a model cannot be published.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum QuantiseError {
    #[error("coefficient of {feature} is {value}, beyond the limit of ±{COEF_LIMIT}")]
    Coefficient { feature: &'static str, value: f64 },
    #[error("intercept is {0}, beyond the limit of ±{INTERCEPT_LIMIT}")]
    Intercept(f64),
    #[error("the {name} margin is {value} octaves; it must lie between 0 and {LOG2_MAX}")]
    Margin { name: &'static str, value: f64 },
}

/// A column that a fit did not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// It had one value only.
    Constant,
    /// It was a linear combination of columns before it.
    Collinear,
}

/// A fitted model.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// In log2(ns).
    pub intercept: f64,
    /// Octaves of burst per octave (or per one) of feature. 0 for dropped columns.
    pub coef: Features,
    /// Standard deviation of the residuals on samples that the fit did not see, octaves.
    pub sigma: f64,
    /// prediction + margin is the 95 % quantile of the burst, octaves.
    pub margin: f64,
    /// prediction - long_margin is the 5 % quantile of the burst, octaves.
    pub long_margin: f64,
    /// Samples that it was fitted on.
    pub samples: usize,
    /// Columns that were not used, and why.
    pub dropped: Vec<(usize, Dropped)>,
}

impl Model {
    /// Predicted log2(burst in ns), limited as the kernel limits it.
    pub fn predict(&self, x: &Features) -> f64 {
        let sum: f64 = self.coef.iter().zip(x).map(|(c, x)| c * x).sum();
        (self.intercept + sum).clamp(0.0, LOG2_MAX)
    }

    /// As the kernel reads it, with generation and expiry left 0.
    ///
    /// # Errors
    /// When a number is not finite or beyond what the kernel accepts.
    pub fn quantise(&self) -> Result<intf::model, QuantiseError> {
        let mut q = intf::model::default();
        for (i, (&c, to)) in self.coef.iter().zip(&mut q.coef_q16).enumerate() {
            if !c.is_finite() || c.abs() > COEF_LIMIT {
                return Err(QuantiseError::Coefficient {
                    feature: features::name(i),
                    value: c,
                });
            }
            *to = (c * 65536.0).round() as i32;
        }
        if !self.intercept.is_finite() || self.intercept.abs() > INTERCEPT_LIMIT {
            return Err(QuantiseError::Intercept(self.intercept));
        }
        q.intercept_q24 = (self.intercept * f64::from(1 << 24)).round() as i64;
        q.margin_q16 = margin_q16("upper", self.margin)?;
        q.long_margin_q16 = margin_q16("lower", self.long_margin)?;
        Ok(q)
    }
}

fn margin_q16(name: &'static str, value: f64) -> Result<i32, QuantiseError> {
    if !(0.0..=LOG2_MAX).contains(&value) {
        return Err(QuantiseError::Margin { name, value });
    }
    Ok((value * 65536.0).round() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native;
    use proptest::prelude::*;

    fn model(intercept: f64, coef: Features) -> Model {
        Model {
            intercept,
            coef,
            sigma: 0.5,
            margin: 0.8,
            long_margin: 0.8,
            samples: 1000,
            dropped: vec![],
        }
    }

    proptest! {
        #[test]
        fn the_kernel_predicts_within_the_stated_bound(
            intercept in -50.0..50.0f64,
            coef in proptest::array::uniform13(-2.0..2.0f64),
            x in proptest::array::uniform13(0i16..=(40 * 256)),
        ) {
            let m = model(intercept, coef);
            let q = m.quantise().expect("within limits");
            let kernel = f64::from(native::predict_q16(&q, &x)) / 65536.0;
            let float = m.predict(&features::from_q8(&x));
            prop_assert!((kernel - float).abs() <= QUANTISATION_BOUND, "{kernel} against {float}");
        }

        #[test]
        fn random_bytes_as_a_model_predict_inside_the_range(
            intercept_q24 in any::<i64>(),
            coef_q16 in proptest::array::uniform13(any::<i32>()),
            x in proptest::array::uniform13(any::<i16>()),
        ) {
            let q = intf::model { intercept_q24, coef_q16, ..Default::default() };
            let p = native::predict_q16(&q, &x);
            prop_assert!((0..=40 << 16).contains(&p));
        }
    }

    #[test]
    fn what_is_not_finite_or_too_large_is_refused() {
        for bad in [
            f64::NAN,
            f64::INFINITY,
            -f64::INFINITY,
            COEF_LIMIT + 1.0,
            -1e300,
        ] {
            let mut coef = [0.0; NR_FEATURES];
            coef[2] = bad;
            assert!(matches!(
                model(0.0, coef).quantise(),
                Err(QuantiseError::Coefficient {
                    feature: "log_burst",
                    ..
                })
            ));
        }
        assert!(matches!(
            model(f64::NAN, [0.0; NR_FEATURES]).quantise(),
            Err(QuantiseError::Intercept(_))
        ));
        let m = Model {
            margin: -0.1,
            ..model(0.0, [0.0; NR_FEATURES])
        };
        assert!(matches!(m.quantise(), Err(QuantiseError::Margin { .. })));
    }
}
