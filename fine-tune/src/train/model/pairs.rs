//! Encoders learn from pairs of sentences that belong together: each must find its partner among those of the others.
//!
//! The loss is the cross entropy of `scale · cos(left, right)` over all right sentences of the batch (M. Henderson and others,
//! «Efficient Natural Language Response Suggestion for Smart Reply», 2017, arXiv 1705.00652), as in sentence-transformers.

use burn::tensor::Tensor;

use super::inputs::Inputs;
use super::states::Kept;
use super::{Batch, Gradients, Loss, Model};
use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::train::layers::loss;
use crate::train::layers::pooling::{Pool, PoolKept};

impl Model {
    /// The embeddings of the sentences of a batch, `[sentences, width]`: each segment of a row but 0 is a sentence.
    ///
    /// # Errors
    /// When the batch is out of the model's range, or the model is no sentence encoder.
    pub fn embeddings(&self, batch: &Batch) -> Result<Tensor<2>> {
        let inputs = self.inputs(batch, None)?;
        Ok(self.pool(batch, false)?.forward(self.states(&inputs)).0)
    }

    /// The loss of pairs in training, and its gradients, added to what `gradients` holds: sentence `n` of `left` belongs to
    /// sentence `n` of `right`. Cosines are multiplied by `scale`; 20 is usual.
    ///
    /// # Errors
    /// When a batch is out of the model's range, the two differ in their number of sentences, or the model is no sentence
    /// encoder.
    pub fn backward_pairs(
        &self,
        left: &Batch,
        right: &Batch,
        scale: f32,
        dropout_seed: Option<u64>,
        gradients: &mut Gradients,
    ) -> Result<Loss> {
        // Both sides must not have the same masks.
        let seeds = [dropout_seed, dropout_seed.map(|seed| !seed)];
        let left = self.encode(left, seeds[0])?;
        let right = self.encode(right, seeds[1])?;
        let (a, b) = (left.embeddings.clone(), right.embeddings.clone());
        let (loss, dscores) = pair_loss(a.clone(), b.clone(), scale)?;
        let dscores = dscores * scale;
        let da = dscores.clone().matmul(b);
        let db = dscores.transpose().matmul(a);
        left.back(self, da, gradients);
        right.back(self, db, gradients);
        Ok(loss)
    }

    /// The loss of pairs as evaluation sees it: nothing is dropped.
    ///
    /// # Errors
    /// As [`backward_pairs`](Model::backward_pairs).
    pub fn loss_pairs(&self, left: &Batch, right: &Batch, scale: f32) -> Result<Loss> {
        let unit = |batch| -> Result<Tensor<2>> {
            let states = self.states(&self.inputs(batch, None)?);
            Ok(self.pool(batch, true)?.forward(states).0)
        };
        Ok(pair_loss(unit(left)?, unit(right)?, scale)?.0)
    }

    fn encode(&self, batch: &Batch, dropout_seed: Option<u64>) -> Result<Encoded> {
        let inputs = self.inputs(batch, dropout_seed)?;
        let pool = self.pool(batch, true)?;
        let (states, kept) = self.states_kept(&inputs);
        let (embeddings, pooled) = pool.forward(states);
        Ok(Encoded {
            inputs,
            pool,
            kept,
            pooled,
            embeddings,
        })
    }

    /// How the sentences of a batch are pooled; of length 1 where the model says so, or for cosines.
    fn pool(&self, batch: &Batch, cosine: bool) -> Result<Pool> {
        let Architecture::Encoder(config) = &self.architecture else {
            return Err(Error::training(
                format!("a model of type {}", self.architecture.model_type()),
                "it embeds no sentences; pairs are for encoders",
            ));
        };
        let normalise = cosine || config.normalise;
        Pool::new(config.pooling, normalise, batch, self.parameters.device())
    }
}

/// One side of the pairs, with what the way back needs.
struct Encoded {
    inputs: Inputs,
    pool: Pool,
    kept: Kept,
    pooled: PoolKept,
    embeddings: Tensor<2>,
}

impl Encoded {
    fn back(self, model: &Model, dembeddings: Tensor<2>, gradients: &mut Gradients) {
        let dstates = self.pool.backward(self.pooled, dembeddings);
        model.states_back(&self.inputs, self.kept, dstates, gradients);
    }
}

/// The loss of embeddings of length 1, `[pairs, width]` each, and the gradient of their scores, `[pairs, pairs]`.
fn pair_loss(left: Tensor<2>, right: Tensor<2>, scale: f32) -> Result<(Loss, Tensor<2>)> {
    let [count, others] = [&left, &right].map(|side| side.dims()[0]);
    if count != others {
        let reason = format!("{count} left sentences and {others} right ones");
        return Err(Error::training("batch", reason));
    }
    let scores = left.matmul(right.transpose()) * scale;
    let targets: Vec<u32> = (0..count as u32).collect();
    let (losses, dscores) = loss::of_logits(scores, &targets, &vec![1.0; count]);
    let loss = Loss {
        sum: losses.iter().map(|&one| f64::from(one)).sum(),
        weight: count as f64,
        tokens: count,
    };
    Ok((loss, dscores))
}
