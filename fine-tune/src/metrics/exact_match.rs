//! Exact match: answers that are a reference, character for character.

use super::{Metric, Sample, Table, mean, share};

/// The share of answers that equal a reference, white space at both ends aside, in percent.
#[derive(Debug, Clone, Copy)]
pub struct ExactMatch;

impl Metric for ExactMatch {
    fn name(&self) -> &'static str {
        "exact-match"
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
            let answer = sample.answer.trim();
            let equal = sample.references.iter().any(|text| text.trim() == answer);
            table.push(share(f64::from(equal)));
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
