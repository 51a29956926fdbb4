//! chrF and chrF++: n-grams of characters (and of words) that an answer shares with its reference.
//!
//! M. Popović, «chrF: character n-gram F-score for automatic MT evaluation», WMT 2015; «chrF++: words helping character
//! n-grams», WMT 2017. Every corner case as in sacreBLEU.

use super::ngrams::{self, is_space, words};
use super::{Metric, Sample, Table};

/// The chrF score, 0 to 100.
#[derive(Debug, Clone, PartialEq)]
pub struct Chrf {
    /// The longest n-grams of characters.
    pub character_order: usize,
    /// The longest n-grams of words: 0 for chrF, 2 for chrF++.
    pub word_order: usize,
    /// How much more recall counts than precision.
    pub beta: f64,
    /// Compare in lower case.
    pub lower_case: bool,
    /// Count white space among the characters.
    pub white_space: bool,
    /// Take a tiny precision where an order has no n-grams, as chrF++.py and Moses do, instead of leaving it out.
    pub epsilon: bool,
}

impl Default for Chrf {
    fn default() -> Chrf {
        Chrf {
            character_order: 6,
            word_order: 0,
            beta: 2.0,
            lower_case: false,
            white_space: false,
            epsilon: false,
        }
    }
}

/// A text as chrF looks at it.
struct Text {
    characters: Vec<char>,
    words: Vec<String>,
}

impl Chrf {
    /// chrF++.
    pub fn plus_plus() -> Chrf {
        Chrf {
            word_order: 2,
            ..Chrf::default()
        }
    }

    fn text(&self, text: &str) -> Text {
        let text = if self.lower_case {
            text.to_lowercase()
        } else {
            text.to_owned()
        };
        let kept = |c: &char| self.white_space || !is_space(*c);
        Text {
            characters: text.chars().filter(kept).collect(),
            words: words(&text)
                .into_iter()
                .flat_map(split_punctuation)
                .collect(),
        }
    }

    /// For each order, the n-grams of the answer, those of the reference, and those they share.
    fn row(&self, answer: &Text, reference: &Text) -> Vec<f64> {
        let characters =
            (1..=self.character_order).map(|n| order(&answer.characters, &reference.characters, n));
        let words = (1..=self.word_order).map(|n| order(&answer.words, &reference.words, n));
        characters.chain(words).flatten().collect()
    }

    fn value(&self, sums: &[f64]) -> f64 {
        const EPSILON: f64 = 1e-16;
        let factor = self.beta * self.beta;
        let f = |precision: f64, recall: f64| {
            let denominator = factor * precision + recall;
            if denominator > 0.0 {
                (1.0 + factor) * precision * recall / denominator
            } else {
                0.0
            }
        };
        let (mut precisions, mut recalls, mut effective, mut sum) = (0.0, 0.0, 0.0, 0.0);
        for counts in sums.chunks_exact(3) {
            let &[answer, reference, matched] = counts else {
                continue;
            };
            let ratio = |count: f64| {
                if count > 0.0 {
                    matched / count
                } else {
                    EPSILON
                }
            };
            let (precision, recall) = (ratio(answer), ratio(reference));
            sum += f(precision, recall);
            if answer > 0.0 && reference > 0.0 {
                precisions += precision;
                recalls += recall;
                effective += 1.0;
            }
        }
        if self.epsilon {
            100.0 * sum / (self.character_order + self.word_order) as f64
        } else if effective > 0.0 {
            100.0 * f(precisions / effective, recalls / effective)
        } else {
            0.0
        }
    }
}

impl Metric for Chrf {
    fn name(&self) -> &'static str {
        if self.word_order > 0 {
            "chrf++"
        } else {
            "chrf"
        }
    }

    fn higher_is_better(&self) -> bool {
        true
    }

    /// Of several references, the one that the answer scores best with.
    fn measure(&self, samples: &[Sample<'_>]) -> Table {
        let mut table = Table::new(3 * (self.character_order + self.word_order));
        for sample in samples {
            let answer = self.text(sample.answer);
            let mut best: Option<(f64, Vec<f64>)> = None;
            for reference in sample.references {
                let row = self.row(&answer, &self.text(reference));
                let score = self.value(&row);
                if best.as_ref().is_none_or(|(least, _)| score > *least) {
                    best = Some((score, row));
                }
            }
            let row = best.map(|(_, row)| row).unwrap_or_default();
            table.push(row.into_iter().enumerate());
        }
        table
    }

    fn score(&self, sums: &[f64]) -> f64 {
        self.value(sums)
    }

    fn score_one(&self, row: &[f64]) -> f64 {
        self.value(row)
    }
}

fn order<T: Eq + std::hash::Hash>(answer: &[T], reference: &[T], n: usize) -> [f64; 3] {
    let (found, wanted) = (ngrams::count(answer, n), ngrams::count(reference, n));
    // Without n-grams in the reference those of the answer don't count.
    let total = if wanted.is_empty() {
        0
    } else {
        ngrams::total(&found)
    };
    [
        total as f64,
        ngrams::total(&wanted) as f64,
        ngrams::matches(&found, &wanted) as f64,
    ]
}

/// Cuts a punctuation mark off the end of a word, else off its beginning.
fn split_punctuation(word: &str) -> Vec<String> {
    let mut characters = word.chars();
    let (Some(first), Some(last)) = (characters.next(), characters.next_back()) else {
        return vec![word.to_owned()];
    };
    let middle = characters.as_str();
    if last.is_ascii_punctuation() {
        vec![format!("{first}{middle}"), last.to_string()]
    } else if first.is_ascii_punctuation() {
        vec![first.to_string(), format!("{middle}{last}")]
    } else {
        vec![word.to_owned()]
    }
}
