//! What a model is trained on in one go: rows of tokens, in which several examples may lie one behind another.

use std::ops::Range;

use crate::error::{Error, Result};

/// A batch of `rows` sequences of `tokens` tokens; every list is `[rows, tokens]` in row order.
///
/// Examples are told apart by their segment: a token attends to tokens of its own row and segment only, and in a decoder to none
/// behind it. Padding is a segment like any other, with no weight.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of sequences.
    pub rows: usize,
    /// Tokens in each.
    pub tokens: usize,
    /// Token ids.
    pub ids: Vec<u32>,
    /// Place of each token within its example, from 0.
    pub positions: Vec<u32>,
    /// Which example of its row a token belongs to; the tokens of one lie together.
    pub segments: Vec<u32>,
    /// What is to be predicted at each place: for a decoder the next token. Where the weight is 0 it isn't looked at.
    pub targets: Vec<u32>,
    /// How much each target counts: 1 where it is learnt, 0 on prompts and padding.
    pub weights: Vec<f32>,
}

impl Batch {
    /// A batch of whole sequences of equal length, in which each token predicts the next one and the last predicts nothing.
    ///
    /// # Errors
    /// When the sequences differ in length, or there are none.
    pub fn of_sequences(sequences: &[Vec<u32>]) -> Result<Batch> {
        let tokens = sequences.first().map_or(0, Vec::len);
        if tokens == 0 || sequences.iter().any(|row| row.len() != tokens) {
            return Err(Error::training(
                "batch",
                "its sequences differ in length, or are empty",
            ));
        }
        let each = |last: u32, of: &dyn Fn(&[u32], usize) -> u32| -> Vec<u32> {
            sequences
                .iter()
                .flat_map(|row| (0..tokens).map(|i| if i + 1 < tokens { of(row, i) } else { last }))
                .collect()
        };
        Ok(Batch {
            rows: sequences.len(),
            tokens,
            ids: sequences.concat(),
            positions: (0..sequences.len())
                .flat_map(|_| 0..tokens as u32)
                .collect(),
            segments: vec![0; sequences.len() * tokens],
            targets: each(0, &|row, i| row[i + 1]),
            weights: each(0, &|_, _| 1).into_iter().map(|w| w as f32).collect(),
        })
    }

    /// Some of the rows as a batch of their own; fewer, or none, where there are no such rows.
    pub fn part(&self, rows: Range<usize>) -> Batch {
        let rows = rows.start.min(self.rows)..rows.end.min(self.rows);
        let cells = rows.start * self.tokens..rows.end * self.tokens;
        Batch {
            rows: rows.len(),
            tokens: self.tokens,
            ids: cut(&self.ids, &cells),
            positions: cut(&self.positions, &cells),
            segments: cut(&self.segments, &cells),
            targets: cut(&self.targets, &cells),
            weights: cut(&self.weights, &cells),
        }
    }

    /// `rows * tokens`.
    pub fn len(&self) -> usize {
        self.rows.saturating_mul(self.tokens)
    }

    /// Whether there is no token in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Checks lengths and ranges.
    ///
    /// # Errors
    /// When a list has another length, or a token or position isn't below its limit.
    pub fn check(&self, vocab_size: usize, context_length: usize) -> Result<()> {
        let refuse = |reason: String| Err(Error::training("batch", reason));
        let lengths = [
            self.ids.len(),
            self.positions.len(),
            self.segments.len(),
            self.targets.len(),
            self.weights.len(),
        ];
        if self.is_empty() || lengths.iter().any(|&length| length != self.len()) {
            return refuse(format!(
                "it says {} × {} tokens, and its lists have {lengths:?}",
                self.rows, self.tokens
            ));
        }
        let beyond =
            |list: &[u32], limit: usize| list.iter().copied().find(|&x| x as usize >= limit);
        if let Some(id) = beyond(&self.ids, vocab_size) {
            return refuse(format!(
                "token {id} is not in the vocabulary of {vocab_size}"
            ));
        }
        if let Some(position) = beyond(&self.positions, context_length) {
            return refuse(format!(
                "position {position} is beyond the model's context of {context_length}; cut the examples shorter"
            ));
        }
        for (target, weight) in self.targets.iter().zip(&self.weights) {
            if !weight.is_finite() {
                return refuse(format!("a target's weight is {weight}"));
            }
            if *weight != 0.0 && *target as usize >= vocab_size {
                return refuse(format!(
                    "target {target} is not in the vocabulary of {vocab_size}"
                ));
            }
        }
        Ok(())
    }
}

/// A part of a list; nothing where the list is too short, which [`Batch::check`] refuses.
fn cut<T: Copy>(list: &[T], cells: &Range<usize>) -> Vec<T> {
    list.get(cells.clone()).unwrap_or(&[]).to_vec()
}
