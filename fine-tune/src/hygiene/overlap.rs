//! Test lines that the model has seen in training: what it remembers is not what it has learnt.
//!
//! Besides whole lines, runs of eight words are looked for, as in T. Brown et al., «Language Models are Few-Shot Learners»,
//! NeurIPS 2020, appendix C (who take 8 to 13 words).

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::duplicates::{Similar, note, signatures};
use super::shingles::{Index, hash, normalised};
use super::{Finding, Weight};
use crate::data::DataFile;

/// Words of a run.
const WORDS: usize = 8;
/// From this share of a line's runs on, it counts as contained in the training data.
const CONTAINED: f64 = 0.5;
/// The most runs of the training data that are kept; of a larger file, every second, fourth … by hash.
const MAX_RUNS: u64 = 1 << 25;

/// What a test set shares with the training data.
#[derive(Debug, Clone, Serialize)]
pub struct Overlap {
    /// Test lines whose normalised text is a line of the training data.
    pub exact: usize,
    /// Test lines whose input alone is the input of a training line.
    pub same_input: usize,
    /// Test lines that are nearly a training line.
    pub near: usize,
    /// Test lines of which at least half of the runs of eight words stand in the training data; shorter lines have none.
    pub contained: usize,
    /// The mean share of runs that stand in the training data, over the lines that have any.
    pub mean_containment: Option<f64>,
    /// The first of the exact ones: the test line, and the training line.
    pub exact_lines: Vec<Similar>,
    /// The first with the same input.
    pub same_input_lines: Vec<Similar>,
    /// The first of the near ones.
    pub near_lines: Vec<Similar>,
    /// Lines of the test set.
    pub test_lines: usize,
}

impl Overlap {
    pub(super) fn of(train: &DataFile, test: &DataFile) -> Overlap {
        let mut found = Overlap {
            exact: 0,
            same_input: 0,
            near: 0,
            contained: 0,
            mean_containment: None,
            exact_lines: Vec::new(),
            same_input_lines: Vec::new(),
            near_lines: Vec::new(),
            test_lines: test.examples.len(),
        };
        let mut texts = HashMap::new();
        let mut inputs = HashMap::new();
        let mut index = Index::default();
        let runs = Runs::of(train);
        for (example, (text, signature)) in train.examples.iter().zip(signatures(train)) {
            inputs
                .entry(normalised(&example.content.input()))
                .or_insert(example.line);
            texts.entry(text).or_insert(example.line);
            index.insert(example.line, signature);
        }
        let (mut shares, mut with_runs) = (0.0, 0_usize);
        for (example, (text, signature)) in test.examples.iter().zip(signatures(test)) {
            let line = example.line;
            let input = normalised(&example.content.input());
            let share = runs.share(&text);
            if !text.is_empty()
                && let Some(&like) = texts.get(&text)
            {
                found.exact += 1;
                note(&mut found.exact_lines, line, like, 1.0);
            } else if !input.is_empty()
                && let Some(&like) = inputs.get(&input)
            {
                found.same_input += 1;
                note(&mut found.same_input_lines, line, like, 1.0);
            } else if let Some((like, similarity)) = index.nearest(&signature) {
                found.near += 1;
                note(&mut found.near_lines, line, like, similarity);
            }
            if let Some(share) = share {
                shares += share;
                with_runs += 1;
                found.contained += usize::from(share >= CONTAINED);
            }
        }
        found.mean_containment = (with_runs > 0).then(|| shares / with_runs as f64);
        found
    }

    pub(super) fn judge(&self, findings: &mut Vec<Finding>) {
        let mut find = |weight, count: usize, what: &str| {
            if count > 0 {
                let percent = 100.0 * count as f64 / self.test_lines.max(1) as f64;
                let message = format!("{count} test lines ({percent:.1} %) {what}");
                findings.push(Finding { weight, message });
            }
        };
        find(
            Weight::Fix,
            self.exact,
            "are in the training data; take them out of one of the two",
        );
        find(
            Weight::Fix,
            self.same_input,
            "ask what a training line asks; take them out of one of the two",
        );
        find(Weight::Look, self.near, "are nearly a training line");
        find(
            Weight::Look,
            self.contained,
            "consist for the most part of runs of eight words from the training data",
        );
    }
}

/// The runs of words in a file, by hash.
struct Runs {
    hashes: HashSet<u64>,
    mask: u64,
}

impl Runs {
    fn of(data: &DataFile) -> Runs {
        // A run begins at each word, and words have some five letters.
        let bytes: usize = data
            .examples
            .iter()
            .map(|example| example.content.whole().len())
            .sum();
        let excess = (bytes as u64 / 5).div_ceil(MAX_RUNS).max(1);
        let mask = excess.next_power_of_two() - 1;
        let mut hashes = HashSet::new();
        for example in &data.examples {
            hashes.extend(runs(&normalised(&example.content.whole()), mask));
        }
        Runs { hashes, mask }
    }

    /// The share of a normalised text's runs that are among these; `None` for a text without any.
    fn share(&self, text: &str) -> Option<f64> {
        let (mut known, mut all) = (0_usize, 0_usize);
        for run in runs(text, self.mask) {
            all += 1;
            known += usize::from(self.hashes.contains(&run));
        }
        (all > 0).then(|| known as f64 / all as f64)
    }
}

/// The hashes of a normalised text's runs that have none of the bits of `mask`.
fn runs(text: &str, mask: u64) -> Vec<u64> {
    let words: Vec<&str> = text.split(' ').collect();
    let hashes = words
        .windows(WORDS)
        .map(|run| hash(run.iter().flat_map(|word| word.bytes().chain([b' ']))));
    hashes.filter(|hash| hash & mask == 0).collect()
}
