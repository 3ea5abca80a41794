//! The gate: whether a candidate may be published, judged on samples newer than those it was fitted on.

use crate::fit::{FitError, Row, fit};
use crate::model::Model;

/// Share of the window, its newest part, that judges and is not fitted on.
const JUDGING_SHARE: f64 = 0.2;

/// A candidate must be better than the moving average, and than the published model, by this share of their errors.
const MARGIN: f64 = 0.01;

/// The quantiles of the residuals that become the model's margins.
const HIGH_QUANTILE: f64 = 0.95;
const LOW_QUANTILE: f64 = 0.05;

/// Mean |log2 error| on the judging samples, octaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    pub candidate: f64,
    pub avg: f64,
    /// None where nothing was published.
    pub published: Option<f64>,
}

/// What to do, and why.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The candidate beats the moving average and the published model.
    Publish(Model, Errors),
    /// The published model is still as good as the candidate and better than the moving average.
    Keep(Errors),
    /// Neither beats the moving average: better no model than this one.
    Withdraw(Errors),
}

/// Fit a candidate on the older part of `rows` (oldest first) and judge it on the newer.
///
/// # Errors
/// When no candidate can be fitted.
pub fn judge(rows: &[Row], published: Option<&Model>) -> Result<Verdict, FitError> {
    let split = rows.len() - (rows.len() as f64 * JUDGING_SHARE) as usize;
    let (older, newer) = rows.split_at(split);
    let mut candidate = fit(older)?;
    measure_margins(&mut candidate, newer);

    let errors = Errors {
        candidate: mean_error(newer, |r| candidate.predict(&r.x)),
        avg: mean_error(newer, |r| r.avg),
        published: published.map(|m| mean_error(newer, |r| m.predict(&r.x))),
    };
    let good = |error: f64| error < errors.avg * (1.0 - MARGIN);
    Ok(match errors.published {
        Some(p) if good(p) && errors.candidate >= p * (1.0 - MARGIN) => Verdict::Keep(errors),
        _ if good(errors.candidate) => Verdict::Publish(candidate, errors),
        _ => Verdict::Withdraw(errors),
    })
}

/// Weighted mean of |prediction - log2(burst)|.
fn mean_error(rows: &[Row], predict: impl Fn(&Row) -> f64) -> f64 {
    let total: f64 = rows.iter().map(|r| r.weight).sum();
    rows.iter()
        .map(|r| r.weight * (predict(r) - r.y).abs())
        .sum::<f64>()
        / total
}

/// Set the model's sigma and margins from its residuals on `rows`, by weight.
fn measure_margins(model: &mut Model, rows: &[Row]) {
    let mut residuals: Vec<(f64, f64)> = rows
        .iter()
        .map(|r| (r.y - model.predict(&r.x), r.weight))
        .collect();
    residuals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = residuals.iter().map(|r| r.1).sum();
    let quantile = |q: f64| {
        let mut below = 0.0;
        residuals
            .iter()
            .find(|r| {
                below += r.1;
                below >= q * total
            })
            .map_or(0.0, |r| r.0)
    };
    model.margin = quantile(HIGH_QUANTILE).max(0.0);
    model.long_margin = (-quantile(LOW_QUANTILE)).max(0.0);
    model.sigma = (residuals.iter().map(|(r, w)| w * r * r).sum::<f64>() / total).sqrt();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::NR_FEATURES;

    /// Rows in two modes that feature 6 reveals and the moving average does not know; `flip` swaps what it says.
    fn rows(n: usize, flip: bool) -> Vec<Row> {
        (0..n)
            .map(|i| {
                let long = (i * 7919) % 10 < 3;
                let noise = ((i * 104_729) % 1000) as f64 / 1000.0 - 0.5;
                let mut x = [10.0; NR_FEATURES];
                x[6] = if long != flip { 24.0 } else { 18.0 };
                x[1] = 20.0;
                Row {
                    x,
                    y: if long { 25.0 } else { 20.0 } + noise,
                    avg: x[1],
                    weight: 1.0,
                }
            })
            .collect()
    }

    fn published(rows: &[Row]) -> Model {
        match judge(rows, None).expect("a fit") {
            Verdict::Publish(model, _) => model,
            other => panic!("not published: {other:?}"),
        }
    }

    #[test]
    fn a_model_that_beats_the_moving_average_is_published_with_margins() {
        let model = published(&rows(2_000, false));
        assert!((model.margin - 0.45).abs() < 0.1, "{model:?}");
        assert!((model.long_margin - 0.45).abs() < 0.1, "{model:?}");
        assert!((model.sigma - 0.29).abs() < 0.05, "{model:?}");
    }

    #[test]
    fn an_equally_good_candidate_does_not_replace_the_published_model() {
        let rows = rows(2_000, false);
        let model = published(&rows);
        assert!(matches!(judge(&rows, Some(&model)), Ok(Verdict::Keep(_))));
    }

    #[test]
    fn a_better_candidate_replaces_a_published_model_that_the_world_has_left() {
        let model = published(&rows(2_000, false));
        assert!(matches!(
            judge(&rows(2_000, true), Some(&model)),
            Ok(Verdict::Publish(..))
        ));
    }

    #[test]
    fn where_the_moving_average_is_perfect_nothing_is_published_and_a_bad_model_is_withdrawn() {
        let bad = published(&rows(2_000, false));
        let mut perfect = rows(2_000, false);
        for row in &mut perfect {
            row.avg = row.y;
        }
        assert!(matches!(judge(&perfect, None), Ok(Verdict::Withdraw(_))));
        assert!(matches!(
            judge(&perfect, Some(&bad)),
            Ok(Verdict::Withdraw(_))
        ));
    }

    #[test]
    fn the_judging_samples_are_newer_than_the_fitted_ones() {
        // The relation turns round in the newest fifth: a split by chance would hide that, a split by time shows it.
        let mut turned = rows(1_600, false);
        turned.extend(rows(400, true));
        let verdict = judge(&turned, None).expect("a fit");
        assert!(matches!(verdict, Verdict::Withdraw(_)), "{verdict:?}");
    }
}
