//! An explanation as text.

use std::io::{self, Write};

use scx_ml_text::lines;

use super::{Class, Expectation, Explanation, Outcomes, Predicted, Prediction, Slice, State, Term};
use crate::learn::residuals::{HIGH_QUANTILE, LOW_QUANTILE};
use crate::watch::units::duration;

/// Width of the column of labels, and of what stands before each line.
const LABEL: usize = 11;

/// How text stands out on a terminal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// With the terminal's own codes.
    pub colour: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.into()
        }
    }

    /// What it is about.
    fn title(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What a line is about. Padded first: a terminal does not count codes.
    fn label(self, text: &str) -> String {
        self.paint("36", &format!("{text:LABEL$}"))
    }

    /// What is not as it should be.
    fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// What comes between readings.
    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// Writes lines under labels.
struct Page<'a, W> {
    w: &'a mut W,
    style: Style,
}

impl<W: Write> Page<'_, W> {
    fn line(&mut self, label: &str, text: &str) -> io::Result<()> {
        writeln!(self.w, "  {} {text}", self.style.label(label))
    }

    fn warning(&mut self, text: &str) -> io::Result<()> {
        let text = self.style.warning(text);
        self.line("", &text)
    }
}

impl Explanation {
    /// Write it for a person.
    ///
    /// # Errors
    /// When `w` does not take it.
    pub fn render(&self, w: &mut impl Write, style: Style) -> io::Result<()> {
        let mut page = Page { w, style };
        let title = lines(&format!(
            "{} (thread {} of process {})",
            self.task.comm, self.task.pid, self.task.tgid
        ));
        writeln!(page.w, "{}", style.title(&title))?;
        self.who(&mut page)?;
        self.now(&mut page)?;
        self.history(&mut page)?;
        if let Some(e) = &self.expectation {
            expectation(&mut page, e)?;
        }
        match &self.prediction {
            Predicted::None(why) => page.line("prediction", &format!("none: {why}"))?,
            Predicted::Burst(p) => prediction(&mut page, p)?,
        }
        match &self.slice {
            None => page.line("slice", "none was granted yet")?,
            Some(s) => slice(&mut page, s)?,
        }
        match &self.queueing {
            None => page.line("lane", "it was not queued yet")?,
            Some(q) => {
                page.line("lane", &format!("{}: {}", q.lane, q.why))?;
                if let Some(deadline) = &q.deadline {
                    page.line("deadline", deadline)?;
                }
            }
        }
        match self.own_thread {
            true => page.line("outcomes", "the scheduler's own threads are not judged")?,
            false => outcomes(&mut page, &self.outcomes)?,
        }
        if !self.steady {
            page.warning("the task was busy: this was put together from several of its moments")?;
        }
        Ok(())
    }

    fn who(&self, page: &mut Page<impl Write>) -> io::Result<()> {
        let mut text = format!(
            "{}, nice {}, weight {:.0}",
            self.task.policy, self.task.nice, self.weight
        );
        if let Some(cgroup) = &self.task.cgroup {
            text += &format!(", cgroup {cgroup}");
        }
        text += &match &self.waker {
            None if self.burst.state == State::NeverWoken => String::new(),
            None if self.mode == "base" => String::new(),
            None => ", woken by an interrupt or the idle task".into(),
            Some(waker) => format!(
                ", woken by {} ({})",
                waker.comm.as_deref().unwrap_or("a thread that has ended"),
                waker.pid
            ),
        };
        page.line("who", &lines(&text))?;
        match &self.class {
            None => Ok(()),
            Some(c) => class(page, c),
        }
    }

    fn now(&self, page: &mut Page<impl Write>) -> io::Result<()> {
        let burst = &self.burst;
        let (state, so_far) = match burst.state {
            State::NeverWoken => {
                return page.line("now", "not woken since the scheduler was loaded");
            }
            State::Waiting => ("waits for a CPU", " so far"),
            State::Running => ("runs", " so far"),
            State::Blocked => ("blocked", ""),
        };
        let woke = burst.woke_ago_ns.map_or_else(String::new, |ago| match ago {
            0 => "; woke just now".into(),
            ago => format!("; woke {} ago", duration(ago)),
        });
        page.line(
            "now",
            &format!(
                "{state}{woke}; this burst{so_far}: used {}, waited {}, preempted {}, changed CPU {}",
                duration(burst.used_ns),
                duration(burst.wait_ns),
                times(burst.preemptions),
                times(burst.migrations),
            ),
        )
    }

    fn history(&self, page: &mut Page<impl Write>) -> io::Result<()> {
        let h = &self.history;
        if h.seen == 0 {
            return page.line(
                "history",
                &match self.mode.as_str() {
                    "base" => "none is kept in base mode".into(),
                    _ => format!(
                        "no burst has ended yet; {} is assumed, its parent's average or a guess",
                        duration(h.log_burst_ns)
                    ),
                },
            );
        }
        page.line(
            "history",
            &format!(
                "{} bursts; last {}, before {}; average {} (1/4), {} (1/2), {} (of log2), spread {:.2} octaves",
                h.seen,
                duration(h.last_burst_ns),
                duration(h.prev_burst_ns),
                duration(h.avg_burst_ns),
                duration(h.half_burst_ns),
                duration(h.log_burst_ns),
                h.burst_spread,
            ),
        )?;
        page.line(
            "",
            &format!(
                "slept {}, on average {}; waited {}, on average {}",
                duration(h.last_sleep_ns),
                duration(h.avg_sleep_ns),
                duration(h.last_wait_ns),
                duration(h.avg_wait_ns),
            ),
        )
    }
}

fn times(n: u32) -> String {
    match n {
        0 => "never".into(),
        1 => "once".into(),
        n => format!("{n} times"),
    }
}

fn class(page: &mut Page<impl Write>, class: &Class) -> io::Result<()> {
    page.line("class", &format!("{}: {}", class.name, class.description))?;
    let Some(watch) = &class.watch else {
        return Ok(());
    };
    let text = format!(
        "the kernel's watch: its model errs by {:.2} octaves, the kind's average by {:.2}; fell back {}, returned {}",
        watch.error_model,
        watch.error_avg,
        times(watch.fallbacks),
        times(watch.returns),
    );
    if watch.fallback {
        page.warning(&format!("{text}; the kind's average has taken over"))
    } else {
        page.line("", &text)
    }
}

fn expectation(page: &mut Page<impl Write>, e: &Expectation) -> io::Result<()> {
    let mut text = format!(
        "{}, as bursts that began alike took (off by {:.2} octaves)",
        duration(e.burst_ns),
        e.error
    );
    if let Some(stretched_ns) = e.stretched_ns {
        text += &format!("; {} if it is twice that", duration(stretched_ns));
    }
    if e.carries {
        text += "; it was cut, and goes before those who would wait for its end";
    }
    page.line("expected", &text)
}

fn prediction(page: &mut Page<impl Write>, p: &Prediction) -> io::Result<()> {
    page.line(
        "prediction",
        &format!(
            "{} by model {}; the kind's average said {}",
            duration(p.burst_ns),
            p.generation,
            duration(p.avg_burst_ns)
        ),
    )?;
    if p.terms_generation != 0 {
        terms(page, p)?;
    }
    for note in &p.notes {
        page.warning(note)?;
    }
    let low = p.low_quantile_ns.map_or_else(String::new, |low| {
        format!(
            "; {:.0} % last less than {}",
            100.0 * LOW_QUANTILE,
            duration(low)
        )
    });
    page.line(
        "quantile",
        &format!(
            "{:.0} % of such bursts end within {} (+{:.3} octaves){low}",
            100.0 * HIGH_QUANTILE,
            duration(p.quantile_ns),
            p.margin,
        ),
    )?;
    match &p.unused {
        None => Ok(()),
        Some(why) => page.warning(&format!("not used: {why}")),
    }
}

/// The table of terms, down to the sum.
fn terms(page: &mut Page<impl Write>, p: &Prediction) -> io::Result<()> {
    let width = |of: fn(&Term) -> &str, least: usize| {
        let widest = p.terms.iter().map(|t| of(t).chars().count()).max();
        widest.unwrap_or(0).max(least)
    };
    let (name, value) = (width(|t| &t.feature, 10), width(|t| &t.value, 5));
    page.line(
        "",
        &format!(
            "{:name$}  {:>value$}  {:>8}  {:>11}  {:>12}",
            "feature", "value", "log2", "coefficient", "contribution"
        ),
    )?;
    for t in &p.terms {
        page.line(
            "",
            &format!(
                "{:name$}  {:>value$}  {:>8.3}  {:>+11.4}  {:>+12.3}",
                t.feature, t.value, t.log2, t.coefficient, t.contribution
            ),
        )?;
    }
    // Label and number, under the columns of the terms.
    let empty = value + 8 + 11 + 6;
    page.line(
        "",
        &format!("{:name$}{:empty$}  {:>+12.3}", "intercept", "", p.intercept),
    )?;
    let verdict = if p.agrees {
        "as the kernel predicted".to_string()
    } else {
        format!("the kernel predicted {:.3}", p.log2)
    };
    page.line(
        "",
        &format!(
            "{:name$}{:empty$}  {:>12.3}  log2(ns), {verdict}",
            "sum", "", p.sum
        ),
    )
}

fn slice(page: &mut Page<impl Write>, s: &Slice) -> io::Result<()> {
    page.line(
        "slice",
        &format!("{}, {}: {}", duration(s.granted_ns), s.source, s.why),
    )?;
    if s.first_ns != 0 && s.first_ns != s.granted_ns {
        page.line(
            "",
            &format!("the burst's first slice was {}", duration(s.first_ns)),
        )?;
    }
    Ok(())
}

fn outcomes(page: &mut Page<impl Write>, o: &Outcomes) -> io::Result<()> {
    let (Some(error_model), Some(error_avg)) = (o.error_model, o.error_avg) else {
        return page.line("outcomes", "no predicted burst has ended yet");
    };
    page.line(
        "outcomes",
        &format!(
            "{:>9}  {:>9}  {:>9}  {:>10}  {:>7}  {:>9}  held",
            "burst", "predicted", "quantile", "kind's avg", "error", "its error"
        ),
    )?;
    for one in &o.last {
        page.line(
            "",
            &format!(
                "{:>9}  {:>9}  {:>9}  {:>10}  {:>+7.2}  {:>+9.2}  {}",
                duration(one.burst_ns),
                duration(one.predicted_ns),
                duration(one.quantile_ns),
                duration(one.avg_burst_ns),
                one.error_model,
                one.error_avg,
                if one.held { "yes" } else { "no" },
            ),
        )?;
    }
    let held = o.last.iter().filter(|one| one.held).count();
    page.line(
        "",
        &format!(
            "{:46}  {error_model:>7.2}  {error_avg:>9.2}  {held} of {}",
            "mean |error|, octaves",
            o.last.len()
        ),
    )
}
