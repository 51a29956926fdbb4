//! Matrix products in f32 on all cores, by the runtime's own kernels.

use furlong_core::{DenseWeights, Floats, Isa, LinearKernel, MatrixMut, WeightFormat};
use rayon::prelude::*;

use super::llama::kernel_error;
use crate::checkpoint::Tensor;
use crate::error::Result;

/// Inputs whose moments are taken at once: sums in f32 stay short.
pub(super) const TOKENS_AT_ONCE: usize = 1024;

/// Inputs that one thread multiplies at a time.
const TOKENS_A_JOB: usize = 64;

/// `x · weightᵀ + bias` for `x` `[tokens, in]` and a weight `[out, in]`: `[tokens, out]`.
pub(super) fn linear(x: &[f32], weight: &Tensor, bias: Option<&Tensor>) -> Result<Vec<f32>> {
    let [rows, cols] = weight.shape[..] else {
        return Ok(Vec::new());
    };
    let mut out = multiply(x, &weight.data, rows, cols)?;
    if let Some(bias) = bias {
        out.par_chunks_mut(rows.max(1)).for_each(|row| {
            row.iter_mut().zip(&bias.data).for_each(|(y, b)| *y += b);
        });
    }
    Ok(out)
}

/// `xᵀ · x` for `x` `[tokens, cols]`: `[cols, cols]`.
pub(super) fn moments(x: &[f32], cols: usize) -> Result<Vec<f32>> {
    let tokens = x.len() / cols.max(1);
    let mut turned = vec![0.0; x.len()];
    turned
        .par_chunks_mut(tokens.max(1))
        .enumerate()
        .for_each(|(col, row)| {
            let column = x.iter().skip(col).step_by(cols);
            row.iter_mut()
                .zip(column)
                .for_each(|(place, x)| *place = *x);
        });
    multiply(&turned, &turned, cols, tokens)
}

/// `x · weightsᵀ` for `x` `[tokens, cols]` and `weights` `[rows, cols]`.
fn multiply(x: &[f32], weights: &[f32], rows: usize, cols: usize) -> Result<Vec<f32>> {
    let kernel = LinearKernel::select(WeightFormat::F32, Isa::detect()).map_err(kernel_error)?;
    let weights = DenseWeights::new(rows, cols, Floats::F32(weights)).map_err(kernel_error)?;
    let mut packed = vec![0; kernel.packed_bytes(rows, cols).map_err(kernel_error)?];
    kernel
        .pack(&weights.into(), 0..rows, &mut packed)
        .map_err(kernel_error)?;
    let tokens = x.len() / cols.max(1);
    let mut out = vec![0.0; tokens * rows];
    out.par_chunks_mut((TOKENS_A_JOB * rows).max(1))
        .zip(x.par_chunks((TOKENS_A_JOB * cols).max(1)))
        .try_for_each(|(out, x)| {
            let tokens = x.len() / cols;
            let mut prepared = vec![0; kernel.activation_bytes(tokens, cols)?];
            kernel.prepare(x, tokens, cols, &mut prepared)?;
            let out = MatrixMut::new(out, tokens, rows)?;
            kernel.multiply(&packed, rows, cols, &prepared, tokens, 0..rows, out)
        })
        .map_err(kernel_error)?;
    Ok(out)
}
