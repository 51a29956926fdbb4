//! How well a model predicts a text: the loss of each token, and what the losses come to.

use crate::{Error, Session};

/// Sums over the tokens that were scored, in nats.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Likelihood {
    tokens: usize,
    loss: f64,
    squares: f64,
}

impl Likelihood {
    /// Scores the tokens from the `from`-th on, each of them given all that stand before it. What the session held is
    /// forgotten.
    ///
    /// # Errors
    /// [`Error::Usage`] when nothing stands before the first scored token or nothing is to be scored; and as
    /// [`Session::extend`].
    pub fn of(session: &mut Session, tokens: &[u32], from: usize) -> Result<Likelihood, Error> {
        // The last token predicts nothing here.
        let known = tokens.get(..tokens.len().saturating_sub(1));
        let Some((before, scored)) =
            known.and_then(|known| known.split_at_checked(from.checked_sub(1)?))
        else {
            return Err(Error::Usage(
                "a token can only be scored after another one; give a longer text".to_owned(),
            ));
        };
        session.reset();
        if !before.is_empty() {
            session.extend(before)?;
        }
        let mut sums = Likelihood::default();
        session.extend_all(scored, |position, logits| {
            if let Some(&next) = tokens.get(position + 1) {
                sums.add(logits, next);
            }
        })?;
        Ok(sums)
    }

    /// Adds the loss of one token that followed `logits`, `[vocab]`.
    pub fn add(&mut self, logits: &[f32], next: u32) {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().map(|&x| f64::from((x - largest).exp())).sum();
        let logit = usize::try_from(next).ok().and_then(|next| logits.get(next));
        let logit = logit.copied().unwrap_or(f32::NEG_INFINITY);
        let loss = sum.ln() - f64::from(logit - largest);
        self.tokens += 1;
        self.loss += loss;
        self.squares += loss * loss;
    }

    /// Adds the sums of other tokens.
    pub fn merge(&mut self, other: Likelihood) {
        self.tokens += other.tokens;
        self.loss += other.loss;
        self.squares += other.squares;
    }

    /// How many tokens were scored.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The sum of their losses, in nats.
    pub fn loss(&self) -> f64 {
        self.loss
    }

    /// The exponential of the mean loss.
    pub fn perplexity(&self) -> f64 {
        (self.loss / self.tokens as f64).exp()
    }

    /// The standard error of [`perplexity`](Self::perplexity), as llama.cpp computes it.
    pub fn standard_error(&self) -> f64 {
        let count = self.tokens as f64;
        let mean = self.loss / count;
        let variance = (self.squares / count - mean * mean).max(0.0);
        (variance / (count - 1.0)).sqrt() * self.perplexity()
    }
}
