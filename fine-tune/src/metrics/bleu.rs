//! BLEU: n-grams of words that an answer shares with its references.
//!
//! K. Papineni, S. Roukos, T. Ward, W.-J. Zhu, «BLEU: a Method for Automatic Evaluation of Machine Translation», ACL 2002.
//! Tokens, smoothing and every corner case as in sacreBLEU: M. Post, «A Call for Clarity in Reporting BLEU Scores», WMT 2018.

use super::ngrams::{self, Counts};
use super::tokenise::{Tokenise, Tokeniser};
use super::{Metric, Sample, Table};

/// What stands in for a precision of zero: B. Chen, C. Cherry, «A Systematic Comparison of Smoothing Techniques for
/// Sentence-Level BLEU», WMT 2014.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Smoothing {
    /// Nothing: the score is 0 then.
    None,
    /// This count of matches instead of 0; sacreBLEU's default is 0.1.
    Floor(f64),
    /// This much is added to matches and totals of all orders but the first; sacreBLEU's default is 1.
    AddK(f64),
    /// Half of a match for the first order without any, a quarter for the next, and so on.
    Exp,
}

/// The BLEU score, 0 to 100.
#[derive(Debug)]
pub struct Bleu {
    kind: Tokenise,
    tokeniser: Tokeniser,
    /// What stands in for a precision of zero.
    pub smoothing: Smoothing,
    /// Compare in lower case.
    pub lower_case: bool,
    /// The longest n-grams.
    pub max_order: usize,
    /// Leave out the orders that an answer is too short for.
    pub effective_order: bool,
}

impl Bleu {
    /// BLEU as sacreBLEU computes it for a corpus by default, but for the tokens.
    pub fn new(kind: Tokenise) -> Bleu {
        Bleu {
            kind,
            tokeniser: Tokeniser::new(kind),
            smoothing: Smoothing::Exp,
            lower_case: false,
            max_order: 4,
            effective_order: false,
        }
    }

    fn tokens(&self, text: &str) -> Vec<String> {
        if self.lower_case {
            self.tokeniser.tokens(&text.to_lowercase())
        } else {
            self.tokeniser.tokens(text)
        }
    }

    /// Length of the answer, length of the reference that is nearest to it, matches by order, totals by order.
    fn row(&self, sample: &Sample<'_>) -> Vec<f64> {
        let answer = self.tokens(sample.answer);
        let references: Vec<Vec<String>> = sample
            .references
            .iter()
            .map(|text| self.tokens(text))
            .collect();
        let nearest = references
            .iter()
            .map(Vec::len)
            .min_by_key(|&length| (length.abs_diff(answer.len()), length));
        let mut row = vec![answer.len() as f64, nearest.unwrap_or(0) as f64];
        let mut totals = Vec::with_capacity(self.max_order);
        for n in 1..=self.max_order {
            let found = ngrams::count(&answer, n);
            row.push(ngrams::matches(&found, &union(&references, n)) as f64);
            totals.push(ngrams::total(&found) as f64);
        }
        row.extend(totals);
        row
    }

    fn value(&self, sums: &[f64], effective_order: bool) -> f64 {
        let [answer, reference, counts @ ..] = sums else {
            return f64::NAN;
        };
        let Some((matches, totals)) = counts.split_at_checked(self.max_order) else {
            return f64::NAN;
        };
        if matches.iter().all(|&count| count == 0.0) {
            return 0.0;
        }
        let mut logarithms = 0.0;
        let mut halves = 1.0;
        let mut order = self.max_order;
        for (n, (&matched, &total)) in (1..).zip(matches.iter().zip(totals)) {
            let added = match self.smoothing {
                Smoothing::AddK(k) if n > 1 => k,
                _ => 0.0,
            };
            let (matched, total) = (matched + added, total + added);
            if total == 0.0 {
                if !effective_order {
                    return 0.0;
                }
                break;
            }
            if effective_order {
                order = n;
            }
            let smoothed = match self.smoothing {
                _ if matched > 0.0 => matched,
                Smoothing::Exp => {
                    halves *= 2.0;
                    1.0 / halves
                }
                Smoothing::Floor(floor) => floor,
                Smoothing::None | Smoothing::AddK(_) => 0.0,
            };
            if smoothed == 0.0 {
                return 0.0;
            }
            logarithms += (100.0 * smoothed / total).ln();
        }
        let brevity = (1.0 - reference / answer).min(0.0).exp();
        brevity * (logarithms / order as f64).exp()
    }
}

impl Metric for Bleu {
    fn name(&self) -> &'static str {
        match self.kind {
            Tokenise::Words => "bleu-words",
            Tokenise::Mteval13a => "bleu",
            Tokenise::International => "bleu-intl",
            Tokenise::Characters => "bleu-char",
        }
    }

    fn higher_is_better(&self) -> bool {
        true
    }

    fn measure(&self, samples: &[Sample<'_>]) -> Table {
        let mut table = Table::new(2 + 2 * self.max_order);
        for sample in samples {
            if sample.references.is_empty() {
                table.push([]);
                continue;
            }
            table.push(self.row(sample).into_iter().enumerate());
        }
        table
    }

    fn score(&self, sums: &[f64]) -> f64 {
        self.value(sums, self.effective_order)
    }

    /// With effective order, without which most single sentences would score 0.
    fn score_one(&self, row: &[f64]) -> f64 {
        self.value(row, true)
    }
}

/// Each n-gram of the references, as often as it occurs in the one that has most of it.
fn union(references: &[Vec<String>], n: usize) -> Counts<'_, String> {
    let mut most = Counts::new();
    for reference in references {
        for (ngram, count) in ngrams::count(reference, n) {
            let entry = most.entry(ngram).or_insert(0);
            *entry = count.max(*entry);
        }
    }
    most
}
