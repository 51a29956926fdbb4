//! Attention over a cache of 8-bit keys and values, multiplied as whole numbers.
//!
//! Keys, values and queries are cut into blocks of 32 columns of `scale * code` (see [`rows`]). For each query head, with the
//! positions taken 32 at a time,
//!
//! ```text
//! score[p]  = Σ blocks:  (Σ query codes * key codes) * (key scale * (query scale * scale * log2 e))
//! largest   = max(largest, round(max score[p]))                 a whole number: what was summed shrinks by a power of two
//! weight[p] = 2^(score[p] - largest)                            0 where that is below the smallest normal number
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
mod dots;
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
    Q8_MAX_COLUMNS, Q8_POSITIONS, Q8Groups, q8_columns, q8_scales, store_key, store_value,
};

use super::{AttentionShape, HEADS, check_queries, visible_range};
use crate::{Error, Isa, MatrixMut, Operand};
use online::{Call, Kernel, heads};
use rows::{QUERY_BLOCKS, Queries, narrow_queries};

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
/// What the cache holds past the last position has no influence.
///
/// # Errors
/// As `attend`; [`Error::Length`] also when keys or values are not whole groups, or too few for `positions`;
/// [`Error::Shape`] for more than [`Q8_MAX_COLUMNS`] columns.
pub fn attend_q8(
    isa: Isa,
    shape: &AttentionShape,
    queries: &[f32],
    keys: Q8Groups<'_>,
    values: Q8Groups<'_>,
    positions: usize,
    mut out: MatrixMut<'_>,
) -> Result<(), Error> {
    let width = check_queries(shape, queries, &out)?;
    if shape.head_dim > Q8_MAX_COLUMNS {
        return Err(Error::Shape);
    }
    if keys.positions(shape.head_dim) < Some(positions) {
        return Err(Error::Length(Operand::Keys));
    }
    if values.positions(shape.value_dim) < Some(positions) {
        return Err(Error::Length(Operand::CachedValues));
    }
    let shape = &shape.positive();
    let at_once = HEADS.min(QUERY_BLOCKS / q8_scales(shape.head_dim).max(1));
    let mut narrow = Queries::ZEROS;
    for token in 0..shape.tokens {
        let (start, end) = visible_range(shape.visible, token, positions);
        let queries = queries
            .get(token * shape.query_stride..)
            .and_then(|queries| queries.get(..width))
            .ok_or(Error::Length(Operand::Queries))?;
        let out = out.row_mut(token).ok_or(Error::Length(Operand::Output))?;
        out.fill(0.0);
        let heads = queries
            .chunks((at_once * shape.head_dim).max(1))
            .zip(out.chunks_mut((at_once * shape.value_dim).max(1)));
        for (queries, out) in heads {
            // Scores count in powers of two.
            let scale = shape.scale * core::f32::consts::LOG2_E;
            narrow_queries(isa, queries, shape.head_dim, scale, &mut narrow);
            let call = Call {
                shape,
                visible: start..end,
                queries: &narrow,
                keys,
                values,
            };
            dispatch(isa, &call, out);
        }
    }
    Ok(())
}

/// Runs the heads that `out` has room for on the instruction set's kernel.
fn dispatch(isa: Isa, call: &Call<'_>, out: &mut [f32]) {
    #[inline(always)]
    fn on<K: Kernel>(call: &Call<'_>, out: &mut [f32]) {
        match out.len() / call.shape.value_dim.max(1) {
            1 if HEADS > 1 => heads::<K, 1>(call, out),
            2 if HEADS > 1 => heads::<K, 2>(call, out),
            3 if HEADS > 1 => heads::<K, 3>(call, out),
            _ => heads::<K, HEADS>(call, out),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c")]
    fn on_avx2(call: &Call<'_>, out: &mut [f32]) {
        on::<avx2::Avx2>(call, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    fn on_avx512(call: &Call<'_>, out: &mut [f32]) {
        on::<avx512::Avx512>(call, out);
    }

    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon,dotprod")]
    fn on_dotprod(call: &Call<'_>, out: &mut [f32]) {
        on::<dotprod::Dotprod>(call, out);
    }

    match isa.kind() {
        // SAFETY: the `Isa` proves that the CPU has these features.
        #[cfg(target_arch = "x86_64")]
        crate::IsaKind::Avx2 => unsafe { on_avx2(call, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        crate::IsaKind::Avx512Vnni => unsafe { on_avx512(call, out) },
        #[cfg(target_arch = "aarch64")]
        crate::IsaKind::Neon => on::<neon::Neon>(call, out),
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        crate::IsaKind::NeonDotprod | crate::IsaKind::NeonI8mm => unsafe {
            on_dotprod(call, out);
        },
        _ => on::<plain::Plain>(call, out),
    }
}
