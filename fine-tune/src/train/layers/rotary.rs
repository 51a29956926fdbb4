//! Rotary position embedding: queries and keys are turned by an angle that grows with the position (rotate-half convention).

use burn::tensor::{Device, Tensor, TensorData};
use furlong_core::Isa;
use furlong_core::rope::{RopePairs, rope};

use super::host;
use crate::architecture::Rotary;
use crate::error::{Error, Result};

/// The cosines and sines of a batch's positions.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// `[rows, dims / 2]`
    cos: Vec<f32>,
    /// `[rows, dims / 2]`
    sin: Vec<f32>,
    /// The same on the device, unless it is the CPU.
    tensors: Option<[Tensor<2>; 2]>,
    half: usize,
}

impl Rotation {
    /// Looks up the angles of `positions`, one for each row.
    ///
    /// # Errors
    /// When the rotary embedding has no dimensions.
    pub fn new(rotary: &Rotary, positions: &[u32], device: &Device) -> Result<Rotation> {
        let half = rotary.dims / 2;
        if half == 0 {
            return Err(Error::training(
                "rotary embedding",
                "it rotates no dimension",
            ));
        }
        let count = positions.iter().max().map_or(0, |&last| last as usize + 1);
        let (cos, sin) = rotary.tables(count);
        let gather = |table: &[f32]| -> Vec<f32> {
            positions
                .iter()
                .flat_map(|&position| {
                    table
                        .get(position as usize * half..)
                        .unwrap_or_default()
                        .iter()
                        .take(half)
                        .copied()
                })
                .collect()
        };
        let (cos, sin) = (gather(&cos), gather(&sin));
        let tensors = host::kernels(device).is_none().then(|| {
            [&cos, &sin].map(|table| {
                let data = TensorData::new(table.clone(), [positions.len(), half]);
                Tensor::from_data(data, device)
            })
        });
        Ok(Rotation {
            cos,
            sin,
            tensors,
            half,
        })
    }

    /// Turns the heads of `x`, `[rows, heads * head_dim]`.
    pub fn forward(&self, x: Tensor<2>, heads: usize) -> Tensor<2> {
        match &self.tensors {
            Some([cos, sin]) => self.turn(x, heads, cos.clone(), sin.clone()),
            None => turn_on_host(x, heads, &self.cos, &self.sin, self.half),
        }
    }

    /// Turns a gradient back.
    pub fn backward(&self, dy: Tensor<2>, heads: usize) -> Tensor<2> {
        match &self.tensors {
            Some([cos, sin]) => self.turn(dy, heads, cos.clone(), sin.clone().neg()),
            None => {
                let sin: Vec<f32> = self.sin.iter().map(|sin| -sin).collect();
                turn_on_host(dy, heads, &self.cos, &sin, self.half)
            }
        }
    }

    fn turn(&self, x: Tensor<2>, heads: usize, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<2> {
        let [rows, width] = x.dims();
        let head_dim = width / heads;
        let x: Tensor<3> = x.reshape([rows, heads, head_dim]);
        let cos: Tensor<3> = cos.unsqueeze_dim(1);
        let sin: Tensor<3> = sin.unsqueeze_dim(1);
        let first = x.clone().narrow(2, 0, self.half);
        let second = x.clone().narrow(2, self.half, self.half);
        let mut parts = vec![
            first.clone() * cos.clone() - second.clone() * sin.clone(),
            second * cos + first * sin,
        ];
        if head_dim > 2 * self.half {
            parts.push(x.narrow(2, 2 * self.half, head_dim - 2 * self.half));
        }
        Tensor::cat(parts, 2).reshape([rows, width])
    }
}

fn turn_on_host(x: Tensor<2>, heads: usize, cos: &[f32], sin: &[f32], half: usize) -> Tensor<2> {
    let device = x.device();
    let width = x.dims()[1];
    let isa = Isa::detect();
    let mut data = host::take(x);
    host::each_part(host::write(&mut data), width, |first, x| {
        for (row, x) in (first..).zip(x.chunks_exact_mut(width)) {
            let [cos, sin] =
                [cos, sin].map(|table| table.get(row * half..(row + 1) * half).unwrap_or_default());
            for head in x.chunks_exact_mut(width / heads) {
                host::succeed(rope(isa, RopePairs::Halves, head, cos, sin));
            }
        }
    });
    Tensor::from_data(data, &device)
}
