//! Model files: a bank of models as text, to be kept, looked at and used again.
//!
//! TOML, for people: coefficients by the names of their features. A file is checked as a stranger's: what is not
//! exactly a model of this version, for these features and this kernel, is refused with what was found and what to do.

mod format;
mod problem;
mod text;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::model::Model;
use format::MAX_BYTES;

pub use problem::{ModelFileError, Problem};

/// Where a model comes from: the samples that it was fitted and judged on.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Release of the kernel that they were recorded on, as `uname -r` gives it.
    pub kernel: String,
    /// Architecture and number of CPUs.
    pub machine: String,
    /// The boot that the times below are of.
    pub boot_id: String,
    /// End of the oldest and of the newest burst, CLOCK_MONOTONIC ns.
    pub from_ns: u64,
    pub until_ns: u64,
    /// What has to be added to CLOCK_MONOTONIC to have nanoseconds since 1970.
    pub monotonic_to_unix_ns: i64,
    /// Number of samples.
    pub samples: usize,
    /// Mean |log2 error| on the judging samples, octaves: of the bank, the kind's average standing in where it has no
    /// model, and of that average alone.
    pub error_model: f64,
    pub error_avg: f64,
}

/// A model with its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    pub origin: Origin,
    pub model: Model,
}

impl ModelFile {
    /// Whether it was trained on a kernel of the same first two numbers as `here`.
    ///
    /// # Errors
    /// When it was not.
    pub fn check_kernel(&self, here: &str) -> Result<(), Problem> {
        if same_minor(&self.origin.kernel, here) {
            return Ok(());
        }
        Err(Problem::Kernel {
            found: self.origin.kernel.clone(),
            here: here.into(),
        })
    }

    /// Read a file, for use on or about the kernel `here`; None: any.
    ///
    /// # Errors
    /// See [`Problem`].
    pub fn load(path: &Path, here: Option<&str>) -> Result<Self, ModelFileError> {
        let read = || -> Result<Self, Problem> {
            let file = Self::from_text(&read_text(path)?)?;
            here.map_or(Ok(()), |here| file.check_kernel(here))?;
            Ok(file)
        };
        read().map_err(|problem| ModelFileError {
            path: path.into(),
            problem,
        })
    }

    /// Write a file: whole or not at all, readable by all.
    ///
    /// # Errors
    /// When it cannot be written; what was there before then still is.
    pub fn save(&self, path: &Path) -> Result<(), ModelFileError> {
        let write = || -> std::io::Result<()> {
            let mut beside = file_beside(path)?;
            beside.write_all(self.to_text().as_bytes())?;
            beside
                .as_file()
                .set_permissions(std::fs::Permissions::from_mode(0o644))?;
            beside.as_file().sync_all()?;
            beside.persist(path)?;
            Ok(())
        };
        write().map_err(|error| cannot("write", path, error))
    }
}

/// Whether a model could be written to this path.
///
/// # Errors
/// When it could not.
pub fn check_writable(path: &Path) -> Result<(), ModelFileError> {
    if path.is_dir() {
        return Err(ModelFileError {
            path: path.into(),
            problem: Problem::NoFile,
        });
    }
    file_beside(path)
        .map(drop)
        .map_err(|error| cannot("write", path, error))
}

/// A file in the same folder that is gone when dropped, to be written and then renamed.
fn file_beside(path: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    tempfile::Builder::new()
        .prefix(".scx_ml-model-")
        .tempfile_in(folder)
}

fn cannot(what: &'static str, path: &Path, error: std::io::Error) -> ModelFileError {
    ModelFileError {
        path: path.into(),
        problem: Problem::Io { what, error },
    }
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let io = |error| Problem::Io {
        what: "read",
        error,
    };
    // Before it is opened: a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(Problem::NoFile);
    }
    let mut bytes = vec![];
    std::fs::File::open(path)
        .map_err(io)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Problem::TooLarge);
    }
    String::from_utf8(bytes).map_err(|e| Problem::NotToml(e.utf8_error().to_string()))
}

/// Whether two versions have the same first two numbers.
fn same_minor(a: &str, b: &str) -> bool {
    let minor = |v: &str| -> Option<(u32, u32)> {
        let mut parts = v.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    };
    minor(a).is_some() && minor(a) == minor(b)
}

/// A time of CLOCK_MONOTONIC for people.
pub fn utc(monotonic_ns: u64, monotonic_to_unix_ns: i64) -> String {
    let ns = i128::from(monotonic_ns) + i128::from(monotonic_to_unix_ns);
    OffsetDateTime::from_unix_timestamp(
        ns.div_euclid(1_000_000_000).clamp(0, i64::MAX.into()) as i64
    )
    .ok()
    .and_then(|t| t.format(&Rfc3339).ok())
    .unwrap_or_else(|| "unknown".into())
}

#[cfg(test)]
pub mod tests {
    use super::format::VERSION;
    use super::*;
    use crate::kernel::bpf::{MODEL_TERMS, NR_FEATURES};
    use crate::kernel::features;
    use crate::model::{Chosen, Dropped, Linear};
    use proptest::prelude::*;

    /// A file with two classes.
    pub fn file() -> ModelFile {
        let mut coef = [0.0; NR_FEATURES];
        (coef[4], coef[0], coef[31]) = (0.1 + 0.2, -1.0 / 3.0, 1e-9);
        let linear = Linear {
            intercept: 1.0,
            coef,
            sigma: 0.7,
            margin: 1.25,
            long_margin: 2.0,
            samples: 1600,
            chosen: [(4, 0.5), (0, 0.125), (31, 1e-5)]
                .map(|(feature, explains)| Chosen { feature, explains })
                .to_vec(),
            dropped: vec![
                (1, Dropped::Collinear),
                (2, Dropped::Useless),
                (3, Dropped::Useless),
                (25, Dropped::Constant),
            ],
        };
        let mut model = Model::default();
        model.classes[1] = Some(linear.clone());
        model.classes[3] = Some(Linear {
            intercept: std::f64::consts::PI,
            ..linear
        });
        ModelFile {
            origin: Origin {
                kernel: "6.18.15+deb13-amd64".into(),
                machine: "x86_64".into(),
                boot_id: "3644c112-a0ba-4f1b-8feb-9fc7ba8c8f8d".into(),
                from_ns: 1_000_000_000,
                until_ns: 61_000_000_000,
                monotonic_to_unix_ns: 1_700_000_000_000_000_000,
                samples: 2000,
                error_model: 0.5,
                error_avg: 1.1,
            },
            model,
        }
    }

    /// What is wrong with the file when `from` is replaced.
    fn broken(from: &str, to: &str) -> Problem {
        let text = file().to_text();
        assert!(text.contains(from), "no '{from}' in:\n{text}");
        ModelFile::from_text(&text.replace(from, to)).expect_err(to)
    }

    #[test]
    fn a_file_read_again_is_the_same_to_the_last_bit() {
        let written = file();
        let text = written.to_text();
        assert_eq!(ModelFile::from_text(&text).expect("a model"), written);
        assert!(
            text.contains("until_utc = \"2023-11-14T22:14:21Z\""),
            "{text}"
        );
        let order = ["log_burst = ", "last_burst = ", "threads = "];
        let at: Vec<_> = order.iter().map(|n| text.find(n)).collect();
        assert!(at.is_sorted(), "in the order of choice:\n{text}");
    }

    #[test]
    fn what_is_not_a_model_of_this_version_is_named() {
        use Problem::*;
        assert!(matches!(broken("format = 1", "format = 2"), Format { .. }));
        assert!(matches!(broken("format = 1", ""), NoModel(_)));
        let version = format!("\"{VERSION}\"");
        assert!(matches!(broken(&version, "\"0.2.0\""), Version { .. }));
        assert!(matches!(broken(&version, "\"\""), Version { .. }));
        let set = format!("{:016x}", features::set_id());
        assert!(matches!(broken(&set, "0"), FeatureSet { .. }));
        assert!(matches!(broken("class.batch", "class.huge"), UnknownClass(c) if c == "huge"));
        assert!(matches!(
            broken("log_burst", "log_thirst"),
            UnknownFeature { feature, .. } if feature == "log_thirst"
        ));
        assert!(matches!(broken("sigma", "stigma"), NoModel(_)));
        assert!(matches!(broken("[trained]", "[trained"), NotToml(_)));
        assert!(matches!(
            broken("samples = 1600", "samples = -1"),
            NoModel(_)
        ));
    }

    #[test]
    fn numbers_that_the_kernel_does_not_take_are_refused() {
        use Problem::*;
        for bad in ["nan", "inf", "-inf", "1e9"] {
            let found = broken("sigma = 0.7", &format!("sigma = {bad}"));
            assert!(matches!(found, Number { .. }), "{found}");
            for (from, name) in [
                ("margin = 1.25", "margin"),
                ("intercept = 1.0", "intercept"),
            ] {
                let found = broken(from, &format!("{name} = {bad}"));
                assert!(matches!(found, Unusable { .. }), "{found}");
            }
            let found = broken(
                "log_burst = 0.30000000000000004",
                &format!("log_burst = {bad}"),
            );
            assert!(matches!(found, Unusable { .. }), "{found}");
        }
        let many: String = (0..=MODEL_TERMS)
            .map(|i| format!("{} = 0.5\n", features::name(i)))
            .collect();
        let text = file().to_text();
        let (head, _) = text.split_once("log_burst").expect("a coefficient");
        let found = ModelFile::from_text(&format!("{head}{many}"));
        assert!(
            matches!(found, Err(TooManyTerms { found: 17, .. })),
            "{found:?}"
        );
    }

    #[test]
    fn a_file_without_any_class_is_refused() {
        let empty = ModelFile {
            model: Model::default(),
            ..file()
        };
        let found = ModelFile::from_text(&empty.to_text());
        assert!(matches!(found, Err(Problem::NoClass)), "{found:?}");
    }

    #[test]
    fn another_kernel_is_refused_unless_any_will_do() {
        let folder = tempfile::tempdir().expect("created");
        let path = folder.path().join("model.toml");
        file().save(&path).expect("written");
        for (here, good) in [
            (Some("6.18.2"), true),
            (Some("6.17.9"), false),
            (Some("7.18.15"), false),
            (Some("unknown"), false),
            (None, true),
        ] {
            assert_eq!(ModelFile::load(&path, here).is_ok(), good, "{here:?}");
        }
        let error = ModelFile::load(&path, Some("6.17.9")).expect_err("another");
        let text = error.to_string();
        for part in ["model.toml", "6.18.15", "6.17.9", "--model-any-kernel"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn files_that_are_none_are_refused() {
        let folder = tempfile::tempdir().expect("created");
        let load = |path: &Path| ModelFile::load(path, None).expect_err("no file").problem;
        assert!(matches!(load(folder.path()), Problem::NoFile));
        assert!(matches!(load(Path::new("/dev/zero")), Problem::NoFile));
        let path = folder.path().join("model.toml");
        assert!(matches!(load(&path), Problem::Io { .. }));
        std::fs::write(&path, vec![b'#'; MAX_BYTES as usize + 1]).expect("written");
        assert!(matches!(load(&path), Problem::TooLarge));
        std::fs::write(&path, [0xff, 0xfe]).expect("written");
        assert!(matches!(load(&path), Problem::NotToml(_)));
    }

    #[test]
    fn it_is_readable_by_all_and_replaces_what_was_there() {
        let folder = tempfile::tempdir().expect("created");
        let path = folder.path().join("model.toml");
        std::fs::write(&path, "old").expect("written");
        file().save(&path).expect("written");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(ModelFile::load(&path, None).expect("a model"), file());
        let left = std::fs::read_dir(folder.path()).expect("read").count();
        assert_eq!(left, 1, "nothing is left beside it");
    }

    #[test]
    fn cut_anywhere_it_is_refused_or_still_sound() {
        let text = file().to_text();
        for end in (0..text.len()).filter(|&i| text.is_char_boundary(i)) {
            if let Ok(file) = ModelFile::from_text(&text[..end]) {
                file.model.quantise().expect("sound");
            }
        }
    }

    proptest! {
        #[test]
        fn any_model_survives_the_way_through_text(
            intercept in -60_000.0..60_000.0f64,
            sigma in 0.0..40.0f64,
            terms in proptest::collection::btree_map(0..NR_FEATURES, -15.0..15.0f64, 0..=MODEL_TERMS),
        ) {
            let mut written = file();
            let linear = written.model.classes[1].as_mut().expect("a model");
            (linear.intercept, linear.sigma) = (intercept, sigma);
            linear.coef = [0.0; NR_FEATURES];
            linear.chosen = terms
                .iter()
                .rev()
                .map(|(&feature, c)| Chosen { feature, explains: c.abs() / 15.0 })
                .collect();
            terms.iter().for_each(|(&i, &c)| linear.coef[i] = c);
            prop_assert_eq!(ModelFile::from_text(&written.to_text()).expect("a model"), written);
        }

        #[test]
        fn random_text_is_refused(text in "\\PC*") {
            prop_assert!(ModelFile::from_text(&text).is_err());
        }

        #[test]
        fn a_file_with_random_changes_is_refused_or_sound(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = file().to_text().into_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(file) = ModelFile::from_text(&String::from_utf8_lossy(&bytes)) {
                file.model.quantise().expect("sound");
            }
        }
    }
}
