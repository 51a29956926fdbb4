//! Activations for the kernels, prepared by all threads where there are many tokens.

use furlong_core::LinearKernel;

use super::Buffer;
use crate::pool::Pool;

/// Prepares `x` `[tokens, cols]` for `kernel` into `scratch`.
pub(crate) fn prepare(
    kernel: &LinearKernel,
    x: &[f32],
    tokens: usize,
    cols: usize,
    scratch: &mut Buffer,
    pool: &Pool,
) -> Result<(), furlong_core::Error> {
    let out = scratch.reserve(kernel.activation_bytes(tokens, cols)?);
    let group = kernel.token_group();
    if pool.threads() == 1 || tokens <= group {
        return kernel.prepare(x, tokens, cols, out);
    }
    let token_bytes = kernel.activation_bytes(1, cols)?;
    pool.for_rows(out, token_bytes, group, |first, part| {
        let count = part.len() / token_bytes.max(1);
        let x = x.get(first * cols..(first + count) * cols);
        kernel.prepare(x.unwrap_or_default(), count, cols, part)
    })
}
