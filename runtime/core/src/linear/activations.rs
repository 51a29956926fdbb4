//! Activations as the kernels want them: quantised on the fly, 16 or 32 columns to a scale.
//!
//! For each token and block: `d = max|x| / 127`, `q = round(x / d)` to even, as i8. Rounding is to the
//! nearest by adding 1.5·2²³, so the integer appears in the low bits and any vector width gives the same.
//! A prepared buffer holds the codes of all tokens, then 16 bytes for each token and block
//! ([`Meta`]). Codes of a block are in the order even columns, odd columns (see `layout`). A block
//! with an infinity or a NaN gets a NaN scale, so that its outputs are NaN and not quietly wrong.

use super::layout::TILE_ALIGN;
use crate::math::ROUND;
use crate::vector::for_each_isa;
use crate::{Error, Isa};

/// How the prepared codes of tokens are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    not(target_arch = "aarch64"),
    allow(dead_code, reason = "some orders are AArch64 kernels' own")
)]
pub(crate) enum Order {
    /// One token after the other.
    Plain,
    /// One token after the other, every pair of codes four times: what `smlal` on four rows wants.
    Pairs4,
    /// Two tokens side by side, eight codes of each in turn: what `smmla` wants. A last odd token is plain.
    TokenPairs,
    /// Not quantised: f32, one token after the other.
    Float,
}

/// How a kernel wants its activations. Kernels with equal layouts can share one prepared buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ActivationLayout {
    pub(crate) order: Order,
    /// Columns that share a scale; 1 for floats.
    pub(crate) block: usize,
}

/// What a kernel needs besides the codes of a block: `[d, d * Σq]` as f32, `[-8 Σq, -128 Σq]` as i32.
pub(crate) const META_BYTES: usize = 16;

/// Sizes of a prepared buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ActivationShape {
    pub blocks: usize,
    /// Bytes of one token's codes.
    pub token_bytes: usize,
    /// Where the meta data starts.
    pub meta_at: usize,
    pub bytes: usize,
}

impl ActivationLayout {
    pub(crate) fn shape(self, tokens: usize, columns: usize) -> Result<ActivationShape, Error> {
        let sizes = || {
            let blocks = columns.div_ceil(self.block);
            let expand = match self.order {
                Order::Plain | Order::TokenPairs => 1,
                Order::Pairs4 | Order::Float => 4,
            };
            let token_bytes = blocks.checked_mul(self.block)?.checked_mul(expand)?;
            let meta_at = token_bytes
                .checked_mul(tokens)?
                .checked_next_multiple_of(TILE_ALIGN)?;
            let meta = if self.order == Order::Float {
                0
            } else {
                META_BYTES
            };
            let bytes = meta_at.checked_add(blocks.checked_mul(tokens)?.checked_mul(meta)?)?;
            Some(ActivationShape {
                blocks,
                token_bytes,
                meta_at,
                bytes,
            })
        };
        sizes().ok_or(Error::Overflow)
    }

    /// Fills `dst` from `x` `[tokens, columns]`. Lengths were checked by the caller.
    pub(crate) fn prepare(
        self,
        isa: Isa,
        x: &[f32],
        columns: usize,
        shape: ActivationShape,
        dst: &mut [u8],
    ) {
        if self.order == Order::Float {
            copy_floats(isa, x, dst);
            return;
        }
        let (codes, meta) = dst.split_at_mut(shape.meta_at);
        let tokens = x.len() / columns;
        for (token, (x, meta)) in x
            .chunks_exact(columns)
            .zip(meta.chunks_exact_mut(shape.blocks * META_BYTES))
            .enumerate()
        {
            // (start, distance between eights) of this token's codes.
            let (start, step) = match self.order {
                Order::TokenPairs if token | 1 < tokens => {
                    (token / 2 * 2 * shape.token_bytes + token % 2 * 8, 16)
                }
                _ => (token * shape.token_bytes, 8),
            };
            let Some(codes) = codes.get_mut(start..) else {
                return;
            };
            match (self.order, self.block) {
                (Order::Pairs4, 16) => quantise_pairs::<16>(isa, x, codes, meta),
                (Order::Pairs4, _) => quantise_pairs::<32>(isa, x, codes, meta),
                (_, 16) => quantise_eights::<16>(isa, x, codes, step, meta),
                (_, _) => quantise_eights::<32>(isa, x, codes, step, meta),
            }
        }
    }
}

for_each_isa! {
    fn copy_floats(x: &[f32], dst: &mut [u8]) {
        for (dst, x) in dst.as_chunks_mut::<4>().0.iter_mut().zip(x) {
            *dst = x.to_ne_bytes();
        }
    }
}

/// Codes of one block, even columns first, and its meta data.
#[inline(always)]
fn quantise_block<const BLOCK: usize>(x: &[f32; BLOCK]) -> ([u8; BLOCK], [u8; META_BYTES]) {
    let largest = x.iter().fold(0u32, |m, v| {
        let bits = v.to_bits() & 0x7FFF_FFFF;
        if bits > m { bits } else { m }
    });
    let amax = f32::from_bits(largest);
    let (scale, inverse) = if largest >= 0x7F80_0000 {
        (f32::NAN, 0.0)
    } else if amax < 1e-30 {
        (0.0, 0.0)
    } else {
        (amax / 127.0, 127.0 / amax)
    };
    let mut codes = [0u8; BLOCK];
    let mut sum = 0i32;
    for i in 0..BLOCK / 2 {
        let even = (x[2 * i] * inverse + ROUND).to_bits() as u8 as i8;
        let odd = (x[2 * i + 1] * inverse + ROUND).to_bits() as u8 as i8;
        sum += i32::from(even) + i32::from(odd);
        codes[i] = even as u8;
        codes[BLOCK / 2 + i] = odd as u8;
    }
    let mut meta = [0; META_BYTES];
    meta[..4].copy_from_slice(&scale.to_ne_bytes());
    meta[4..8].copy_from_slice(&(scale * sum as f32).to_ne_bytes());
    meta[8..12].copy_from_slice(&(-8 * sum).to_ne_bytes());
    meta[12..].copy_from_slice(&(-128 * sum).to_ne_bytes());
    (codes, meta)
}

/// Calls `store` with each block of a token, the last one padded with zeros.
#[inline(always)]
fn each_block<const BLOCK: usize>(
    x: &[f32],
    meta: &mut [u8],
    mut store: impl FnMut(usize, &[u8; BLOCK]),
) {
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    let (meta, _) = meta.as_chunks_mut::<META_BYTES>();
    for (index, (x, meta)) in blocks.iter().zip(meta.iter_mut()).enumerate() {
        let (codes, block_meta) = quantise_block(x);
        *meta = block_meta;
        store(index, &codes);
    }
    if let (false, Some(meta)) = (rest.is_empty(), meta.get_mut(blocks.len())) {
        let mut padded = [0.0; BLOCK];
        padded.iter_mut().zip(rest).for_each(|(p, &x)| *p = x);
        let (codes, block_meta) = quantise_block(&padded);
        *meta = block_meta;
        store(blocks.len(), &codes);
    }
}

for_each_isa! {
    fn quantise_eights<const BLOCK: usize>(x: &[f32], dst: &mut [u8], step: usize, meta: &mut [u8]) {
        each_block::<BLOCK>(x, meta, |index, codes| {
            let start = index * (BLOCK / 8) * step;
            for (i, eight) in codes.as_chunks::<8>().0.iter().enumerate() {
                if let Some(dst) = dst.get_mut(start + i * step..).and_then(|d| d.first_chunk_mut::<8>()) {
                    *dst = *eight;
                }
            }
        });
    }
}

for_each_isa! {
    fn quantise_pairs<const BLOCK: usize>(x: &[f32], dst: &mut [u8], meta: &mut [u8]) {
        each_block::<BLOCK>(x, meta, |index, codes| {
            let start = index * BLOCK * 4;
            let Some(dst) = dst.get_mut(start..start + BLOCK * 4) else { return };
            for (dst, &[a, b]) in dst.as_chunks_mut::<8>().0.iter_mut().zip(codes.as_chunks::<2>().0) {
                *dst = [a, b, a, b, a, b, a, b];
            }
        });
    }
}
