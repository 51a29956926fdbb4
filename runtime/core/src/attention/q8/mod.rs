//! Attention over a cache of 8-bit keys and values, multiplied as whole numbers.
//!
//! Keys, values and queries are cut into blocks of 32 columns of `scale * code` (see [`rows`]). For each query head, with the
//! positions taken 32 at a time,
//!
//! ```text
//! score[p]  = Σ blocks:  (Σ query codes * key codes) * (key scale * (query scale * scale * log2 e))
//! largest   = max(largest, round(max score[p]))                 a whole number: what was summed shrinks by a power of two
//! weight[p] = 2^(score[p] - largest)
//! of each block of columns, with the weights times the values' scales rounded to 8 bits anew:
//! out       = out * shrink + factor * Σ weight codes * value codes
//! ```
//!
//! and at the end `out / Σ weight`. The sums in brackets are of whole numbers, so no order is left to the instruction set; the
//! rest is done lane by lane, so that every instruction set gives the bits of the scalar twin ([`plain`]). Positions are
//! taken from multiples of 32 on whatever a sliding window shows, so that a token gets the same bits however it comes.
//! Online softmax as in [`attend`](super::attend).

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_softmax;
mod online;
mod plain;
mod rows;
#[cfg(test)]
mod tests;

pub use rows::{
    Q8_POSITIONS, Q8Groups, Q8Queries, narrow_queries, q8_columns, q8_scales, store_key,
    store_value,
};

use super::{AttentionShape, HEADS, check_queries, visible_range};
use crate::{Error, Isa, MatrixMut, Operand};
use online::{Call, Kernel, heads};

/// The name of the kernel that [`attend_q8`] runs on `isa`, for reports.
pub fn q8_kernel_name(isa: Isa) -> &'static str {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        crate::IsaKind::Avx2 => avx2::Avx2::NAME,
        #[cfg(target_arch = "x86_64")]
        crate::IsaKind::Avx512Vnni => avx512::Avx512::NAME,
        #[cfg(target_arch = "aarch64")]
        crate::IsaKind::Neon => neon::Neon::NAME,
        #[cfg(target_arch = "aarch64")]
        crate::IsaKind::NeonDotprod | crate::IsaKind::NeonI8mm => dotprod::Dotprod::NAME,
        _ => plain::Plain::NAME,
    }
}

/// [`attend`](super::attend) over 8-bit keys and values of `positions` positions.
///
/// `queries` holds token `t`, head `h` in row `t * query_stride / head_dim + h`, so `query_stride` must be a multiple of
/// `head_dim`. What the cache holds past the last position has no influence.
///
/// # Errors
/// As `attend`; [`Error::Length`] also when keys or values are not whole groups, or too few for `positions`.
pub fn attend_q8(
    isa: Isa,
    shape: &AttentionShape,
    queries: Q8Queries<'_>,
    keys: Q8Groups<'_>,
    values: Q8Groups<'_>,
    positions: usize,
    mut out: MatrixMut<'_>,
) -> Result<(), Error> {
    let rows = queries.rows(shape.head_dim)?;
    check_queries(shape, rows.saturating_mul(shape.head_dim), &out)?;
    if !shape.query_stride.is_multiple_of(shape.head_dim) {
        return Err(Error::Shape);
    }
    if keys.positions(shape.head_dim) < Some(positions) {
        return Err(Error::Length(Operand::Keys));
    }
    if values.positions(shape.value_dim) < Some(positions) {
        return Err(Error::Length(Operand::CachedValues));
    }
    for token in 0..shape.tokens {
        let (start, end) = visible_range(shape.visible, token, positions);
        let first = token * (shape.query_stride / shape.head_dim);
        let out = out.row_mut(token).ok_or(Error::Length(Operand::Output))?;
        out.fill(0.0);
        for (index, out) in out.chunks_mut(HEADS * shape.value_dim).enumerate() {
            let count = out.len() / shape.value_dim;
            let queries = queries
                .part(first + index * HEADS, count, shape.head_dim)
                .ok_or(Error::Length(Operand::Queries))?;
            let call = Call {
                shape,
                visible: start..end,
                queries,
                keys,
                values,
            };
            dispatch(isa, &call, count, out);
        }
    }
    Ok(())
}

/// Runs `count` heads on the instruction set's kernel.
fn dispatch(isa: Isa, call: &Call<'_>, count: usize, out: &mut [f32]) {
    #[inline(always)]
    fn on<K: Kernel>(call: &Call<'_>, count: usize, out: &mut [f32]) {
        match count {
            1 => heads::<K, 1>(call, out),
            2 => heads::<K, 2>(call, out),
            3 => heads::<K, 3>(call, out),
            _ => heads::<K, HEADS>(call, out),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn on_avx2(call: &Call<'_>, count: usize, out: &mut [f32]) {
        on::<avx2::Avx2>(call, count, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn on_avx512(call: &Call<'_>, count: usize, out: &mut [f32]) {
        on::<avx512::Avx512>(call, count, out);
    }

    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon,dotprod")]
    fn on_dotprod(call: &Call<'_>, count: usize, out: &mut [f32]) {
        on::<dotprod::Dotprod>(call, count, out);
    }

    match isa.kind() {
        // SAFETY: the `Isa` proves that the CPU has these features.
        #[cfg(target_arch = "x86_64")]
        crate::IsaKind::Avx2 => unsafe { on_avx2(call, count, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        crate::IsaKind::Avx512Vnni => unsafe { on_avx512(call, count, out) },
        #[cfg(target_arch = "aarch64")]
        crate::IsaKind::Neon => on::<neon::Neon>(call, count, out),
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        crate::IsaKind::NeonDotprod | crate::IsaKind::NeonI8mm => unsafe {
            on_dotprod(call, count, out);
        },
        _ => on::<plain::Plain>(call, count, out),
    }
}
