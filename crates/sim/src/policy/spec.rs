//! A policy with its parameters, as it is written on the command line.

use std::str::FromStr;

use clap::ValueEnum;
use scx_ml::kernel::bpf::intf::policy_params;
use scx_ml::kernel::native;

use super::Policy;
use super::eevdf::Eevdf;
use super::global::Global;
use super::ml::Ml;
use super::ml::rules::{FairOrder, Rules, Switch};
use super::srpt::Srpt;
use crate::learn::{Learner, LearnerParams, Predictor};
use crate::machine::Machine;

/// What a policy is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    MlBase,
    MlLearn,
    MlOracle,
    /// Octaves of noise on the oracle.
    MlNoise(f64),
    MlAverage,
    /// Quantum, us; for the others too.
    RoundRobin(f64),
    LeastAttained(f64),
    Fcfs,
    ProcessorSharing(f64),
    /// None: the kernel's slice.
    Eevdf(Option<f64>),
    Srpt,
}

/// A policy with its parameters, as written on the command line: `KIND[:ARGUMENT][+KEY=VALUE]…`.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySpec {
    /// As it was written.
    pub label: String,
    pub kind: Kind,
    /// Keys and values, for the ml policies.
    pub settings: Vec<(String, String)>,
}

/// A policy that cannot be.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum SpecError {
    #[error(
        "no policy is called `{0}`; there are ml-base, ml-learn, ml-oracle, ml-noise:OCTAVES, ml-avg, eevdf[:US], \
         srpt, las[:US], rr[:US], fcfs and ps[:US]"
    )]
    UnknownPolicy(String),
    #[error("`{value}` of policy `{policy}` is not a positive number")]
    Argument { policy: String, value: String },
    #[error("`{0}` is no setting: write KEY=VALUE")]
    NotASetting(String),
    #[error("ml has no setting `{0}`; there are {known}", known = SETTINGS.join(", "))]
    UnknownSetting(String),
    #[error("`{value}` is no value for {key}: {expected}")]
    Value {
        key: String,
        value: String,
        expected: &'static str,
    },
    #[error("slice_min_us {min} is above slice_max_us {max}")]
    SliceOrder { min: u64, max: u64 },
}

/// Keys that a policy of scx_ml can be given.
pub const SETTINGS: [&str; 22] = [
    "slice_min_us",
    "slice_max_us",
    "first_quantum_us",
    "lag_us",
    "fair_interval_us",
    "preempt_after_us",
    "refit_ms",
    "own_quantum",
    "fair_order",
    "task_trust",
    "learned_quantum",
    "stand_in",
    "watched_quantile",
    "llc_counts",
    "producers",
    "relief",
    "measured_reach",
    "pace",
    "second_turn",
    "much_shorter",
    "overtake",
    "stretch",
];

/// Quantum of round robin and first level of least attained service where none is given, us.
const RR_US: f64 = 3_000.0;
const LAS_US: f64 = 500.0;
const PS_US: f64 = 20.0;

impl FromStr for PolicySpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let mut parts = text.split('+');
        let head = parts.next().unwrap_or_default();
        let (name, argument) = match head.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (head, None),
        };
        let number = |otherwise: Option<f64>| -> Result<Option<f64>, SpecError> {
            let Some(value) = argument else {
                return Ok(otherwise);
            };
            let bad = || SpecError::Argument {
                policy: name.to_string(),
                value: value.to_string(),
            };
            let n: f64 = value.parse().map_err(|_| bad())?;
            if n > 0.0 && n.is_finite() {
                Ok(Some(n))
            } else {
                Err(bad())
            }
        };
        let unknown = || SpecError::UnknownPolicy(head.to_string());
        let kind = match (name, argument) {
            ("ml-base", None) => Kind::MlBase,
            ("ml-learn", None) => Kind::MlLearn,
            ("ml-oracle", None) => Kind::MlOracle,
            ("ml-avg", None) => Kind::MlAverage,
            ("srpt", None) => Kind::Srpt,
            ("fcfs", None) => Kind::Fcfs,
            ("ml-noise", _) => Kind::MlNoise(number(None)?.ok_or_else(unknown)?),
            ("rr", _) => Kind::RoundRobin(number(Some(RR_US))?.unwrap_or(RR_US)),
            ("las", _) => Kind::LeastAttained(number(Some(LAS_US))?.unwrap_or(LAS_US)),
            ("ps", _) => Kind::ProcessorSharing(number(Some(PS_US))?.unwrap_or(PS_US)),
            ("eevdf", _) => Kind::Eevdf(number(None)?),
            _ => return Err(unknown()),
        };
        let mut spec = Self {
            label: text.to_string(),
            kind,
            settings: vec![],
        };
        for part in parts {
            spec.set(part)?;
        }
        Ok(spec)
    }
}

impl PolicySpec {
    /// Add a setting, KEY=VALUE. The label stays.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn set(&mut self, setting: &str) -> Result<(), SpecError> {
        let (key, value) = setting
            .split_once('=')
            .ok_or_else(|| SpecError::NotASetting(setting.to_string()))?;
        self.settings.push((key.to_string(), value.to_string()));
        self.ml_settings().map(|_| ())
    }

    /// The same with a setting more, and that in its label. Settings are for the policies of scx_ml; others stay.
    ///
    /// # Errors
    /// As [`PolicySpec::set`].
    pub fn with(&self, setting: &str) -> Result<Self, SpecError> {
        let mut spec = self.clone();
        spec.set(setting)?;
        spec.label = format!("{}+{setting}", self.label);
        Ok(spec)
    }

    /// Whether it is one of scx_ml's.
    pub fn is_ml(&self) -> bool {
        matches!(
            self.kind,
            Kind::MlBase | Kind::MlLearn | Kind::MlOracle | Kind::MlNoise(_) | Kind::MlAverage
        )
    }

    fn ml_settings(&self) -> Result<(policy_params, Rules, LearnerParams), SpecError> {
        let (mut pp, mut rules, mut learner) = (
            native::policy_defaults(),
            Rules::default(),
            LearnerParams::default(),
        );
        for (key, value) in &self.settings {
            let bad = |expected| SpecError::Value {
                key: key.clone(),
                value: value.clone(),
                expected,
            };
            let number = || value.parse::<u64>().map_err(|_| bad("give a whole number"));
            let us = || number().map(|us| us.saturating_mul(1000));
            let switch = || match Switch::from_str(value, true) {
                Ok(switch) => Ok(switch == Switch::On),
                Err(_) => Err(bad("give on or off")),
            };
            match key.as_str() {
                "slice_min_us" => pp.slice_min_ns = us()?.max(1),
                "slice_max_us" => pp.slice_max_ns = us()?.max(1),
                "first_quantum_us" => pp.first_quantum_ns = us()?,
                "lag_us" => pp.lag_ns = us()?,
                "fair_interval_us" => pp.fair_interval_ns = us()?,
                "preempt_after_us" => pp.preempt_after_ns = us()?,
                "refit_ms" => learner.refit_ns = number()?.max(1).saturating_mul(1_000_000),
                "own_quantum" => rules.own_quantum = switch()?,
                "fair_order" => {
                    rules.fair_order =
                        FairOrder::from_str(value, true).map_err(|_| bad("give kept or moving"))?;
                }
                "task_trust" => rules.task_trust = switch()?,
                "learned_quantum" => rules.learned_quantum = switch()?,
                "stand_in" => learner.stand_in = switch()?,
                "watched_quantile" => learner.watched_quantile = switch()?,
                "llc_counts" => rules.llc_counts = switch()?,
                "producers" => rules.producers = switch()?,
                "relief" => rules.relief = switch()?,
                "measured_reach" => rules.measured_reach = switch()?,
                "pace" => rules.pace = switch()?,
                "second_turn" => rules.second_turn = switch()?,
                "much_shorter" => rules.much_shorter = switch()?,
                "overtake" => rules.overtake = switch()?,
                "stretch" => rules.stretch = switch()?,
                _ => return Err(SpecError::UnknownSetting(key.clone())),
            }
        }
        if pp.slice_min_ns > pp.slice_max_ns {
            return Err(SpecError::SliceOrder {
                min: pp.slice_min_ns / 1000,
                max: pp.slice_max_ns / 1000,
            });
        }
        Ok((pp, rules, learner))
    }

    /// The policy, for a machine of this shape.
    ///
    /// # Errors
    /// If a setting cannot be.
    pub fn build(&self, m: &Machine, seed: u64) -> Result<Box<dyn Policy>, SpecError> {
        let ns = |us: f64| ((us * 1000.0) as u64).max(1);
        let (pp, rules, learner) = self.ml_settings()?;
        let ml = |predictor| -> Box<dyn Policy> { Box::new(Ml::new(m, pp, rules, predictor)) };
        Ok(match self.kind {
            Kind::MlBase => ml(Predictor::None),
            Kind::MlLearn => ml(Predictor::Learned(Box::new(Learner::new(learner)))),
            Kind::MlOracle => ml(Predictor::Oracle),
            Kind::MlNoise(octaves) => ml(Predictor::noise(octaves, seed)),
            Kind::MlAverage => ml(Predictor::Average(vec![])),
            Kind::RoundRobin(us) | Kind::ProcessorSharing(us) => Box::new(Global::rr(m, ns(us))),
            Kind::LeastAttained(us) => Box::new(Global::las(m, ns(us))),
            Kind::Fcfs => Box::new(Global::fcfs(m)),
            Kind::Eevdf(us) => Box::new(Eevdf::new(m, us.map(ns))),
            Kind::Srpt => Box::new(Srpt::new(m)),
        })
    }
}
