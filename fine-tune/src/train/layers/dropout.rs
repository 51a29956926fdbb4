//! Dropout whose masks follow from a seed and a place, so that they need not be kept for the way back, and a resumed run draws
//! the same ones.

use burn::tensor::{Device, Tensor, TensorData};

use crate::comparison::Random;

/// Where in the model a mask is used; no two places share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site(u64);

impl Site {
    /// The place `index` of block `layer`.
    pub fn new(layer: usize, index: usize) -> Site {
        Site((layer as u64) << 16 | index as u64)
    }

    /// The place `index` outside the blocks.
    pub const fn last(index: u64) -> Site {
        Site(u64::MAX - index)
    }
}

/// The masks of one batch.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    seed: Option<u64>,
}

impl Dropout {
    /// Masks that follow from `seed`; without one nothing is dropped, as for evaluation.
    pub fn new(seed: Option<u64>) -> Dropout {
        Dropout { seed }
    }

    /// The mask for a matrix `[rows, cols]`: 0 with `probability`, else `1 / (1 - probability)`. `None` where nothing is dropped.
    pub fn mask(
        self,
        site: Site,
        probability: f32,
        [rows, cols]: [usize; 2],
        device: &Device,
    ) -> Option<Tensor<2>> {
        let seed = self.seed.filter(|_| probability > 0.0)?;
        let mut random = Random::new(seed, site.0);
        let limit = (f64::from(probability.min(1.0)) * 2f64.powi(32)) as u64;
        let kept = 1.0 / (1.0 - probability).max(f32::MIN_POSITIVE);
        let count = rows * cols;
        let mut mask = Vec::with_capacity(count + 1);
        while mask.len() < count {
            let bits = random.next();
            for half in [bits & 0xffff_ffff, bits >> 32] {
                mask.push(if half < limit { 0.0 } else { kept });
            }
        }
        mask.truncate(count);
        Some(Tensor::from_data(
            TensorData::new(mask, [rows, cols]),
            device,
        ))
    }
}
