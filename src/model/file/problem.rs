//! What can be wrong with a model file.

use std::path::PathBuf;

use scx_ml_text::Show;

use super::format::{FORMAT, MAX_BYTES, VERSION};
use crate::kernel::bpf::{MODEL_TERMS, NR_CLASSES};
use crate::kernel::features;
use crate::model::QuantiseError;

/// A model file that cannot be used, or not written.
#[derive(Debug, thiserror::Error)]
#[error("model file {}: {problem}", path.shown())]
pub struct ModelFileError {
    pub path: PathBuf,
    pub problem: Problem,
}

/// What is wrong with a model file, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("cannot {what} it: {error}")]
    Io {
        what: &'static str,
        error: std::io::Error,
    },
    #[error("it is no regular file; give the path of one")]
    NoFile,
    #[error(
        "it has more than {MAX_BYTES} bytes, a model has a few thousand; give a file that `scx_ml train` wrote"
    )]
    TooLarge,
    #[error("it is not TOML, or cut short ({0}); train or save the model again")]
    NotToml(String),
    #[error("it is no model ({0}); give a file that `scx_ml train` or --save-model wrote")]
    NoModel(String),
    #[error(
        "its format is {}, this scx_ml reads format {FORMAT}; train the model again with this version",
        .found.shown()
    )]
    Format { found: String },
    #[error(
        "scx_ml {} wrote it, this is {VERSION}: models fit versions with the same first two numbers; train it again",
        .found.shown()
    )]
    Version { found: String },
    #[error(
        "it was trained on the feature set {}, this scx_ml records {expected}; train it again with this version",
        .found.shown()
    )]
    FeatureSet { found: String, expected: String },
    #[error(
        "it was trained on Linux {}, this is about Linux {here}, where bursts may be different; train it again \
         there, or give --model-any-kernel to use it all the same",
        .found.shown()
    )]
    Kernel { found: String, here: String },
    #[error("there is no class of tasks '{}'; `scx_ml train` writes only {classes}", .0.shown(), classes = class_names())]
    UnknownClass(String),
    #[error(
        "class {class} uses the feature '{}', which does not exist; `scx_ml features` lists them",
        .feature.shown()
    )]
    UnknownFeature {
        class: &'static str,
        feature: String,
    },
    #[error(
        "class {class} has {found} coefficients, the kernel takes at most {MODEL_TERMS}; train it again"
    )]
    TooManyTerms { class: &'static str, found: usize },
    #[error("class {class} cannot be used: {error}; train it again")]
    Unusable {
        class: &'static str,
        error: QuantiseError,
    },
    #[error("{what} is {value}, which cannot be; train it again")]
    Number { what: String, value: f64 },
    #[error("it has no model for any class; train it on a longer recording")]
    NoClass,
}

fn class_names() -> String {
    let names: Vec<&str> = (0..NR_CLASSES).map(features::class_name).collect();
    names.join(", ")
}
