//! Model files: what one run has learned, the next one uses from its first second.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Running, SCX_ML, run, state, wait_for};
use crate::load;

/// Learn from alternating threads until a model was published, and keep it in `path`.
fn learn_into(path: &str) {
    let mut running = Running::start(&["--refit-interval", "2", "--save-model", path]);
    let load = load::alternating(4);
    // The first model may be one of young tasks alone, of whom there are none before long.
    running.stats_until(Duration::from_secs(120), |s| {
        s.models_published > 0 && s.slices_predicted > 200
    });
    let written = wait_for(Duration::from_secs(30), || Path::new(path).exists());
    assert!(written, "{}", running.log());
    load.end();
    let log = running.stop();
    assert!(log.contains("the model is kept in"), "{log}");
}

#[test]
fn a_saved_model_predicts_from_the_first_second_and_nothing_else_is_learned() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.toml");
    let path = path.to_str().expect("plain text");
    learn_into(path);

    let mut running = Running::start(&["--mode", "frozen", "--model", path]);
    let load = load::alternating(4);
    // Long before a window would be full enough for a first fit.
    let stats = running.stats_until(Duration::from_secs(30), |s| s.slices_predicted > 50);
    assert_eq!(stats.models_fitted, 0, "{stats:#?}");
    assert_eq!((stats.generation, stats.models_published), (1, 1));
    std::thread::sleep(Duration::from_secs(5));
    let stats = running.stats();
    assert_eq!(
        (stats.models_fitted, stats.generation),
        (0, 1),
        "{stats:#?}"
    );
    load.end();
    let log = running.stop();
    assert!(log.contains("published, from a file"), "{log}");

    // The other modes begin with it too, and judge it.
    let mut running = Running::start(&["--refit-interval", "2", "--model", path]);
    let load = load::alternating(4);
    let stats = running.stats_until(Duration::from_secs(90), |s| s.models_fitted > 0);
    assert!(stats.parity_checked > 0, "{stats:#?}");
    assert_eq!(stats.parity_errors, 0, "{stats:#?}");
    load.end();
    running.stop();

    refuse_for_another_kernel(path);
}

/// The same model, as if another kernel had trained it.
fn refuse_for_another_kernel(path: &str) {
    let text = std::fs::read_to_string(path).expect("the model");
    let foreign = text.replace("kernel = \"", "kernel = \"4.");
    assert_ne!(text, foreign);
    std::fs::write(path, foreign).expect("written");
    let (code, out, err) = run(Command::new(SCX_ML).args(["--model", path]));
    assert_eq!(code, Some(1), "{out}{err}");
    assert!(
        err.contains("it was trained on Linux 4.") && err.contains("--model-any-kernel"),
        "{err}"
    );
    assert_eq!(state(), "disabled", "nothing was loaded");

    let running = Running::start(&["--model", path, "--model-any-kernel"]);
    running.stop();
}

#[test]
fn what_is_no_model_or_cannot_be_written_is_refused_before_anything_is_loaded() {
    for (args, needle) in [
        (["--model", "/etc/passwd"], "it is not TOML"),
        (["--model", "/nonexistent"], "cannot read it"),
        (
            ["--save-model", "/nonexistent/model.toml"],
            "cannot write it",
        ),
        (["--save-model", "/proc"], "it is no regular file"),
    ] {
        let (code, out, err) = run(Command::new(SCX_ML).args(args));
        assert_eq!(code, Some(1), "{out}{err}");
        assert!(err.starts_with("scx_ml: ") && err.contains(needle), "{err}");
        assert_eq!(state(), "disabled");
    }
}
