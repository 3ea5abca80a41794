//! What the dashboard looks like.

use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::answer::{ClassModel, ClassWatch, Coefficients, Models, TaskLine};
use super::app::{App, Errors, Page};
use super::source::{BusyTask, Reading};
use super::usage::Busy;
use super::{print, view};
use crate::kernel::features;
use crate::watch::latency::BUCKETS;
use crate::watch::stats::Metrics;

fn class(name: &str, terms: &[(&str, f64)], fallback: bool) -> ClassModel {
    ClassModel {
        class: name.into(),
        model: (!terms.is_empty()).then(|| Coefficients {
            intercept: -2.5,
            margin: 1.25,
            terms: terms.iter().map(|(f, c)| (f.to_string(), *c)).collect(),
        }),
        watch: (!terms.is_empty()).then_some(ClassWatch {
            fallback,
            error_model: 0.5,
            error_avg: 1.25,
            fallbacks: 3,
            returns: 2,
        }),
        ..Default::default()
    }
}

fn reading() -> Reading {
    let mut latencies = vec![0; BUCKETS];
    (latencies[12], latencies[15], latencies[21]) = (900, 400, 40);
    let metrics = Metrics {
        mode: "learn".into(),
        uptime_s: 3_723.0,
        span_s: 2.0,
        wakeups: 1_340,
        latencies_log2: latencies,
        direct_idle: 300,
        queued_fresh: 24_690,
        slices_predicted: 900,
        slices_average: 100,
        generation: 7,
        model_samples: 7_667,
        judged: 10,
        error_model: 0.54,
        error_avg: 1.2,
        ..Default::default()
    };
    let models = Models {
        generation: 7,
        expired: false,
        classes: vec![
            class("kthread", &[], false),
            class("young", &[("seen", -0.25)], true),
            class(
                "interactive",
                &[("avg_burst", 0.5), ("seen", 0.0625)],
                false,
            ),
            class("batch", &[("cpu_load", 1.5)], false),
        ],
    };
    let task = |pid, comm: &str, cpu_share, kept| BusyTask {
        usage: Busy {
            pid,
            tgid: pid,
            comm: comm.into(),
            cpu_share,
        },
        kept,
    };
    let kept = TaskLine {
        pid: 649,
        class: Some("interactive".into()),
        steered_by: "model".into(),
        seen: 34,
        last_burst_ns: 520_000,
        predicted_ns: Some(852_000),
        average_ns: Some(7_360_000),
        error_model: Some(0.75),
        slice_ns: 19_200_000,
        avg_wait_ns: 0,
    };
    let tasks = vec![
        task(649, "cc1", 0.987, Some(kept)),
        task(12, "migration/0", 0.01, None),
    ];
    Reading {
        metrics,
        models,
        tasks,
    }
}

fn app(page: Page) -> App {
    let errors = (0..60).map(|s| Errors {
        uptime_s: 3_663.0 + f64::from(s),
        model: 0.5,
        avg: 1.3,
    });
    App {
        page,
        reading: Some(reading()),
        errors: errors.collect(),
        ..Default::default()
    }
}

fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let frame = terminal
        .draw(|frame| view::draw(app, frame.area(), frame.buffer_mut()))
        .expect("drawn");
    super::text::lines(frame.buffer).join("\n")
}

#[test]
fn odd_names_are_shown_escaped() {
    let mut app = app(Page::Tasks);
    let reading = app.reading.as_mut().expect("there is one");
    reading.tasks[0].usage.comm = "\x1b]0;e\x07\u{202e}\u{9b}".into();
    for (width, height) in [(80, 24), (120, 60)] {
        let shown = screen(&app, width, height);
        let printable = |c: char| c == '\n' || scx_ml_text::is_printable(c);
        assert!(shown.chars().all(printable), "{}", shown.escape_debug());
        assert!(shown.contains("\\x1b]0;e\\x07"), "{shown}");
    }
}

fn assert_shows(screen: &str, needles: &[&str]) {
    for needle in needles {
        assert!(screen.contains(needle), "no '{needle}' in\n{screen}");
    }
}

#[test]
fn the_overview_fits_an_old_terminal() {
    let shown = screen(&app(Page::Overview), 80, 24);
    println!("{shown}");
    assert_shows(
        &shown,
        &[
            "scx_ml learn   up 1:02:03   model 7 of 7667 samples",
            "[1 Overview]",
            "wake-ups              670",
            "fresh lane          12.3k",
            "slices by model       450    90.0 %",
            "Wake-to-run p50 ",
            "4us",
            "█",
            "young          in fallback        0.50       1.25        1         3       2",
            "kthread     kind's average           -",
            "|error|, octaves: model           0.54  ▄▄",
            "q quit",
        ],
    );
}

#[test]
fn a_large_terminal_has_a_chart_and_tasks_too() {
    let shown = screen(&app(Page::Overview), 120, 50);
    println!("{shown}");
    assert_shows(
        &shown,
        &[
            "model 0.54",
            "kind's average 1.20",
            "-59 s",
            "now",
            "•",
            "cc1",
            "852 us",
        ],
    );
}

#[test]
fn the_models_are_shown_by_feature_the_weightiest_first() {
    let shown = screen(&app(Page::Models), 80, 25);
    println!("{shown}");
    assert_shows(&shown, &["[2 Models]", "intercept", "+1.5000", "-0.2500"]);
    let place = |name: &str| shown.find(name).unwrap_or_else(|| panic!("no {name}"));
    assert!(place("cpu_load") < place("avg_burst") && place("avg_burst") < place("\n│seen"));
}

#[test]
fn the_tasks_are_shown_with_their_predictions() {
    let narrow = screen(&app(Page::Tasks), 80, 12);
    println!("{narrow}");
    assert_shows(&narrow, &["PID command", "98.7 interactive", "|err|│"]);
    let shown = screen(&app(Page::Tasks), 104, 12);
    println!("{shown}");
    assert_shows(
        &shown,
        &[
            "649 cc1",
            "98.7",
            "852 us",
            "7.36 ms",
            "0.75",
            "19.2 ms",
            "migration/0",
        ],
    );
}

#[test]
fn any_size_and_any_state_can_be_drawn() {
    for page in Page::ALL {
        let mut app = app(page);
        for (width, height) in [(1, 1), (3, 2), (20, 8), (80, 24), (300, 100)] {
            app.scroll = 1_000;
            screen(&app, width, height);
        }
        app.reading = Some(Reading::default());
        app.errors.clear();
        let shown = screen(&app, 100, 40);
        assert!(!shown.contains("NaN") && !shown.contains("inf"), "{shown}");
    }
    let mut app = App::default();
    assert_shows(&screen(&app, 80, 24), &["waiting for the scheduler"]);
    let trouble = "it has ended, ".repeat(6);
    (app.trouble, app.paused) = (Some(trouble), true);
    assert_shows(&screen(&app, 80, 24), &["(asking again)", "[paused]"]);
}

#[test]
fn without_colour_nothing_is_styled() {
    let mut terminal = Terminal::new(TestBackend::new(100, 50)).expect("a terminal");
    for (colour, styled) in [(false, false), (true, true)] {
        let app = App {
            colour,
            ..app(Page::Overview)
        };
        let frame = terminal
            .draw(|frame| view::draw(&app, frame.area(), frame.buffer_mut()))
            .expect("drawn");
        let found = frame
            .buffer
            .content
            .iter()
            .any(|cell| cell.fg != ratatui::style::Color::Reset || !cell.modifier.is_empty());
        assert_eq!(found, styled, "colour {colour}");
    }
}

#[test]
fn one_frame_is_plain_text() {
    let mut out = vec![];
    print(&mut out, &reading()).expect("printed");
    let text = String::from_utf8(out).expect("UTF-8");
    println!("{text}");
    assert!(!text.contains('\u{1b}'));
    assert_shows(
        &text,
        &[
            "[scx_ml learn] bursts",
            "wake-to-run p50",
            "in fallback",
            "cpu_load",
            "649 cc1",
        ],
    );
    assert!(text.lines().all(|line| !line.ends_with(' ')));
}

#[test]
fn features_are_called_as_the_kernel_calls_them() {
    assert!(
        ["seen", "avg_burst", "cpu_load"]
            .iter()
            .all(|f| features::index(f).is_some())
    );
}
