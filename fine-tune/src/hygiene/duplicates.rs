//! Lines that say the same, or nearly the same.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::shingles::{Index, Signature, Signer, normalised};
use super::{Finding, MANY, NAMED, Weight};
use crate::data::DataFile;

/// A line, and an earlier one that it is like.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Similar {
    /// The line.
    pub line: usize,
    /// The line that it is like.
    pub like: usize,
    /// How much: 1 is the same text, capitals, spaces and punctuation aside.
    pub similarity: f64,
}

/// Repetitions within a file.
#[derive(Debug, Clone, Serialize)]
pub struct Duplicates {
    /// Lines whose normalised text stands on an earlier line.
    pub exact: usize,
    /// Lines that are nearly an earlier one: 80 % of their runs of five characters are shared.
    pub near: usize,
    /// Lines with the same input as an earlier one, but another output.
    pub contradictions: usize,
    /// The first of the exact ones.
    pub exact_lines: Vec<Similar>,
    /// The first of the near ones.
    pub near_lines: Vec<Similar>,
    /// The first of the contradictions.
    pub contradiction_lines: Vec<Similar>,
}

/// The normalised texts of a file's lines, with their signatures.
pub(super) fn signatures(data: &DataFile) -> Vec<(String, Signature)> {
    let signer = Signer::new();
    data.examples
        .par_iter()
        .map(|example| {
            let text = normalised(&example.content.whole());
            let signature = signer.sign(&text);
            (text, signature)
        })
        .collect()
}

impl Duplicates {
    pub(super) fn of(data: &DataFile) -> Duplicates {
        let mut found = Duplicates {
            exact: 0,
            near: 0,
            contradictions: 0,
            exact_lines: Vec::new(),
            near_lines: Vec::new(),
            contradiction_lines: Vec::new(),
        };
        let mut texts: HashMap<String, usize> = HashMap::new();
        let mut inputs: HashMap<String, (usize, &str)> = HashMap::new();
        let mut index = Index::default();
        for (example, (text, signature)) in data.examples.iter().zip(signatures(data)) {
            let line = example.line;
            if let Some(output) = example.content.output() {
                let input = example.content.input().trim().to_owned();
                let &mut (like, first) = inputs.entry(input).or_insert((line, output));
                if first.trim() != output.trim() {
                    found.contradictions += 1;
                    note(&mut found.contradiction_lines, line, like, 1.0);
                }
            }
            // Two lines of nothing but punctuation are not the same line.
            if let Some(&like) = texts.get(&text).filter(|_| !text.is_empty()) {
                found.exact += 1;
                note(&mut found.exact_lines, line, like, 1.0);
                continue;
            }
            if let Some((like, similarity)) = index.nearest(&signature) {
                found.near += 1;
                note(&mut found.near_lines, line, like, similarity);
            }
            texts.insert(text, line);
            index.insert(line, signature);
        }
        found
    }

    pub(super) fn judge(
        &self,
        path: &Path,
        lines: usize,
        repeated: Weight,
        findings: &mut Vec<Finding>,
    ) {
        let name = path.display();
        let share = |count: usize| count as f64 / lines.max(1) as f64;
        let mut find = |weight, message| findings.push(Finding { weight, message });
        if self.exact > 0 && (repeated == Weight::Fix || share(self.exact) >= MANY) {
            let percent = 100.0 * share(self.exact);
            find(
                repeated,
                format!(
                    "{name}: {} lines ({percent:.1} %) repeat an earlier one and count double; remove them",
                    self.exact
                ),
            );
        }
        if share(self.near) >= MANY {
            let percent = 100.0 * share(self.near);
            find(
                Weight::Look,
                format!(
                    "{name}: {} lines ({percent:.1} %) are nearly an earlier one",
                    self.near
                ),
            );
        }
        if self.contradictions > 0 {
            find(
                Weight::Look,
                format!(
                    "{name}: {} lines answer the same input otherwise than an earlier one",
                    self.contradictions
                ),
            );
        }
    }
}

/// Keeps the first few.
pub(super) fn note(lines: &mut Vec<Similar>, line: usize, like: usize, similarity: f64) {
    if lines.len() < NAMED {
        lines.push(Similar {
            line,
            like,
            similarity,
        });
    }
}
