//! Line by line: which model does better where.

use serde::Serialize;

use crate::metrics::{Metric, Table};

/// Who did better on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The first.
    A,
    /// The second.
    B,
    /// Neither.
    Tie,
}

/// One line under both models.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    /// The row.
    pub index: usize,
    /// The first model's score on this line alone.
    pub a: f64,
    /// The second's.
    pub b: f64,
    /// Who did better.
    pub verdict: Verdict,
}

/// How often each did better.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Lines on which the second is better.
    pub wins: usize,
    /// Lines on which the first is better.
    pub losses: usize,
    /// Lines on which neither is.
    pub ties: usize,
}

/// All lines under both models.
#[derive(Debug, Clone, PartialEq)]
pub struct Pairs(Vec<Difference>);

impl Pairs {
    /// Compares rows with the same index. Lines that the metric says nothing about are left out.
    pub fn new(metric: &dyn Metric, a: &Table, b: &Table) -> Pairs {
        let one = |index: usize| {
            let (a, b) = (
                metric.score_one(&a.row(index)),
                metric.score_one(&b.row(index)),
            );
            let gain = if metric.higher_is_better() {
                b - a
            } else {
                a - b
            };
            let verdict = match gain {
                gain if gain > 1e-9 => Verdict::B,
                gain if gain < -1e-9 => Verdict::A,
                _ => Verdict::Tie,
            };
            (a.is_finite() && b.is_finite()).then_some(Difference {
                index,
                a,
                b,
                verdict,
            })
        };
        Pairs((0..a.len().min(b.len())).filter_map(one).collect())
    }

    /// Wins, losses and ties of the second model.
    pub fn count(&self) -> Count {
        let of = |verdict| self.0.iter().filter(|line| line.verdict == verdict).count();
        Count {
            wins: of(Verdict::B),
            losses: of(Verdict::A),
            ties: of(Verdict::Tie),
        }
    }

    /// The `most` lines with this verdict that differ most, the largest difference first.
    pub fn largest(&self, verdict: Verdict, most: usize) -> Vec<Difference> {
        let mut lines: Vec<Difference> = self
            .0
            .iter()
            .filter(|line| line.verdict == verdict)
            .copied()
            .collect();
        let size = |line: &Difference| (line.a - line.b).abs();
        lines.sort_by(|one, other| size(other).total_cmp(&size(one)));
        lines.truncate(most);
        lines
    }

    /// All lines, in order.
    pub fn lines(&self) -> &[Difference] {
        &self.0
    }
}
