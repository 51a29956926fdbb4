//! Where the values of parameters come from: a checkpoint, or chance.

use std::f64::consts::PI;

use crate::architecture::TensorSpec;
use crate::checkpoint::Checkpoint;
use crate::comparison::Random;
use crate::error::Result;

/// The standard deviation of a new head.
const HEAD_DEVIATION: f32 = 0.02;

/// A source of values.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// The tensors of a checkpoint. A head that it has none of starts as Hugging Face's do, from a bell curve of deviation 0.02.
    Checkpoint(&'a Checkpoint, u64),
    /// Norms at 1, biases at 0, and matrices from a bell curve.
    Random {
        /// The same seed gives the same values on every machine.
        seed: u64,
        /// Standard deviation of a matrix.
        deviation: f32,
        /// How many matrices add to the residual stream.
        residual: usize,
    },
}

impl Source<'_> {
    /// The values of the tensor with this place in the model.
    pub fn values(&self, index: usize, spec: &TensorSpec) -> Result<Vec<f32>> {
        let (seed, deviation, residual) = match *self {
            Source::Checkpoint(checkpoint, seed) => {
                let made_up =
                    spec.name.starts_with("classifier.") || spec.name.starts_with("pooler.");
                if !made_up || checkpoint.is_stored(&spec.name) {
                    return Ok(checkpoint.tensor(&spec.name)?.data);
                }
                (seed, HEAD_DEVIATION, 1)
            }
            Source::Random {
                seed,
                deviation,
                residual,
            } => (seed, deviation, residual),
        };
        let count = spec.shape.iter().product();
        if spec.shape.len() == 1 {
            let value = if spec.name.ends_with(".bias") {
                0.0
            } else {
                1.0
            };
            return Ok(vec![value; count]);
        }
        let adds = ["o_proj", "down_proj", "c_proj", "output.dense"]
            .iter()
            .any(|module| spec.name.ends_with(&format!("{module}.weight")));
        let deviation = if adds {
            f64::from(deviation) / (residual.max(1) as f64).sqrt()
        } else {
            f64::from(deviation)
        };
        let mut random = Random::new(seed, index as u64);
        Ok(normal(&mut random, count)
            .into_iter()
            .map(|value| (value * deviation) as f32)
            .collect())
    }
}

/// Uniform in (0, 1).
pub fn uniform(random: &mut Random) -> f64 {
    ((random.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// Numbers with mean 0 and deviation 1: G. Box, M. Muller, 1958.
fn normal(random: &mut Random, count: usize) -> Vec<f64> {
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        let radius = (-2.0 * uniform(random).ln()).sqrt();
        let (sin, cos) = (2.0 * PI * uniform(random)).sin_cos();
        values.extend([radius * cos, radius * sin]);
    }
    values.truncate(count);
    values
}
