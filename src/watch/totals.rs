//! `scx_ml totals`: what the scheduler that runs has come to since it was attached, in words for whoever is new to it.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use scx_ml_text::{Show, json};

use crate::watch::ask::{Connection, SOCKET};
use crate::watch::stats::{Metrics, percent};
use crate::watch::units::duration;
use crate::watch::verdicts::Verdict;

/// What they are asked for as, on the stats socket.
pub const TARGET: &str = "totals";

/// Ask, and print them; as JSON for machines.
///
/// # Errors
/// When no scheduler answers, or nothing can be printed.
pub fn run(as_json: bool) -> Result<()> {
    let totals: Metrics = Connection::open(Path::new(SOCKET), "totals")?.ask(TARGET, &[])?;
    let mut out = io::stdout().lock();
    if as_json {
        writeln!(out, "{}", json(&serde_json::to_string_pretty(&totals)?))?;
        return Ok(());
    }
    totals.render(&mut out)?;
    Ok(())
}

impl Metrics {
    /// Write for a person how well was predicted, beside what would steer without a model, and what came of it.
    ///
    /// # Errors
    /// When `w` does not take it.
    pub fn render(&self, w: &mut impl Write) -> io::Result<()> {
        let latency = |q| {
            let ns = self.latency_quantile_ns(q);
            ns.map_or("-".into(), |ns| duration(ns as u64))
        };
        writeln!(
            w,
            "mode {}, {:.0} s: {} bursts of CPU; from its wake-up to its CPU a task took {} (half of them less), {} (99 %)",
            self.mode.shown(),
            self.span_s,
            self.bursts,
            latency(0.5),
            latency(0.99),
        )?;
        let all: Verdict = self.classes.values().sum();
        if all.judged == 0 {
            return writeln!(w, "nothing was predicted");
        }
        writeln!(
            w,
            "lengths were predicted of {:.0} % of the bursts; mean |error| in octaves (1 is a factor of two), beside that of\n\
             the kind's average, which steers where no model does:",
            percent(all.judged, all.bursts)
        )?;
        writeln!(
            w,
            "  {:12} {:>9} {:>10} {:>7} {:>15}",
            "tasks", "bursts", "predicted", "model", "kind's average"
        )?;
        let mut row = |name: &str, bursts, judged, errors: Option<(f64, f64)>| {
            let share = percent(judged, bursts);
            write!(w, "  {name:12} {bursts:>9} {share:>8.0} %")?;
            match errors {
                None => writeln!(w, " {:>7} {:>15}", "-", "-"),
                Some((model, average)) => writeln!(
                    w,
                    " {model:>7.3} {average:>15.3}  {}",
                    difference(model, average)
                ),
            }
        };
        for (name, class) in &self.classes {
            row(
                &name.shown().to_string(),
                class.bursts,
                class.judged,
                class.errors(),
            )?;
        }
        row("all", all.bursts, all.judged, all.errors())?;
        writeln!(
            w,
            "no model was asked about {:.0} % of the bursts, which are surely short by their kind's average, and about {:.0} % with\n\
             whose tasks it gains nothing\n\
             slices: {:.0} % from a prediction, {:.0} % from the kind's average, {:.0} % from the base policy\n\
             {:.1} % of the predicted bursts ended within their predicted 95 % quantile; fallbacks to the kind's average: {}",
            percent(self.spared, self.bursts),
            percent(self.no_gain, self.bursts),
            self.predicted_share(),
            percent(self.slices_average, self.slices()),
            percent(self.slices_base, self.slices()),
            percent(all.held, all.judged),
            self.fallbacks,
        )
    }
}

/// How much smaller or larger an error is than another.
fn difference(error: f64, than: f64) -> String {
    if than <= 0.0 {
        return String::new();
    }
    match (100.0 * (error / than - 1.0)).round() {
        0.0 => "the same".into(),
        more if more > 0.0 => format!("{more:.0} % MORE"),
        less => format!("{:.0} % less", -less),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        let mut text = vec![];
        metrics.render(&mut text).expect("written");
        String::from_utf8(text).expect("text")
    }

    #[test]
    fn gains_and_losses_are_told_by_class() {
        let class = |err_model: f64, err_avg| Verdict {
            bursts: 100,
            judged: 50,
            held: 47,
            err_model,
            err_avg,
            ..Default::default()
        };
        let metrics = Metrics {
            mode: "learn".into(),
            bursts: 400,
            spared: 100,
            no_gain: 40,
            slices_predicted: 30,
            slices_average: 50,
            slices_base: 20,
            classes: [
                ("batch".into(), class(60.0, 40.0)),
                ("interactive".into(), class(20.0, 60.0)),
                ("young".into(), Verdict::default()),
            ]
            .into(),
            ..Default::default()
        };
        let text = text(&metrics);
        for line in [
            "  batch              100       50 %   1.200           0.800  50 % MORE\n",
            "  interactive        100       50 %   0.400           1.200  67 % less\n",
            "  young                0        0 %       -               -\n",
            "  all                200       50 %   0.800           1.000  20 % less\n",
            "no model was asked about 25 % of the bursts, which",
            "average, and about 10 % with\nwhose tasks it gains nothing\n",
            "slices: 30 % from a prediction, 50 % from the kind's average, 20 % from the base policy\n",
            "94.0 % of the predicted bursts ended within",
            "average: 0\n",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
    }

    #[test]
    fn without_predictions_there_is_nothing_to_compare() {
        let text = text(&Metrics::default());
        assert!(text.ends_with("nothing was predicted\n") && !text.contains("NaN"));
    }
}
