//! From the states of tokens to one embedding for each sentence, perhaps of length 1.

use burn::tensor::{Device, Tensor, TensorData};

use crate::architecture::Pooling;
use crate::error::{Error, Result};
use crate::train::model::Batch;

/// How the sentences of a batch are pooled.
#[derive(Debug)]
pub struct Pool {
    /// What each token counts in each sentence, `[sentences, rows * tokens]`.
    shares: Tensor<2>,
    normalise: bool,
}

/// What pooling keeps for the way back.
#[derive(Debug)]
pub struct PoolKept {
    /// The embeddings, `[sentences, width]`.
    embeddings: Tensor<2>,
    /// What they were divided by, `[sentences, 1]`.
    lengths: Option<Tensor<2>>,
}

impl Pool {
    /// Each segment of a row but 0, which is padding, is a sentence.
    ///
    /// # Errors
    /// For a pooling that can't be trained, and a batch without a sentence.
    pub fn new(pooling: Pooling, normalise: bool, batch: &Batch, device: &Device) -> Result<Pool> {
        let mut shares: Vec<f32> = Vec::new();
        let mut start = 0;
        for part in batch
            .segments
            .chunks(batch.tokens.max(1))
            .flat_map(|row| row.chunk_by(|a, b| a == b))
        {
            let end = start + part.len();
            if part.first() != Some(&0) {
                let (last, share) = match pooling {
                    Pooling::Mean => (end, 1.0 / part.len() as f32),
                    Pooling::Cls => (start + 1, 1.0),
                    Pooling::Max | Pooling::None => {
                        return Err(Error::training(
                            "pooling",
                            format!("{pooling:?} can't be trained; mean and cls can"),
                        ));
                    }
                };
                shares.extend((0..batch.len()).map(|token| {
                    if (start..last).contains(&token) {
                        share
                    } else {
                        0.0
                    }
                }));
            }
            start = end;
        }
        let sentences = shares.len() / batch.len().max(1);
        if sentences == 0 {
            return Err(Error::training("batch", "there is no sentence in it"));
        }
        Ok(Pool {
            shares: Tensor::from_data(TensorData::new(shares, [sentences, batch.len()]), device),
            normalise,
        })
    }

    /// The embeddings `[sentences, width]` of states `[rows * tokens, width]`, in the order of the batch.
    pub fn forward(&self, states: Tensor<2>) -> (Tensor<2>, PoolKept) {
        let pooled = self.shares.clone().matmul(states);
        let (embeddings, lengths) = if self.normalise {
            let lengths = pooled.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
            (pooled / lengths.clone(), Some(lengths))
        } else {
            (pooled, None)
        };
        let kept = PoolKept {
            embeddings: embeddings.clone(),
            lengths,
        };
        (embeddings, kept)
    }

    /// The gradient of the states from that of the embeddings.
    pub fn backward(&self, kept: PoolKept, dy: Tensor<2>) -> Tensor<2> {
        let dpooled = match kept.lengths {
            Some(lengths) => {
                let along = (dy.clone() * kept.embeddings.clone()).sum_dim(1);
                (dy - kept.embeddings * along) / lengths
            }
            None => dy,
        };
        self.shares.clone().transpose().matmul(dpooled)
    }
}
