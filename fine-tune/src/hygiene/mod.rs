//! Whether data is fit to learn from and to be measured by: repetitions, test lines that stand in the training data, lengths,
//! labels, and whether the test set looks like what the model will be asked.

mod drift;
mod duplicates;
mod labels;
mod lengths;
mod overlap;
mod shingles;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Serialize;

use crate::data::{BadLine, DataFile};

pub use drift::Drift;
pub use duplicates::{Duplicates, Similar};
pub use labels::Labels;
pub use lengths::{Distribution, Lengths};
pub use overlap::Overlap;

/// How many lines of each kind a report names.
const NAMED: usize = 20;
/// The least share of lines that are repetitions that a report speaks of.
const MANY: f64 = 0.01;
/// Below this p-value the test set and the traffic are said to differ.
const LEVEL: f64 = 0.01;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Figures measured with this data mislead: it must be fixed.
    Fix,
    /// Something to look at, which may be meant.
    Look,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub weight: Weight,
    /// What it is, and what to do.
    pub message: String,
}

/// What was found in one file.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// `sha256:` and its digest.
    pub digest: String,
    /// Lines that can be used.
    pub lines: usize,
    /// The first of those that can't.
    pub bad_lines: Vec<BadLine>,
    /// How many can't be used in all.
    pub bad_count: usize,
    /// Repetitions within the file.
    pub duplicates: Duplicates,
    /// How long its lines are.
    pub lengths: Lengths,
    /// Its labels, if it has any.
    pub labels: Option<Labels>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The training data.
    pub train: FileReport,
    /// The test set.
    pub test: Option<FileReport>,
    /// What both have in common.
    pub overlap: Option<Overlap>,
    /// Whether the test set (the training data where there is none) looks like the traffic.
    pub traffic: Option<Drift>,
    /// What to do about it, the worst first.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether something must be fixed.
    pub fn must_fix(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.weight == Weight::Fix)
    }
}

/// Counts the tokens of a text, where there is a tokenizer to do it, and the most tokens that the model takes.
pub struct TokenCounter<'a> {
    /// Tokens of a text.
    pub count: &'a (dyn Fn(&str) -> crate::error::Result<usize> + Sync),
    /// The most tokens that the model takes.
    pub context: Option<usize>,
}

/// Checks data. `seed` is that of the resampling that traffic is compared by.
///
/// # Errors
/// A tokenizer that fails.
pub fn check(
    train: &DataFile,
    test: Option<&DataFile>,
    traffic: Option<&DataFile>,
    tokens: Option<&TokenCounter<'_>>,
    seed: u64,
) -> crate::error::Result<Report> {
    let mut findings = Vec::new();
    let train_report = file(train, tokens, Weight::Look, &mut findings)?;
    let test_report = match test {
        Some(test) => Some(file(test, tokens, Weight::Fix, &mut findings)?),
        None => None,
    };
    let overlap = test.map(|test| Overlap::of(train, test));
    if let Some(overlap) = &overlap {
        overlap.judge(&mut findings);
    }
    if let (Some(train), Some(test)) = (
        &train_report.labels,
        test_report.as_ref().and_then(|test| test.labels.as_ref()),
    ) {
        test.judge_against(train, &mut findings);
    }
    let drift = traffic.map(|traffic| Drift::of(test.unwrap_or(train), traffic, seed));
    if let Some(drift) = &drift {
        drift.judge(&mut findings);
    }
    findings.sort_by_key(|finding| finding.weight != Weight::Fix);
    Ok(Report {
        train: train_report,
        test: test_report,
        overlap,
        traffic: drift,
        findings,
    })
}

/// Checks one file; repetitions in it weigh as much as `repeated` says.
fn file(
    data: &DataFile,
    tokens: Option<&TokenCounter<'_>>,
    repeated: Weight,
    findings: &mut Vec<Finding>,
) -> crate::error::Result<FileReport> {
    let name = data.path.display();
    if data.bad_count > 0 {
        findings.push(Finding {
            weight: Weight::Fix,
            message: format!(
                "{name}: {} lines can't be used; correct or remove them",
                data.bad_count
            ),
        });
    }
    let duplicates = Duplicates::of(data);
    duplicates.judge(&data.path, data.examples.len(), repeated, findings);
    let lengths = Lengths::of(data, tokens)?;
    lengths.judge(&data.path, tokens, findings);
    let labels = Labels::of(data);
    if let Some(labels) = &labels {
        labels.judge(&data.path, findings);
    }
    Ok(FileReport {
        path: data.path.clone(),
        digest: data.digest.clone(),
        lines: data.examples.len(),
        bad_lines: data.bad.clone(),
        bad_count: data.bad_count,
        duplicates,
        lengths,
        labels,
    })
}
