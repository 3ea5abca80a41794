//! All headlines against all schedulers in one table, which fits a screen: a row for each headline, a column for each
//! scheduler, lost rows first, and at the foot each scheduler's rank.

use crate::compare::{Comparison, Row};
use crate::metric::{Better, MetricDef};
use crate::stats::Verdict;
use std::cmp::Ordering;

/// One scheduler under one headline.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub ratio: f64,
    pub low: f64,
    pub high: f64,
    /// The ratio turned so that more is better.
    pub gain: f64,
    pub verdict: Option<Verdict>,
}

/// One headline.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub workload: String,
    pub metric: MetricDef,
    pub baseline: f64,
    /// One for each of the matrix' schedulers; none where nothing was measured.
    pub fields: Vec<Option<Field>>,
}

/// The matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    pub baseline: String,
    /// All but the baseline.
    pub schedulers: Vec<String>,
    pub lines: Vec<Line>,
    /// The mean place of the baseline and of each scheduler among all, over the lines in which all were measured; 1 is
    /// the best.
    pub ranks: Vec<f64>,
}

/// How a row stands: lost before undecided before won, and by how much at worst.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Standing(u8, f64);

impl Standing {
    /// Of these fields.
    pub fn of<'a>(fields: impl Iterator<Item = &'a Field>) -> Self {
        let mine: Vec<&Field> = fields.collect();
        let any = |v: Verdict| mine.iter().any(|f| f.verdict == Some(v));
        let class = if any(Verdict::Worse) {
            0
        } else if any(Verdict::Better) {
            2
        } else {
            1
        };
        let worst = mine.iter().map(|f| f.gain).fold(f64::INFINITY, f64::min);
        Self(class, worst)
    }

    /// To sort by: what is lost most comes first.
    pub fn order(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0).then(self.1.total_cmp(&other.1))
    }
}

impl Line {
    /// How it stands for those that the comparison is about.
    fn standing(&self, subjects: &[bool]) -> Standing {
        let fields = self.fields.iter().zip(subjects);
        let mine = fields.filter(|(_, subject)| **subject);
        Standing::of(mine.filter_map(|(f, _)| f.as_ref()))
    }
}

/// Whether the comparison is about each of the schedulers.
pub fn subjects(comparison: &Comparison, schedulers: &[String]) -> Vec<bool> {
    let about = |s| comparison.subjects.is_empty() || comparison.subjects.contains(s);
    schedulers.iter().map(about).collect()
}

fn field(row: &Row) -> Option<Field> {
    let effect = row.effect.as_ref()?;
    let gain = match row.metric.better {
        Better::Lower => 1.0 / effect.ratio,
        Better::Higher | Better::Neither => effect.ratio,
    };
    Some(Field {
        ratio: effect.ratio,
        low: effect.low,
        high: effect.high,
        gain,
        verdict: row.verdict,
    })
}

/// The headlines of a workload, in the order of its metrics.
pub fn headlines<'a>(comparison: &'a Comparison, workload: &str) -> Vec<&'a MetricDef> {
    let mut defs: Vec<&MetricDef> = Vec::new();
    for row in comparison.rows.iter().filter(|r| r.workload == workload) {
        if row.metric.headline && !defs.iter().any(|d| d.name == row.metric.name) {
            defs.push(&row.metric);
        }
    }
    defs
}

/// Put the comparison into a matrix.
pub fn matrix(comparison: &Comparison) -> Matrix {
    let schedulers: Vec<String> = comparison
        .schedulers
        .iter()
        .filter(|s| **s != comparison.baseline)
        .cloned()
        .collect();
    let mut lines = Vec::new();
    for workload in &comparison.workloads {
        for metric in headlines(comparison, workload) {
            let row = |s: &str| comparison.row(workload, &metric.name, s);
            lines.push(Line {
                workload: workload.clone(),
                metric: metric.clone(),
                baseline: row(&comparison.baseline).map_or(f64::NAN, |r| r.median),
                fields: schedulers.iter().map(|s| row(s).and_then(field)).collect(),
            });
        }
    }
    let subjects = subjects(comparison, &schedulers);
    lines.sort_by(|a, b| a.standing(&subjects).order(&b.standing(&subjects)));
    let ranks = ranks(&lines, schedulers.len());
    Matrix {
        baseline: comparison.baseline.clone(),
        schedulers,
        lines,
        ranks,
    }
}

/// Mean places; equal gains share a place.
fn ranks(lines: &[Line], schedulers: usize) -> Vec<f64> {
    let mut sums = vec![0.0; schedulers + 1];
    let mut counted = 0;
    for line in lines {
        let gains: Option<Vec<f64>> = line
            .fields
            .iter()
            .map(|f| f.as_ref().map(|f| f.gain))
            .collect();
        let Some(gains) = gains else { continue };
        let gains: Vec<f64> = std::iter::once(1.0).chain(gains).collect();
        for (sum, mine) in sums.iter_mut().zip(&gains) {
            let ahead = gains.iter().filter(|g| *g > mine).count() as f64;
            let equal = gains.iter().filter(|g| *g == mine).count() as f64;
            *sum += ahead + (equal + 1.0) / 2.0;
        }
        counted += 1;
    }
    sums.into_iter().map(|s| s / f64::from(counted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::tests::finished_run;
    use crate::compare::compare;

    #[test]
    fn lost_lines_come_first_and_ranks_add_up() {
        let dir = tempfile::tempdir().expect("tempdir");
        let m = matrix(&compare(&finished_run(dir.path(), 6)));
        assert_eq!(m.schedulers, ["slow", "same"]);
        assert_eq!(m.lines.len(), 2, "one headline of each of two workloads");
        let slow = m.lines[0].fields[0].as_ref().expect("measured");
        assert_eq!(slow.verdict, Some(Verdict::Worse));
        assert!((0.45..0.55).contains(&slow.gain), "lower is better");
        assert_eq!(m.ranks.len(), 3);
        assert!((m.ranks.iter().sum::<f64>() - 6.0).abs() < 1e-9);
        assert!((m.ranks[1] - 3.0).abs() < 1e-9, "the slow one is the last");
    }

    #[test]
    fn what_the_comparison_is_about_decides_the_order() {
        let field = |gain: f64, verdict| {
            Some(Field {
                ratio: gain,
                low: gain,
                high: gain,
                gain,
                verdict: Some(verdict),
            })
        };
        let line = |mine, other| Line {
            workload: "w".into(),
            metric: MetricDef::headline("m", "1/s", Better::Higher),
            baseline: 1.0,
            fields: vec![mine, other],
        };
        let lost = line(field(0.9, Verdict::Worse), field(2.0, Verdict::Better));
        let won = line(field(1.5, Verdict::Better), field(0.1, Verdict::Worse));
        assert!(lost.standing(&[true, false]) < won.standing(&[true, false]));
        assert!(won.standing(&[false, true]) < lost.standing(&[false, true]));
    }

    #[test]
    fn a_line_that_somebody_lacks_does_not_count_for_ranks() {
        let line = Line {
            workload: "w".into(),
            metric: MetricDef::headline("m", "s", Better::Lower),
            baseline: 1.0,
            fields: vec![None],
        };
        assert!(ranks(&[line], 1).iter().all(|r| r.is_nan()));
    }
}
