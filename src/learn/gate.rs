//! The gate: what may be published, judged on samples newer than those that were fitted on, class by class.

use log::debug;

use crate::kernel::bpf::NR_CLASSES;
use crate::kernel::features;
use crate::learn::fit::fit;
use crate::learn::least_squares::FitError;
use crate::learn::row::Row;
use crate::model::{Linear, Model};

/// Share of the window, its newest part, that judges and is not fitted on.
const JUDGING_SHARE: f64 = 0.2;

/// Fewest judging samples of a class for a judgement on it.
const MIN_JUDGING: usize = 20;

/// A class with fewer samples than this borrows from the others.
const BORROW_BELOW: usize = 1_000;

/// What is borrowed counts as so many samples.
const BORROWED_ROWS: f64 = 100.0;

/// Samples of other classes that are looked at, the newest.
const BORROWED_MOST: usize = 2_000;

/// A candidate must be better than the moving average, and than the published model, by this share of their errors.
const MARGIN: f64 = 0.01;

/// The quantiles of the residuals that become the model's margins.
pub const HIGH_QUANTILE: f64 = 0.95;
pub const LOW_QUANTILE: f64 = 0.05;

/// Mean |log2 error| on the judging samples, octaves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Errors {
    pub candidate: Option<f64>,
    pub avg: f64,
    /// None where nothing was published.
    pub published: Option<f64>,
    /// Judging samples.
    pub samples: usize,
}

/// What becomes of a class's model, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The candidate beats the moving average and the published model.
    Replace,
    /// The published model is as good as the candidate, and better than the moving average.
    Keep,
    /// Nothing beats the moving average: better no model.
    Withdraw,
    /// There are too few new samples to tell, or there is nothing to judge, for none could be fitted: as it was.
    Unjudged,
}

/// The gate's word on one class.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassVerdict {
    pub decision: Decision,
    pub errors: Errors,
}

/// The gate's word: the bank to use from now on, and how each class came to its model.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub model: Model,
    pub classes: [ClassVerdict; NR_CLASSES],
    /// Classes without a candidate, for none could be fitted, and why.
    pub unfitted: Vec<(usize, FitError)>,
    /// Over all judging samples: what the new bank would have erred, the moving average standing in where it has no
    /// model, and what the moving average alone did.
    pub error_model: f64,
    pub error_avg: f64,
}

impl Verdict {
    /// Whether the bank differs from the one before.
    pub fn changes(&self) -> bool {
        let changed = |c: &ClassVerdict| match c.decision {
            Decision::Replace => true,
            Decision::Withdraw => c.errors.published.is_some(),
            Decision::Keep | Decision::Unjudged => false,
        };
        self.classes.iter().any(changed)
    }

    /// One line about each class that was judged: name, decision, errors.
    pub fn describe(&self) -> String {
        let lines: Vec<String> = self
            .classes
            .iter()
            .enumerate()
            .filter(|(_, c)| c.decision != Decision::Unjudged)
            .map(|(i, c)| {
                let what = match c.decision {
                    Decision::Replace => "new",
                    Decision::Keep => "kept",
                    Decision::Withdraw => "none",
                    Decision::Unjudged => "unjudged",
                };
                let model = match c.decision {
                    Decision::Keep => c.errors.published,
                    _ => c.errors.candidate,
                };
                let model = model.map_or("-".to_string(), |e| format!("{e:.3}"));
                format!(
                    "{} {what} {model}/{:.3}",
                    features::class_name(i),
                    c.errors.avg
                )
            })
            .collect();
        lines.join(", ")
    }
}

/// The rows to fit on, and the newer ones to judge by.
pub fn split(rows: &[Row]) -> (&[Row], &[Row]) {
    rows.split_at(rows.len() - (rows.len() as f64 * JUDGING_SHARE) as usize)
}

/// Fit candidates on the older part of `rows` (oldest first) and judge them on the newer.
///
/// A class with few samples borrows from the others, see [`candidate`]. One that cannot be fitted has its published model
/// judged all the same, and the others go on.
pub fn judge(rows: &[Row], published: &Model) -> Verdict {
    let (older, newer) = split(rows);
    let mut verdict = Verdict {
        model: Model::default(),
        classes: [ClassVerdict {
            decision: Decision::Unjudged,
            errors: Errors::default(),
        }; NR_CLASSES],
        unfitted: vec![],
        error_model: 0.0,
        error_avg: 0.0,
    };
    for class in 0..NR_CLASSES {
        let newer: Vec<&Row> = newer.iter().filter(|r| r.class == class).collect();
        let before = published.classes[class].as_ref();
        if newer.len() < MIN_JUDGING {
            verdict.model.classes[class] = before.cloned();
            continue;
        }
        let candidate = match candidate(older, class) {
            Ok(candidate) => Some(candidate),
            Err(e) => {
                verdict.unfitted.push((class, e));
                None
            }
        };
        if candidate.is_none() && before.is_none() {
            continue;
        }
        let (chosen, judged) = judge_class(candidate, before, &newer);
        verdict.model.classes[class] = chosen;
        verdict.classes[class] = judged;
    }

    let predict = |r: &Row| verdict.model.predict(r.class, &r.x).unwrap_or(r.avg);
    let newer: Vec<&Row> = newer.iter().collect();
    verdict.error_model = mean_error(&newer, predict);
    verdict.error_avg = mean_error(&newer, |r| r.avg);
    verdict
}

/// Fit a class's model. The fewer samples it has, the more it is that of all classes: those of the others, the newest,
/// take part with weights that make them count as [`BORROWED_ROWS`] samples of its own (partial pooling; Gelman and Hill
/// 2007, chapter 12).
fn candidate(older: &[Row], class: usize) -> Result<Linear, FitError> {
    let own: Vec<&Row> = older.iter().filter(|r| r.class == class).collect();
    if own.len() >= BORROW_BELOW {
        return fit(&own);
    }
    let others = older.iter().rev().filter(|r| r.class != class);
    let mut borrowed: Vec<Row> = others.take(BORROWED_MOST).copied().collect();
    let weight = |rows: &mut dyn Iterator<Item = &Row>| rows.map(|r| r.weight).sum::<f64>();
    let own_weight = weight(&mut own.iter().copied());
    let scale = BORROWED_ROWS * own_weight / own.len() as f64 / weight(&mut borrowed.iter());
    if scale.is_finite() && scale < 1.0 {
        borrowed.iter_mut().for_each(|r| r.weight *= scale);
    }
    let mut model = fit(&own.iter().copied().chain(&borrowed).collect::<Vec<_>>())?;
    model.samples = own.len();
    Ok(model)
}

fn judge_class(
    candidate: Option<Linear>,
    published: Option<&Linear>,
    newer: &[&Row],
) -> (Option<Linear>, ClassVerdict) {
    // What the kernel would not take is no candidate, however well it predicts.
    let candidate = candidate.filter(|c| match c.quantise() {
        Ok(_) => true,
        Err(e) => {
            debug!("a candidate is not considered: {e}");
            false
        }
    });
    let errors = Errors {
        candidate: candidate
            .as_ref()
            .map(|c| mean_error(newer, |r| c.predict(&r.x))),
        avg: mean_error(newer, |r| r.avg),
        published: published.map(|m| mean_error(newer, |r| m.predict(&r.x))),
        samples: newer.len(),
    };
    let good = |error: Option<f64>| error.is_some_and(|e| e < errors.avg * (1.0 - MARGIN));
    let better = match (errors.candidate, errors.published) {
        (Some(c), Some(p)) => c < p * (1.0 - MARGIN),
        (Some(_), None) => true,
        (None, _) => false,
    };
    let (mut chosen, decision) = if good(errors.candidate) && (better || !good(errors.published)) {
        (candidate, Decision::Replace)
    } else if good(errors.published) {
        (published.cloned(), Decision::Keep)
    } else {
        (None, Decision::Withdraw)
    };
    if let Some(chosen) = &mut chosen {
        measure_margins(chosen, newer);
    }
    (chosen, ClassVerdict { decision, errors })
}

/// Weighted mean of |prediction - log2(burst)|; 0 for no rows.
pub fn mean_error(rows: &[&Row], predict: impl Fn(&Row) -> f64) -> f64 {
    let total: f64 = rows.iter().map(|r| r.weight).sum();
    if total == 0.0 {
        return 0.0;
    }
    rows.iter()
        .map(|r| r.weight * (predict(r) - r.y).abs())
        .sum::<f64>()
        / total
}

/// Set a model's sigma and margins from its residuals on `rows`, by weight.
pub fn measure_margins(model: &mut Linear, rows: &[&Row]) {
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
    use crate::kernel::bpf::NR_FEATURES;

    /// Rows of a class in two modes that feature 12 reveals and the moving average does not know; `flip` swaps what it
    /// says.
    fn rows(n: usize, class: usize, flip: bool) -> Vec<Row> {
        (0..n)
            .map(|i| {
                let long = (i * 7919) % 10 < 3;
                let noise = ((i * 104_729) % 1000) as f64 / 1000.0 - 0.5;
                let mut x = [10.0; NR_FEATURES];
                x[12] = if long != flip { 24.0 } else { 18.0 };
                Row {
                    x,
                    y: if long { 25.0 } else { 20.0 } + noise,
                    avg: 20.0,
                    weight: 1.0,
                    class,
                    end_ns: i as u64,
                }
            })
            .collect()
    }

    fn decisions(verdict: &Verdict) -> Vec<Decision> {
        verdict.classes.iter().map(|c| c.decision).collect()
    }

    use Decision::*;

    #[test]
    fn a_model_that_beats_the_moving_average_is_published_with_margins() {
        let verdict = judge(&rows(2_000, 2, false), &Model::default());
        assert!(verdict.changes());
        assert_eq!(decisions(&verdict), [Unjudged, Unjudged, Replace, Unjudged]);
        let model = verdict.model.classes[2].as_ref().expect("a model");
        assert!((model.margin - 0.45).abs() < 0.1, "{model:?}");
        assert!((model.long_margin - 0.45).abs() < 0.1, "{model:?}");
        assert!((model.sigma - 0.29).abs() < 0.05, "{model:?}");
        assert!(verdict.error_model < 0.3 && verdict.error_avg > 1.0);
    }

    #[test]
    fn classes_get_models_of_their_own() {
        // What the feature says is the opposite in the two classes: one model for both could not tell.
        let mut both: Vec<Row> = vec![];
        for (a, b) in rows(2_000, 2, false).iter().zip(rows(2_000, 3, true)) {
            both.extend([*a, b]);
        }
        let verdict = judge(&both, &Model::default());
        assert_eq!(decisions(&verdict), [Unjudged, Unjudged, Replace, Replace]);
        assert!(verdict.error_model < 0.3, "{verdict:?}");
    }

    #[test]
    fn a_small_class_borrows_the_model_of_all() {
        let mut mixed = rows(2_000, 2, false);
        for (i, row) in mixed.iter_mut().enumerate() {
            row.class = if i >= 1_500 && i % 4 == 0 { 1 } else { 2 };
        }
        let verdict = judge(&mixed, &Model::default());
        assert_eq!(decisions(&verdict), [Unjudged, Replace, Replace, Unjudged]);
        let borrowed = verdict.model.classes[1].as_ref().expect("a model");
        assert_eq!(borrowed.samples, 25);
    }

    #[test]
    fn a_coefficient_that_the_kernel_does_not_take_makes_no_candidate() {
        // A column that hardly varies explains all: its coefficient is near 100.
        let mut rows = rows(2_000, 2, false);
        for row in &mut rows {
            row.x[12] = (row.y - 20.0) / 100.0;
        }
        let verdict = judge(&rows, &Model::default());
        assert_eq!(verdict.classes[2].decision, Withdraw);
        assert_eq!(verdict.classes[2].errors.candidate, None);
        assert!(verdict.model.is_empty());
    }

    /// As [`rows`], with something in the older ones that is not a number.
    fn unfittable(n: usize, class: usize, flip: bool) -> Vec<Row> {
        let mut rows = rows(n, class, flip);
        rows[0].x[3] = f64::NAN;
        rows
    }

    #[test]
    fn a_class_that_cannot_be_fitted_is_named_and_the_others_go_on() {
        let mut both = unfittable(2_000, 2, false);
        both.extend(rows(2_000, 3, true));
        both.sort_by_key(|r| r.end_ns);
        let verdict = judge(&both, &Model::default());
        assert_eq!(decisions(&verdict), [Unjudged, Unjudged, Unjudged, Replace]);
        let [(2, FitError::NotFinite { .. })] = verdict.unfitted[..] else {
            panic!("{verdict:?}");
        };
        assert!(verdict.error_model < verdict.error_avg, "{verdict:?}");
    }

    #[test]
    fn without_a_candidate_the_published_model_is_judged_as_ever() {
        let good = judge(&rows(2_000, 2, false), &Model::default()).model;
        let verdict = judge(&unfittable(2_000, 2, false), &good);
        assert_eq!(verdict.classes[2].decision, Keep);
        assert_eq!(verdict.classes[2].errors.candidate, None);
        assert!(!verdict.changes() && verdict.unfitted.len() == 1);
        let verdict = judge(&unfittable(2_000, 2, true), &good);
        assert_eq!(verdict.classes[2].decision, Withdraw);
        assert!(verdict.model.is_empty() && verdict.changes());
    }

    #[test]
    fn an_equally_good_candidate_does_not_replace_the_published_model() {
        let rows = rows(2_000, 2, false);
        let first = judge(&rows, &Model::default());
        let second = judge(&rows, &first.model);
        assert_eq!(second.classes[2].decision, Keep);
        assert!(!second.changes());
        assert_eq!(second.model, first.model);
    }

    #[test]
    fn a_better_candidate_replaces_a_published_model_that_the_world_has_left() {
        let old = judge(&rows(2_000, 2, false), &Model::default());
        let new = judge(&rows(2_000, 2, true), &old.model);
        assert_eq!(new.classes[2].decision, Replace);
        assert!(new.changes());
    }

    #[test]
    fn where_the_moving_average_is_perfect_nothing_is_published_and_a_bad_model_is_withdrawn() {
        let bad = judge(&rows(2_000, 2, false), &Model::default());
        let mut perfect = rows(2_000, 2, false);
        for row in &mut perfect {
            row.avg = row.y;
        }
        let verdict = judge(&perfect, &Model::default());
        assert!(verdict.model.is_empty() && !verdict.changes());
        let verdict = judge(&perfect, &bad.model);
        assert_eq!(verdict.classes[2].decision, Withdraw);
        assert!(verdict.model.is_empty() && verdict.changes());
    }

    #[test]
    fn a_class_that_is_not_seen_keeps_its_model() {
        let first = judge(&rows(2_000, 2, false), &Model::default());
        let verdict = judge(&rows(2_000, 3, false), &first.model);
        assert_eq!(decisions(&verdict), [Unjudged, Unjudged, Unjudged, Replace]);
        assert_eq!(verdict.model.classes[2], first.model.classes[2]);
    }

    #[test]
    fn the_judging_samples_are_newer_than_the_fitted_ones() {
        // The relation turns round in the newest fifth: a split by chance would hide that, a split by time shows it.
        let mut turned = rows(1_600, 2, false);
        turned.extend(rows(400, 2, true));
        let verdict = judge(&turned, &Model::default());
        assert_eq!(verdict.classes[2].decision, Withdraw, "{verdict:?}");
    }
}
