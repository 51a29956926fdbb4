//! How the labels of a file are spread.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::{Finding, NAMED, Weight};
use crate::data::{Content, DataFile};

/// A label with fewer lines can hardly be learnt, nor measured.
const FEW: usize = 10;
/// How much more frequent the most frequent label may be than the rarest before it is said.
const UNEVEN: usize = 10;

/// The labels of a file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Labels {
    /// How often each occurs.
    pub counts: BTreeMap<String, usize>,
    /// How even they are: the entropy by its maximum, 1 when all are as frequent.
    pub evenness: f64,
}

impl Labels {
    /// The labels of the lines that have one; `None` when none has.
    pub(super) fn of(data: &DataFile) -> Option<Labels> {
        let mut counts = BTreeMap::new();
        for example in &data.examples {
            if let Content::Labelled { label, .. } = &example.content {
                *counts.entry(label.clone()).or_insert(0) += 1;
            }
        }
        let total = counts.values().sum::<usize>() as f64;
        let entropy: f64 = counts
            .values()
            .map(|&count| count as f64 / total)
            .map(|share| -share * share.ln())
            .sum();
        let most = (counts.len() as f64).ln();
        let evenness = if most > 0.0 { entropy / most } else { 1.0 };
        (!counts.is_empty()).then_some(Labels { counts, evenness })
    }

    pub(super) fn judge(&self, path: &Path, findings: &mut Vec<Finding>) {
        let mut find = |message| {
            findings.push(Finding {
                weight: Weight::Look,
                message,
            })
        };
        let rare = self.counts.iter().filter(|(_, count)| **count < FEW);
        let rare: Vec<&str> = rare.map(|(label, _)| label.as_str()).collect();
        if !rare.is_empty() {
            find(format!(
                "{}: fewer than {FEW} lines have the labels {}",
                path.display(),
                listed(&rare)
            ));
        }
        let (most, least) = (self.counts.values().max(), self.counts.values().min());
        if let (Some(most), Some(least)) = (most, least)
            && most / least >= UNEVEN
        {
            find(format!(
                "{}: the most frequent label has {most} lines, the rarest {least}; look at f1-macro, not at accuracy",
                path.display()
            ));
        }
    }

    /// Says which labels of this test set the training data lacks.
    pub(super) fn judge_against(&self, train: &Labels, findings: &mut Vec<Finding>) {
        let unknown = self
            .counts
            .keys()
            .filter(|label| !train.counts.contains_key(*label));
        let unknown: Vec<&str> = unknown.map(String::as_str).collect();
        if !unknown.is_empty() {
            let message = format!(
                "the test set has labels that the training data never shows: {}",
                listed(&unknown)
            );
            findings.push(Finding {
                weight: Weight::Fix,
                message,
            });
        }
    }
}

fn listed(labels: &[&str]) -> String {
    let mut text: Vec<String> = labels
        .iter()
        .take(NAMED)
        .map(|label| format!("{label:?}"))
        .collect();
    if labels.len() > NAMED {
        text.push(format!("and {} more", labels.len() - NAMED));
    }
    text.join(", ")
}
