//! Statistics as an OpenMetrics text file, for the textfile collector of Prometheus' node_exporter.
//!
//! The collector reads Prometheus' own text format, which is older than OpenMetrics: the file keeps to what is the same
//! in both.
//!
//! All counters count since the scheduler was attached or the process was started, as is usual there.

use std::fmt::Write as _;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use scx_ml_text::{Show, lines};

use crate::kernel::bpf::intf::watch;
use crate::kernel::features;
use crate::kernel::trouble::Duty;
use crate::watch::latency;
use crate::watch::stats::Metrics;

/// How often the file is written where statistics are not printed.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);

/// Buckets of latency that are told: up to 17 s. Those beyond are in +Inf.
const LATENCY_BUCKETS: usize = 34;

/// Buckets of latency that are not told apart: below 1 us.
const LATENCY_FIRST: usize = 9;

/// Why a file cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write metrics to {}: {source}; give --metrics a file in a folder that is there",
    path.shown()
)]
pub struct MetricsFileError {
    path: PathBuf,
    source: std::io::Error,
}

/// Keeps the file.
pub struct MetricsFile {
    path: PathBuf,
    interval: Duration,
    due: Instant,
    writing: Duty,
}

impl MetricsFile {
    /// # Errors
    /// When nothing can be written there.
    pub fn new(path: &Path, interval: Duration) -> Result<Self, MetricsFileError> {
        // Before anything is loaded. A folder cannot be replaced by a file.
        match path.is_dir() {
            true => Err(std::io::Error::from(std::io::ErrorKind::IsADirectory)),
            false => beside(path).map(drop),
        }
        .map_err(|source| cannot(path, source))?;
        let works = format!("metrics are written to {}", path.shown());
        Ok(Self {
            path: path.into(),
            interval,
            due: Instant::now(),
            writing: Duty::new("the metrics file", works),
        })
    }

    /// Whether it is time to write.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Write what `read` gives, whole or not at all. What fails, be it the reading, is tried again when it is due again.
    pub fn write(&mut self, read: impl FnOnce() -> Result<String>) {
        self.due = Instant::now() + self.interval;
        let path = &self.path;
        self.writing.turn(|| {
            let text = read()?;
            Ok(replace(path, &text).map_err(|source| cannot(path, source))?)
        });
    }
}

fn cannot(path: &Path, source: std::io::Error) -> MetricsFileError {
    MetricsFileError {
        path: path.into(),
        source,
    }
}

/// A file in the same folder that is gone when dropped. The collector passes over its name.
fn beside(path: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    tempfile::Builder::new()
        .prefix(".scx_ml-metrics-")
        .tempfile_in(folder)
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = beside(path)?;
    beside.write_all(text.as_bytes())?;
    // The collector runs as another user. What it reads says nothing of single tasks.
    let readable = std::fs::Permissions::from_mode(0o644);
    beside.as_file().set_permissions(readable)?;
    beside.persist(path)?;
    Ok(())
}

impl Drop for MetricsFile {
    /// What is not measured any more must not look as if it were.
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A reading of everything since the start as text; `watches` by class.
pub fn text(metrics: &Metrics, watches: &[watch], version: &str) -> String {
    let mut t = Text::default();
    let info = [("version", version), ("mode", metrics.mode.as_str())];
    // Not of type info: the collector's parser knows the types of Prometheus' own format only.
    t.family(
        "scx_ml_build_info",
        "gauge",
        "",
        "the scheduler that runs: always 1",
    );
    t.sample("scx_ml_build_info", &info, 1.0);
    t.gauge(
        "uptime_seconds",
        "seconds",
        "time since the scheduler was attached",
        metrics.uptime_s,
    );

    for (name, description, value) in metrics.counters() {
        match name {
            "err_model_q8" | "err_avg_q8" => {}
            "wait_ns" => t.counter("wait_seconds", "seconds", description, value as f64 / 1e9),
            _ => t.counter(name, "", description, value as f64),
        }
    }
    let description = "sum of |predicted - actual| log2 burst over the bursts that were judged";
    t.family("scx_ml_error_octaves", "counter", "octaves", description);
    for (predictor, sum_q8) in [
        ("model", metrics.err_model_q8),
        ("kind_average", metrics.err_avg_q8),
    ] {
        let labels = [("predictor", predictor)];
        t.sample("scx_ml_error_octaves_total", &labels, sum_q8 as f64 / 256.0);
    }
    t.latency(metrics);
    t.learner(metrics);
    t.classes(metrics, watches);
    t.text.push_str("# EOF\n");
    t.text
}

#[derive(Default)]
struct Text {
    text: String,
}

impl Text {
    fn family(&mut self, name: &str, kind: &str, unit: &str, help: &str) {
        let text = &mut self.text;
        // Writing to a string does not fail.
        let _ = writeln!(text, "# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(text, "# HELP {name} {}", escaped(help));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }

    fn counter(&mut self, name: &str, unit: &str, help: &str, value: f64) {
        let name = format!("scx_ml_{name}");
        self.family(&name, "counter", unit, help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    fn gauge(&mut self, name: &str, unit: &str, help: &str, value: f64) {
        let name = format!("scx_ml_{name}");
        self.family(&name, "gauge", unit, help);
        self.sample(&name, &[], value);
    }

    fn latency(&mut self, metrics: &Metrics) {
        let name = "scx_ml_wake_to_run_seconds";
        let help = "time from a wake-up to the task's first running";
        self.family(name, "histogram", "seconds", help);
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (i, count) in metrics
            .latencies_log2
            .iter()
            .enumerate()
            .take(LATENCY_BUCKETS)
        {
            below += count;
            if i < LATENCY_FIRST {
                continue;
            }
            // Bounds are inclusive there; a bucket of ours ends a nanosecond before the next begins.
            let le = ((1u64 << (i + 1)) as f64 / 1e9).to_string();
            self.sample(&bucket, &[("le", &le)], below as f64);
        }
        let all = latency::total(&metrics.latencies_log2) as f64;
        self.sample(&bucket, &[("le", "+Inf")], all);
        self.sample(&format!("{name}_count"), &[], all);
        self.sample(&format!("{name}_sum"), &[], metrics.latency_ns as f64 / 1e9);
    }

    fn learner(&mut self, m: &Metrics) {
        for (name, help, value) in [
            ("received", "samples that user space has read", m.received),
            (
                "channel_dropped",
                "samples lost because the learner was behind",
                m.channel_dropped,
            ),
            ("undecodable", "records that were no samples", m.undecodable),
            ("recorded", "samples in the recording", m.recorded),
            (
                "record_lost",
                "samples that are not in the recording",
                m.record_lost,
            ),
            ("models_fitted", "fits", m.models_fitted),
            ("models_failed", "fits that failed", m.models_failed),
            (
                "models_published",
                "times that models of other classes were published than before",
                m.models_published,
            ),
            (
                "models_kept",
                "times that the published models were refined or confirmed",
                m.models_kept,
            ),
            (
                "models_withdrawn",
                "times that the last model was withdrawn because the kind's average was better",
                m.models_withdrawn,
            ),
            (
                "drifts",
                "times that a class's fits became worse than the kind's average",
                m.drifts,
            ),
            (
                "parity_checked",
                "predictions of the kernel that were recomputed",
                m.parity_checked,
            ),
            (
                "parity_errors",
                "of those, how many differed by more than the quantisation explains",
                m.parity_errors,
            ),
            (
                "troubles",
                "failures in user space that scheduling went on after",
                m.troubles,
            ),
        ] {
            self.counter(name, "", help, value as f64);
        }
        for (name, help, value) in [
            (
                "trainer_dead",
                "1: the trainer has ended with an error",
                m.trainer_dead,
            ),
            ("window_samples", "samples that are remembered", m.window),
            (
                "model_generation",
                "generation of the published model, 0 for none",
                m.generation,
            ),
            (
                "model_samples",
                "samples that the published model was fitted on",
                m.model_samples,
            ),
            ("profiles", "profiles in the process database", m.profiles),
            (
                "profiles_told",
                "profiles that the kernel uses",
                m.profiles_told,
            ),
        ] {
            self.gauge(name, "", help, value as f64);
        }
        let help = "CPU time that the last fit and judgement took";
        self.gauge("fit_seconds", "seconds", help, m.fit_us as f64 / 1e6);
    }

    fn classes(&mut self, m: &Metrics, watches: &[watch]) {
        let classes = || {
            watches
                .iter()
                .enumerate()
                .map(|(i, w)| (features::class_name(i), w))
        };
        let name = "scx_ml_class_fallback";
        let help = "1: the kernel does not use the model for this class of tasks at the moment";
        self.family(name, "gauge", "", help);
        for (class, w) in classes() {
            self.sample(
                name,
                &[("class", class)],
                f64::from(u8::from(w.fallback != 0)),
            );
        }
        let name = "scx_ml_class_sample_ratio";
        let help = "of the samples of this class that the rate allows, the share that is taken";
        self.family(name, "gauge", "", help);
        for ((class, _), of) in classes().zip(&m.thinning) {
            self.sample(name, &[("class", class)], 1.0 / *of as f64);
        }
        let name = "scx_ml_class_fallbacks";
        let help = "times that the kernel fell back from the model to the kind's average";
        self.family(name, "counter", "", help);
        for (class, w) in classes() {
            self.sample(
                &format!("{name}_total"),
                &[("class", class)],
                w.fallbacks.into(),
            );
        }
        let name = "scx_ml_class_error_octaves";
        let help = "running mean |error| of log2 burst by the kernel's own watch";
        self.family(name, "gauge", "octaves", help);
        for (class, w) in classes() {
            let (model, avg) = w.errors();
            for (predictor, error) in [("model", model), ("kind_average", avg)] {
                self.sample(name, &[("class", class), ("predictor", predictor)], error);
            }
        }
    }
}

/// Text as it may stand in a help line or between quotes: what cannot be seen as everywhere, then by the rules of the format.
fn escaped(text: &str) -> String {
    lines(text)
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::bpf::NR_CLASSES;
    use openmetrics_parser::openmetrics::parse_openmetrics;

    fn metrics() -> Metrics {
        let mut latencies_log2 = vec![0; latency::BUCKETS];
        (latencies_log2[3], latencies_log2[20], latencies_log2[60]) = (5, 30, 1);
        Metrics {
            mode: "learn".into(),
            uptime_s: 12.5,
            bursts: 77,
            wait_ns: 1_500_000_000,
            latencies_log2,
            latency_ns: 2_000_000_000,
            err_model_q8: 512,
            thinning: vec![1, 1, 4, 1],
            ..Default::default()
        }
    }

    fn exposition() -> String {
        let mut watches = [watch::default(); NR_CLASSES];
        watches[2].fallback = 1;
        text(&metrics(), &watches, "0.1.0 \"odd\\name\"")
    }

    #[test]
    fn a_parser_of_openmetrics_takes_it() {
        // The specification lets histograms have units, as Prometheus' own client does; this parser does not.
        let text = exposition().replace("# UNIT scx_ml_wake_to_run_seconds seconds\n", "");
        println!("{text}");
        let parsed = parse_openmetrics(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let counters = metrics().counters().count();
        assert!(
            parsed.families.len() > counters,
            "{}",
            parsed.families.len()
        );
        let wait = &parsed.families["scx_ml_wait_seconds"];
        assert_eq!(wait.unit, "seconds");
        assert!(wait.help.contains("runnable but did not run"));
        assert!(parsed.families.contains_key("scx_ml_wake_to_run_seconds"));
    }

    #[test]
    fn odd_labels_are_escaped_by_the_rules() {
        let odd = "\x1b[2J\u{202e}\u{7f}a\\b\"c\nd";
        let mut metrics = metrics();
        metrics.mode = odd.into();
        let text = text(&metrics, &[watch::default(); NR_CLASSES], odd)
            .replace("# UNIT scx_ml_wake_to_run_seconds seconds\n", "");
        let printable = |c: char| c == '\n' || scx_ml_text::is_printable(c);
        assert!(text.chars().all(printable));
        let expected = r#"mode="\\x1b[2J\\xe2\\x80\\xae\\x7fa\\b\"c\nd""#;
        assert!(text.contains(expected), "{}", &text[..400]);
        parse_openmetrics(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    }

    #[test]
    fn the_collector_knows_every_type() {
        let text = exposition();
        let types = text.lines().filter(|line| line.starts_with("# TYPE"));
        let kinds: std::collections::BTreeSet<_> =
            types.filter_map(|line| line.split(' ').nth(3)).collect();
        let known = ["counter", "gauge", "histogram"];
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), known);
    }

    #[test]
    fn values_are_in_base_units_and_buckets_add_up() {
        let text = exposition();
        for line in [
            "scx_ml_bursts_total 77",
            "scx_ml_wait_seconds_total 1.5",
            "scx_ml_error_octaves_total{predictor=\"model\"} 2",
            "scx_ml_wake_to_run_seconds_bucket{le=\"0.000001024\"} 5",
            "scx_ml_wake_to_run_seconds_bucket{le=\"0.002097152\"} 35",
            "scx_ml_wake_to_run_seconds_bucket{le=\"+Inf\"} 36",
            "scx_ml_wake_to_run_seconds_count 36",
            "scx_ml_wake_to_run_seconds_sum 2",
            "scx_ml_class_fallback{class=\"interactive\"} 1",
            "scx_ml_class_sample_ratio{class=\"interactive\"} 0.25",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line} in\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn the_file_is_replaced_readable_for_all_and_goes_with_the_scheduler() {
        let folder = tempfile::tempdir().expect("created");
        let path = folder.path().join("scx_ml.prom");
        let mut file = MetricsFile::new(&path, DEFAULT_INTERVAL).expect("writable");
        assert!(file.is_due() && !path.exists());
        file.write(|| Ok("one\n".into()));
        file.write(|| Ok("two\n".into()));
        assert!(!file.is_due());
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "two\n");
        let mode = path.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        let entries = std::fs::read_dir(folder.path()).expect("read").count();
        assert_eq!(entries, 1, "something is left behind");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn what_fails_for_a_while_is_tried_again_when_it_is_due_again() {
        let parent = tempfile::tempdir().expect("created");
        let folder = parent.path().join("folder");
        let path = folder.join("scx_ml.prom");
        std::fs::create_dir(&folder).expect("created");
        let pause = Duration::from_millis(10);
        let mut file = MetricsFile::new(&path, pause).expect("writable");
        file.write(|| Err(anyhow::anyhow!("cannot read the kernel's counters")));
        assert!(!path.exists() && !file.is_due());
        std::fs::remove_dir(&folder).expect("removed");
        file.write(|| Ok("one\n".into()));
        std::fs::create_dir(&folder).expect("created");
        std::thread::sleep(pause);
        assert!(file.is_due());
        file.write(|| Ok("two\n".into()));
        assert_eq!(std::fs::read_to_string(&path).expect("there"), "two\n");
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("created");
        for path in [folder.path(), &folder.path().join("none/x.prom")] {
            let Err(error) = MetricsFile::new(path, DEFAULT_INTERVAL) else {
                panic!("{} was accepted", path.shown());
            };
            assert!(error.to_string().contains("give --metrics"), "{error}");
        }
    }
}
