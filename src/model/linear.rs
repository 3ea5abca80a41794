//! The models of log2(burst): as they were fitted, and as the kernel reads them.

use crate::kernel::bpf::intf::{
    self, scx_ml_consts_COEF_LIMIT_Q16 as COEF_LIMIT_Q16, scx_ml_consts_LOG2_MAX_Q8 as LOG2_MAX_Q8,
};
use crate::kernel::bpf::{MODEL_TERMS, NR_CLASSES, NR_FEATURES};
use crate::kernel::features::{self, Features};

/// Largest log2(ns) that is told apart, in octaves.
pub const LOG2_MAX: f64 = LOG2_MAX_Q8 as f64 / 256.0;

/// Largest |coefficient| that may be published.
pub const COEF_LIMIT: f64 = COEF_LIMIT_Q16 as f64 / 65536.0;

/// Largest |intercept| that may be published: 2^16 octaves, the kernel's own bound.
pub const INTERCEPT_LIMIT: f64 = 65536.0;

/// How far the kernel's prediction may be from [`Linear::predict`] for the same record, in octaves: each coefficient
/// is rounded to Q16 (half a unit) and multiplied by a feature of at most [`LOG2_MAX`] in size; the result is truncated
/// to Q16 once.
pub const QUANTISATION_BOUND: f64 = MODEL_TERMS as f64 * LOG2_MAX / 131_072.0 + 1.0 / 32_768.0;

/// Why a model cannot be published.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum QuantiseError {
    #[error("coefficient of {feature} is {value}, beyond the limit of ±{COEF_LIMIT}")]
    Coefficient { feature: &'static str, value: f64 },
    #[error("intercept is {0}, beyond the limit of ±{INTERCEPT_LIMIT}")]
    Intercept(f64),
    #[error("the {name} margin is {value} octaves; it must lie between 0 and {LOG2_MAX}")]
    Margin { name: &'static str, value: f64 },
    #[error("it uses {0} features; the kernel takes at most {MODEL_TERMS}")]
    TooManyTerms(usize),
}

/// Why a column is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dropped {
    /// It had one value only.
    Constant,
    /// It was a linear combination of columns that are used.
    Collinear,
    /// It did not explain enough of what the others had left.
    Useless,
}

impl Dropped {
    /// One word for a table.
    pub fn word(self) -> &'static str {
        match self {
            Dropped::Constant => "constant",
            Dropped::Collinear => "collinear",
            Dropped::Useless => "useless",
        }
    }
}

/// A column that is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chosen {
    /// Its index.
    pub feature: usize,
    /// Share of the target's variance that it explained beside those chosen before it, 0 to 1.
    pub explains: f64,
}

/// A fitted linear model of log2(burst).
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// In log2(ns).
    pub intercept: f64,
    /// Octaves of burst per octave (or per one) of feature. 0 for columns that are not used.
    pub coef: Features,
    /// Standard deviation of the residuals on samples that the fit did not see, octaves.
    pub sigma: f64,
    /// prediction + margin is the 95 % quantile of the burst, octaves.
    pub margin: f64,
    /// prediction - long_margin is the 5 % quantile of the burst, octaves.
    pub long_margin: f64,
    /// Samples that it was fitted on.
    pub samples: usize,
    /// Columns that were used, in the order in which they were chosen.
    pub chosen: Vec<Chosen>,
    /// Columns that were not used, and why.
    pub dropped: Vec<(usize, Dropped)>,
}

impl Linear {
    /// Predicted log2(burst in ns), limited as the kernel limits it.
    pub fn predict(&self, x: &Features) -> f64 {
        // Most are 0, and floating point is expensive where it is emulated.
        let sum: f64 = self.used().map(|i| self.coef[i] * x[i]).sum();
        (self.intercept + sum).clamp(0.0, LOG2_MAX)
    }

    /// Indices of the features that it uses.
    pub fn used(&self) -> impl Iterator<Item = usize> {
        (0..NR_FEATURES).filter(|&i| self.coef[i] != 0.0)
    }

    /// As the kernel reads it.
    ///
    /// # Errors
    /// When a number is not finite or beyond what the kernel accepts.
    pub fn quantise(&self) -> Result<intf::linear, QuantiseError> {
        let mut q = intf::linear {
            valid: 1,
            ..Default::default()
        };
        let used: Vec<usize> = self.used().collect();
        if used.len() > MODEL_TERMS {
            return Err(QuantiseError::TooManyTerms(used.len()));
        }
        q.nr_terms = used.len() as u32;
        for (term, &i) in used.iter().enumerate() {
            let value = self.coef[i];
            if !value.is_finite() || value.abs() > COEF_LIMIT {
                return Err(QuantiseError::Coefficient {
                    feature: features::name(i),
                    value,
                });
            }
            q.feature_mask |= 1 << i;
            q.feature[term] = i as u8;
            q.coef_q16[term] = (value * 65536.0).round() as i32;
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

/// A bank of models, one a class of tasks; None: the base policy for that class.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    pub classes: [Option<Linear>; NR_CLASSES],
}

impl Model {
    /// Predicted log2(burst in ns) of a task of this class.
    pub fn predict(&self, class: usize, x: &Features) -> Option<f64> {
        Some(self.classes.get(class)?.as_ref()?.predict(x))
    }

    /// Samples that its models were fitted on.
    pub fn samples(&self) -> usize {
        self.classes.iter().flatten().map(|m| m.samples).sum()
    }

    /// Whether it has no model at all.
    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(Option::is_none)
    }

    /// As the kernel reads it, with generation and expiry left 0.
    ///
    /// # Errors
    /// See [`Linear::quantise`].
    pub fn quantise(&self) -> Result<intf::model, QuantiseError> {
        let mut q = intf::model::default();
        for (to, linear) in q.linear.iter_mut().zip(&self.classes) {
            let Some(linear) = linear else { continue };
            *to = linear.quantise()?;
        }
        Ok(q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::FEATURE_SLOTS;
    use crate::kernel::native;
    use proptest::prelude::*;
    use zerocopy::FromBytes;

    fn linear(intercept: f64, coef: Features) -> Linear {
        Linear {
            intercept,
            coef,
            sigma: 0.5,
            margin: 0.8,
            long_margin: 0.8,
            samples: 1000,
            chosen: vec![],
            dropped: vec![],
        }
    }

    /// Features in the kernel's array and as numbers.
    fn both(x: &[i16]) -> ([i16; FEATURE_SLOTS], Features) {
        let mut slots = [0; FEATURE_SLOTS];
        slots[..NR_FEATURES].copy_from_slice(&x[..NR_FEATURES]);
        let q8 = std::array::from_fn(|i| slots[i]);
        (slots, features::from_q8(&q8))
    }

    proptest! {
        #[test]
        fn the_kernel_predicts_within_the_stated_bound(
            intercept in -50.0..50.0f64,
            terms in proptest::collection::btree_map(0..NR_FEATURES, -2.0..2.0f64, 0..=MODEL_TERMS),
            x in proptest::collection::vec(-40 * 256i16..=40 * 256, NR_FEATURES),
        ) {
            let mut coef = [0.0; NR_FEATURES];
            terms.iter().for_each(|(&i, &c)| coef[i] = c);
            let m = linear(intercept, coef);
            let q = m.quantise().expect("within limits");
            let (slots, x) = both(&x);
            let kernel = f64::from(native::linear_predict_q16(&q, &slots)) / 65536.0;
            let float = m.predict(&x);
            prop_assert!((kernel - float).abs() <= QUANTISATION_BOUND, "{kernel} against {float}");
        }

        #[test]
        fn random_bytes_as_a_model_predict_inside_the_range(
            bytes in proptest::collection::vec(any::<u8>(), size_of::<intf::linear>()),
            x in proptest::collection::vec(any::<i16>(), FEATURE_SLOTS),
        ) {
            let q = intf::linear::read_from_bytes(&bytes).expect("as many bytes as it has");
            let slots = std::array::from_fn(|i| x[i]);
            let p = native::linear_predict_q16(&q, &slots);
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
            coef[4] = bad;
            assert!(matches!(
                linear(0.0, coef).quantise(),
                Err(QuantiseError::Coefficient {
                    feature: "log_burst",
                    ..
                })
            ));
        }
        assert!(matches!(
            linear(f64::NAN, [0.0; NR_FEATURES]).quantise(),
            Err(QuantiseError::Intercept(_))
        ));
        assert_eq!(
            linear(0.0, [1.0; NR_FEATURES]).quantise().err(),
            Some(QuantiseError::TooManyTerms(NR_FEATURES))
        );
        let m = Linear {
            margin: -0.1,
            ..linear(0.0, [0.0; NR_FEATURES])
        };
        assert!(matches!(m.quantise(), Err(QuantiseError::Margin { .. })));
    }

    #[test]
    fn each_model_of_a_bank_tells_the_kernel_which_features_it_uses() {
        let mut coef = [0.0; NR_FEATURES];
        (coef[0], coef[40]) = (1.0, 0.5);
        let mut model = Model::default();
        assert!(model.is_empty());
        model.classes[2] = Some(linear(1.0, coef));
        let q = model.quantise().expect("within limits");
        assert_eq!(q.linear[2].feature_mask, 1 | 1 << 40);
        assert_eq!(q.linear[0].feature_mask, 0);
        assert_eq!((q.linear[2].valid, q.linear[2].nr_terms), (1, 2));
        assert_eq!((q.linear[0].valid, q.linear[0].nr_terms), (0, 0));
        assert_eq!(model.predict(0, &[0.0; NR_FEATURES]), None);
        assert_eq!(model.predict(2, &[2.0; NR_FEATURES]), Some(4.0));
    }
}
