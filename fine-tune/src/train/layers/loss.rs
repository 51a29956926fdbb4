//! Cross entropy of the next token, without ever holding the logits of a whole batch.
//!
//! Only places that count get logits at all, and those a chunk at a time: a vocabulary of 49152 words makes 192 KiB a place.

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use furlong_core::{Isa, gradient};
use rayon::prelude::*;

use super::host;
use crate::train::model::{Batch, Gradients, Loss, ParameterId, Parameters};

/// Logits that are held at a time.
const CHUNK: usize = 16 << 20;

/// The loss of `hidden`, `[rows, width]`, under the output head `[vocabulary, width]`, and, where `gradients` are wanted, the
/// gradient of `hidden` with them.
pub fn cross_entropy(
    parameters: &Parameters,
    head: ParameterId,
    hidden: Tensor<2>,
    batch: &Batch,
    mut gradients: Option<&mut Gradients>,
) -> (Loss, Option<Tensor<2>>) {
    let device = hidden.device();
    let counted: Vec<usize> = (0..batch.len())
        .filter(|&i| batch.weights[i] != 0.0)
        .collect();
    let weight = parameters[head].value().clone();
    let trainable = parameters[head].is_trainable();
    let mut loss = Loss::default();
    let mut dhidden = gradients.is_some().then(|| hidden.zeros_like());
    for places in counted.chunks((CHUNK / weight.dims()[0].max(1)).max(1)) {
        let count = places.len();
        let list: Vec<i32> = places.iter().map(|&i| i as i32).collect();
        let rows: Tensor<1, Int> = Tensor::from_data(TensorData::new(list, [count]), &device);
        let chunk = hidden.clone().select(0, rows.clone());
        let logits = parameters.product(chunk.clone(), weight.clone().transpose());
        let weights: Vec<f32> = places.iter().map(|&i| batch.weights[i]).collect();
        let targets: Vec<u32> = places.iter().map(|&i| batch.targets[i]).collect();
        let (losses, dlogits) = of_logits(logits, &targets, &weights);
        loss.sum += losses.iter().map(|&one| f64::from(one)).sum::<f64>();
        loss.weight += weights.iter().map(|&weight| f64::from(weight)).sum::<f64>();
        loss.tokens += count;
        let (Some(gradients), Some(sum)) = (gradients.as_deref_mut(), dhidden.take()) else {
            continue;
        };
        if trainable {
            gradients.add(head, parameters.product(dlogits.clone().transpose(), chunk));
        }
        let dchunk = parameters.product(dlogits, weight.clone());
        dhidden = Some(sum.select_assign(0, rows, dchunk, IndexingUpdateOp::Add));
    }
    (loss, dhidden)
}

/// The losses of rows of logits, `[rows, classes]`, each times its weight, and their gradients.
pub fn of_logits(logits: Tensor<2>, targets: &[u32], weights: &[f32]) -> (Vec<f32>, Tensor<2>) {
    match host::kernels_of(&logits) {
        Some(isa) => on_host(isa, logits, targets, weights),
        None => by_operations(logits, targets, weights),
    }
}

fn by_operations(logits: Tensor<2>, targets: &[u32], weights: &[f32]) -> (Vec<f32>, Tensor<2>) {
    let targets: Vec<i32> = targets.iter().map(|&target| target as i32).collect();
    let targets = TensorData::new(targets, [weights.len(), 1]);
    let targets: Tensor<2, Int> = Tensor::from_data(targets, &logits.device());
    let data = TensorData::new(weights.to_vec(), [weights.len(), 1]);
    let weights: Tensor<2> = Tensor::from_data(data, &logits.device());
    let shifted = logits.clone() - logits.max_dim(1);
    let wanted = shifted.clone().gather(1, targets.clone());
    let exponentials = shifted.exp();
    let sums = exponentials.clone().sum_dim(1);
    let losses = (sums.clone().log() - wanted) * weights.clone();
    let dlogits = (exponentials / sums * weights.clone()).scatter(
        1,
        targets,
        weights.neg(),
        IndexingUpdateOp::Add,
    );
    (losses.into_data().iter::<f32>().collect(), dlogits)
}

fn on_host(isa: Isa, logits: Tensor<2>, targets: &[u32], weights: &[f32]) -> (Vec<f32>, Tensor<2>) {
    let device = logits.device();
    let vocabulary = logits.dims()[1];
    let mut data = host::take(logits);
    let losses = host::write(&mut data)
        .par_chunks_mut(vocabulary.max(1))
        .zip(targets)
        .zip(weights)
        .map(|((logits, &target), &weight)| {
            // The batch was checked: a target that counts is in the vocabulary.
            gradient::cross_entropy(isa, logits, target as usize, weight).unwrap_or(f32::NAN)
        })
        .collect();
    (losses, Tensor::from_data(data, &device))
}
