//! Classification: accuracy and F1 of answers that are labels.

use std::collections::BTreeMap;

use super::{Metric, Sample, Table, mean, share};

/// The label that a text stands for: its first line that isn't empty, in lower case, without a full stop at its end.
pub fn label_of(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or_default()
        .trim_end_matches('.')
        .trim_end()
        .to_lowercase()
}

/// The share of answers that name the reference's label, in percent.
#[derive(Debug, Clone, Copy)]
pub struct Accuracy;

impl Metric for Accuracy {
    fn name(&self) -> &'static str {
        "accuracy"
    }

    fn higher_is_better(&self) -> bool {
        true
    }

    fn measure(&self, samples: &[Sample<'_>]) -> Table {
        let mut table = Table::new(2);
        for sample in samples {
            if sample.references.is_empty() {
                table.push([]);
                continue;
            }
            let answer = label_of(sample.answer);
            let right = sample
                .references
                .iter()
                .any(|text| label_of(text) == answer);
            table.push(share(f64::from(right)));
        }
        table
    }

    fn score(&self, sums: &[f64]) -> f64 {
        mean(sums)
    }

    fn score_one(&self, row: &[f64]) -> f64 {
        mean(row)
    }
}

/// How the F1 of several labels become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum F1Mean {
    /// The mean over labels: a rare one counts as much as a frequent one.
    Macro,
    /// One F1 over all decisions.
    Micro,
}

/// F1 over the labels that the references have, in percent. An answer that is none of these labels is a miss of the right
/// one, and no wrong decision for another.
#[derive(Debug, Clone, Copy)]
pub struct F1(
    /// How the labels are put together.
    pub F1Mean,
);

/// Columns of one label: right decisions, times it was answered, times it was wanted.
const COLUMNS: usize = 3;

impl Metric for F1 {
    fn name(&self) -> &'static str {
        match self.0 {
            F1Mean::Macro => "f1-macro",
            F1Mean::Micro => "f1-micro",
        }
    }

    fn higher_is_better(&self) -> bool {
        true
    }

    /// The label of a sample is that of its first reference.
    fn measure(&self, samples: &[Sample<'_>]) -> Table {
        let wanted: Vec<Option<String>> = samples
            .iter()
            .map(|sample| sample.references.first().map(|text| label_of(text)))
            .collect();
        let mut columns: BTreeMap<&str, usize> = wanted
            .iter()
            .flatten()
            .map(|label| (label.as_str(), 0))
            .collect();
        for (index, column) in columns.values_mut().enumerate() {
            *column = COLUMNS * index;
        }
        let mut table = Table::new(COLUMNS * columns.len());
        for (sample, wanted) in samples.iter().zip(&wanted) {
            let Some(&wanted) = wanted.as_deref().and_then(|label| columns.get(label)) else {
                table.push([]);
                continue;
            };
            let answered = columns.get(label_of(sample.answer).as_str()).copied();
            let right = answered == Some(wanted);
            let row = [
                Some((wanted, f64::from(right))),
                answered.map(|column| (column + 1, 1.0)),
                Some((wanted + 2, 1.0)),
            ];
            table.push(row.into_iter().flatten());
        }
        table
    }

    fn score(&self, sums: &[f64]) -> f64 {
        // 2PR / (P + R), with P = right / answered and R = right / wanted.
        let f1 = |right: f64, answered: f64, wanted: f64| 2.0 * right / (answered + wanted);
        let labels = sums
            .chunks_exact(COLUMNS)
            .filter_map(|counts| match counts {
                // A label that a resample doesn't hold says nothing about it.
                &[right, answered, wanted] if wanted > 0.0 => Some((right, answered, wanted)),
                _ => None,
            });
        let ratio = match self.0 {
            F1Mean::Macro => {
                let (sum, count) = labels.fold((0.0, 0.0), |(sum, count), (r, a, w)| {
                    (sum + f1(r, a, w), count + 1.0)
                });
                sum / count
            }
            F1Mean::Micro => {
                let column = |index| sums.iter().skip(index).step_by(COLUMNS).sum();
                f1(column(0), column(1), column(2))
            }
        };
        100.0 * ratio
    }

    fn score_one(&self, row: &[f64]) -> f64 {
        let right: f64 = row.iter().step_by(COLUMNS).sum();
        100.0 * right
    }
}
