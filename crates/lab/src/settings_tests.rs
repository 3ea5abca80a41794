//! Tests of the configuration: strictness, defaults, and that a saved experiment can be read back.

use crate::settings::*;

fn one_headline(_: &WorkloadSpec) -> crate::error::Result<usize> {
    Ok(1)
}

const FILE: &str = r#"
    seed = 7
    seconds = 3
    [[scheduler]]
    command = "scx_ml --mode base"
    label = "base"
    [[workload]]
    name = "open-loop"
    load = 0.7
    [[workload]]
    name = "fairness"
    seconds = 20
"#;

#[test]
fn a_file_is_resolved_with_the_baseline_added() {
    let e = Request::from_toml(FILE, "f")
        .and_then(|r| r.resolve(one_headline))
        .expect("valid");
    let labels: Vec<&str> = e.schedulers.iter().map(|s| s.label.as_str()).collect();
    assert_eq!(labels, ["eevdf", "base"]);
    assert_eq!(e.workloads[0].label, "open-loop:load=0.7");
    assert_eq!(e.workloads[1].seconds, Some(20.0));
    assert_eq!((e.seed, e.seconds, e.blocks), (7, 3.0, 5));

    let mut r = Request::from_toml(FILE, "f").expect("valid");
    r.baseline = Some("base".to_string());
    let e = r.resolve(one_headline).expect("valid");
    let labels: Vec<&str> = e.schedulers.iter().map(|s| s.label.as_str()).collect();
    assert_eq!(labels, ["base"], "a lone scheduler may be its own baseline");
}

#[test]
fn the_command_line_goes_over_the_file() {
    let cli = Request {
        seed: Some(9),
        workloads: vec![WorkloadSpec::parse("timer").expect("valid")],
        ..Request::default()
    };
    let e = cli
        .over(Request::from_toml(FILE, "f").expect("valid"))
        .resolve(one_headline)
        .expect("valid");
    assert_eq!((e.seed, e.seconds), (9, 3.0));
    assert_eq!(e.workloads.len(), 1);
}

#[test]
fn unknown_keys_are_refused_at_every_level() {
    for (text, want) in [
        ("secnods = 3", "did you mean `seconds`?"),
        (
            "[[scheduler]]\ncommand = 'eevdf'\nlable = 'x'",
            "did you mean `label`?",
        ),
        ("[[workloads]]\nname = 'x'", "did you mean `workload`?"),
    ] {
        let err = Request::from_toml(text, "f")
            .expect_err("must fail")
            .to_string();
        assert!(err.contains(want), "{err}");
    }
}

#[test]
fn a_saved_experiment_reads_back_the_same() {
    let mut r = Request::from_toml(FILE, "f").expect("valid");
    r.schedulers.push(SchedulerSpec::from_command("eevdf"));
    r.workloads
        .push(WorkloadSpec::parse("open-loop:workers=shared,load=0.5").expect("valid"));
    let e = r.resolve(one_headline).expect("valid");
    let text = e.to_toml().expect("writable");
    let back = Request::from_toml(&text, "saved")
        .and_then(|r| r.resolve(one_headline))
        .expect("readable");
    assert_eq!(back, e);
}

#[test]
fn a_scheduler_against_itself_gets_two_labels() {
    let r = Request {
        schedulers: vec![
            SchedulerSpec::from_command("eevdf"),
            SchedulerSpec::from_command("eevdf"),
        ],
        workloads: vec![WorkloadSpec::parse("timer").expect("valid")],
        ..Request::default()
    };
    let e = r.resolve(one_headline).expect("valid");
    assert_eq!(e.schedulers[1].label, "eevdf#2");
    assert!(e.schedulers[1].is_kernel());
}

#[test]
fn the_kernels_own_scheduler_is_the_baseline_under_any_label() {
    let text = "[[scheduler]]\ncommand = 'eevdf'\nlabel = 'kernel'\n[[workload]]\nname = 'timer'";
    let e = Request::from_toml(text, "f")
        .and_then(|r| r.resolve(one_headline))
        .expect("valid");
    assert_eq!((e.baseline.as_str(), e.schedulers.len()), ("kernel", 1));
}

#[test]
fn parameters_on_the_command_line_are_typed() {
    let w = WorkloadSpec::parse("open-loop:load=0.9,slots=3,workers=shared,seconds=4,label=x")
        .expect("valid");
    assert_eq!(w.params["load"].as_float(), Some(0.9));
    assert_eq!(w.params["slots"].as_integer(), Some(3));
    assert_eq!(w.params["workers"].as_str(), Some("shared"));
    assert_eq!((w.seconds, w.label.as_str()), (Some(4.0), "x"));
    assert!(WorkloadSpec::parse("open-loop:load").is_err());
}

#[test]
fn more_headlines_ask_for_more_blocks() {
    let r = Request {
        workloads: vec![WorkloadSpec::parse("timer").expect("valid")],
        ..Request::default()
    };
    let e = r.resolve(|_| Ok(20)).expect("valid");
    assert_eq!(
        e.blocks, 6,
        "with 20 comparisons five blocks could never give a verdict"
    );
}
