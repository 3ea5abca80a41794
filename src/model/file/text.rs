//! The text of a model file: what TOML holds, and what of it can be a model.

use serde::{Deserialize, Serialize};
use toml::Table;

use super::format::{FORMAT, VERSION};
use super::problem::Problem;
use super::{ModelFile, Origin, same_minor, utc};
use crate::kernel::bpf::{MODEL_TERMS, NR_CLASSES, NR_FEATURES};
use crate::kernel::features;
use crate::model::{Chosen, Dropped, LOG2_MAX, Linear, Model};

/// The file as TOML has it. Its order is the order of the text.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: i64,
    scx_ml_version: String,
    feature_set: String,
    trained: Trained,
    class: Table,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trained {
    kernel: String,
    machine: String,
    boot_id: String,
    /// TOML's integers end at 2^63 - 1.
    from_ns: u64,
    until_ns: u64,
    monotonic_to_unix_ns: i64,
    /// For people; not read.
    from_utc: String,
    until_utc: String,
    samples: usize,
    error_model: f64,
    error_moving_average: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Class {
    samples: usize,
    intercept: f64,
    sigma: f64,
    margin: f64,
    long_margin: f64,
    coefficients: Table,
    #[serde(default)]
    explains: Table,
    #[serde(default)]
    dropped: DroppedNames,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DroppedNames {
    #[serde(default)]
    useless: Vec<String>,
    #[serde(default)]
    collinear: Vec<String>,
    #[serde(default)]
    constant: Vec<String>,
}

const HEADER: &str = "\
# A model of scx_ml: linear regressions of log2(CPU burst in ns), one a class of tasks. Use it with
# `scx_ml --model FILE`, judge it on a recording with `scx_ml eval DIR --model FILE`.
#
# intercept: log2(ns); coefficients: octaves of burst per unit of the feature (`scx_ml features` lists them), in the
# order in which they were chosen; explains: the share of the variance that each explained when it was chosen; sigma,
# margin, long_margin: octaves, the last two being the distances from the prediction to the 95 % and the 5 % quantile.

";

impl ModelFile {
    /// As text.
    pub fn to_text(&self) -> String {
        let origin = &self.origin;
        let mut class = Table::new();
        for (i, linear) in self.model.classes.iter().enumerate() {
            if let Some(linear) = linear {
                let text = Table::try_from(Class::from(linear));
                // A struct of numbers and text is always a table.
                class.insert(
                    features::class_name(i).into(),
                    text.unwrap_or_default().into(),
                );
            }
        }
        let text = Text {
            format: FORMAT,
            scx_ml_version: VERSION.into(),
            feature_set: feature_set(),
            trained: Trained {
                kernel: origin.kernel.clone(),
                machine: origin.machine.clone(),
                boot_id: origin.boot_id.clone(),
                from_ns: origin.from_ns.min(i64::MAX as u64),
                until_ns: origin.until_ns.min(i64::MAX as u64),
                monotonic_to_unix_ns: origin.monotonic_to_unix_ns,
                from_utc: utc(origin.from_ns, origin.monotonic_to_unix_ns),
                until_utc: utc(origin.until_ns, origin.monotonic_to_unix_ns),
                samples: origin.samples,
                error_model: origin.error_model,
                error_moving_average: origin.error_avg,
            },
            class,
        };
        format!("{HEADER}{}", toml::to_string(&text).unwrap_or_default())
    }

    /// From text.
    ///
    /// # Errors
    /// When it is not a model of this version for these features. The kernel is not looked at, see
    /// [`ModelFile::check_kernel`].
    pub fn from_text(text: &str) -> Result<Self, Problem> {
        let table: Table = text
            .parse()
            .map_err(|e: toml::de::Error| Problem::NotToml(one_line(&e)))?;
        // What says which file it is comes first: a file of another version may differ in everything else.
        match table.get("format") {
            Some(toml::Value::Integer(FORMAT)) => {}
            Some(found) => {
                let found = found.to_string();
                return Err(Problem::Format { found });
            }
            None => return Err(Problem::NoModel("it does not tell its format".into())),
        }
        let word = |key: &str| table.get(key).and_then(toml::Value::as_str).unwrap_or("");
        let (version, set) = (word("scx_ml_version"), word("feature_set"));
        if !same_minor(version, VERSION) {
            let found = version.to_string();
            return Err(Problem::Version { found });
        }
        if set != feature_set() {
            return Err(Problem::FeatureSet {
                found: set.into(),
                expected: feature_set(),
            });
        }

        let text: Text = table.try_into().map_err(no_model)?;
        let origin = Origin::try_from(text.trained)?;
        let mut model = Model::default();
        for (name, class) in text.class {
            let Some(i) = (0..NR_CLASSES).find(|&i| features::class_name(i) == name) else {
                return Err(Problem::UnknownClass(name));
            };
            let class: Class = class.try_into().map_err(no_model)?;
            model.classes[i] = Some(class.check(features::class_name(i))?);
        }
        if model.is_empty() {
            return Err(Problem::NoClass);
        }
        Ok(Self { origin, model })
    }
}

/// A parser's error in one line.
fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

fn no_model(error: toml::de::Error) -> Problem {
    Problem::NoModel(one_line(&error))
}

fn feature_set() -> String {
    format!("{:016x}", features::set_id())
}

impl TryFrom<Trained> for Origin {
    type Error = Problem;

    fn try_from(t: Trained) -> Result<Self, Problem> {
        finite_size("error_model", t.error_model)?;
        finite_size("error_moving_average", t.error_moving_average)?;
        if t.from_ns > t.until_ns {
            return Err(Problem::NoModel("its from_ns is after its until_ns".into()));
        }
        Ok(Self {
            kernel: t.kernel,
            machine: t.machine,
            boot_id: t.boot_id,
            from_ns: t.from_ns,
            until_ns: t.until_ns,
            monotonic_to_unix_ns: t.monotonic_to_unix_ns,
            samples: t.samples,
            error_model: t.error_model,
            error_avg: t.error_moving_average,
        })
    }
}

/// Errors and spreads, octaves.
fn finite_size(what: &str, value: f64) -> Result<f64, Problem> {
    if (0.0..=LOG2_MAX).contains(&value) {
        return Ok(value);
    }
    Err(Problem::Number {
        what: what.into(),
        value,
    })
}

impl From<&Linear> for Class {
    fn from(linear: &Linear) -> Self {
        let names = |why: Dropped| -> Vec<String> {
            let dropped = linear.dropped.iter().filter(|(_, w)| *w == why);
            dropped.map(|&(i, _)| features::name(i).into()).collect()
        };
        // The chosen in their order; those that a model without an order uses, behind.
        let mut coefficients = Table::new();
        let mut explains = Table::new();
        for c in &linear.chosen {
            let name = features::name(c.feature);
            coefficients.insert(name.into(), linear.coef[c.feature].into());
            explains.insert(name.into(), c.explains.into());
        }
        for i in linear.used() {
            let name = features::name(i);
            if !coefficients.contains_key(name) {
                coefficients.insert(name.into(), linear.coef[i].into());
            }
        }
        Self {
            samples: linear.samples,
            intercept: linear.intercept,
            sigma: linear.sigma,
            margin: linear.margin,
            long_margin: linear.long_margin,
            coefficients,
            explains,
            dropped: DroppedNames {
                useless: names(Dropped::Useless),
                collinear: names(Dropped::Collinear),
                constant: names(Dropped::Constant),
            },
        }
    }
}

impl Class {
    /// The model, if the kernel can use it.
    fn check(self, class: &'static str) -> Result<Linear, Problem> {
        let index = |feature: &str| {
            features::index(feature).ok_or_else(|| Problem::UnknownFeature {
                class,
                feature: feature.into(),
            })
        };
        let number = |what: &str, feature: &str, value: &toml::Value| match value {
            // A person who edits may leave the point out.
            toml::Value::Integer(i) => Ok(*i as f64),
            toml::Value::Float(f) => Ok(*f),
            _ => Err(Problem::NoModel(format!(
                "{what} {feature} of class {class} is no number"
            ))),
        };
        if self.coefficients.len() > MODEL_TERMS {
            let found = self.coefficients.len();
            return Err(Problem::TooManyTerms { class, found });
        }
        let mut coef = [0.0; NR_FEATURES];
        let mut chosen = vec![];
        for feature in self.explains.keys() {
            index(feature)?;
        }
        for (feature, value) in &self.coefficients {
            let i = index(feature)?;
            coef[i] = number("coefficient", feature, value)?;
            if let Some(share) = self.explains.get(feature) {
                let explains = number("share", feature, share)?;
                finite_size(&format!("explains.{feature} of class {class}"), explains)?;
                chosen.push(Chosen {
                    feature: i,
                    explains,
                });
            }
        }
        let mut dropped = vec![];
        for (names, why) in [
            (&self.dropped.useless, Dropped::Useless),
            (&self.dropped.collinear, Dropped::Collinear),
            (&self.dropped.constant, Dropped::Constant),
        ] {
            for name in names {
                dropped.push((index(name)?, why));
            }
        }
        dropped.sort_unstable();
        let linear = Linear {
            intercept: self.intercept,
            coef,
            sigma: finite_size(&format!("sigma of class {class}"), self.sigma)?,
            margin: self.margin,
            long_margin: self.long_margin,
            samples: self.samples,
            chosen,
            dropped,
        };
        linear
            .quantise()
            .map_err(|error| Problem::Unusable { class, error })?;
        Ok(linear)
    }
}
