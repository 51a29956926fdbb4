//! AArch64 with `smmla`: two rows by two tokens, eight columns at a time.
//!
//! One instruction does 32 multiply-accumulates: codes lie as two rows × eight columns, activations as two
//! tokens × eight columns, and the sums stay in two by two until the end. One token alone goes through `sdot`
//! on the same layout of weights.

use super::activations::{NUMBER_BYTES, Order};
use super::dotprod::sdot;
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES};
use super::neon::{accumulate, dense_tile, finish, load_codes, start, widen, widen16};
use crate::vector::unrolled;
use core::arch::aarch64::*;
use core::arch::asm;

implementations! {
    quantised: "neon-i8mm",
    dense: "neon",
    Interleave::of(crate::IsaKind::NeonI8mm),
    Order::TokenPairs,
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn block_tile<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if TOKENS == 1 {
            one_token::<BITS, BLOCK, OFFSET>(tile);
        } else {
            for group in 0..4 {
                token_pairs::<BITS, BLOCK, OFFSET, TOKENS>(tile, group);
            }
        }
    }
}

/// Loads one block of four rows as the first and the second pair of rows: columns 8i..8i+8 of the block, in its
/// own order, of one row and then of the other.
///
/// # Safety
/// The block must be readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_pairs<const BITS: u8, const BLOCK: usize>(at: *const u8) -> [[int8x16_t; 4]; 2] {
    // SAFETY: the caller's promise.
    let c = unsafe { load_codes::<BITS, BLOCK>(at) };
    match (BITS, BLOCK) {
        // Low halves of both pairs, then high halves.
        (4, 32) => [[c[0], c[1], c[4], c[5]], [c[2], c[3], c[6], c[7]]],
        (4, _) => [[c[0], c[2], c[2], c[2]], [c[1], c[3], c[3], c[3]]],
        (_, 32) => [[c[0], c[1], c[2], c[3]], [c[4], c[5], c[6], c[7]]],
        (_, _) => [[c[0], c[1], c[1], c[1]], [c[2], c[3], c[3], c[3]]],
    }
}

/// # Safety
/// See [`super::kernel::TileFn`]; `TOKENS` is even and `group` below 4.
#[inline]
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn token_pairs<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile,
    group: usize,
) {
    let group_bytes = BLOCK * BITS as usize / 2;
    // Of each pair of tokens a, b: rows [0a, 0b, 1a, 1b] in the even places, [2a, 2b, 3a, 3b] in the odd.
    let mut acc = [vdupq_n_f32(0.0); TOKENS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut weights = tile.weights.add(group * group_bytes);
        let mut params = tile.weights.add(tile.shape.params_at + group * 8);
        let mut record = tile.activations;
        for _ in 0..tile.shape.blocks {
            let [first, second] = load_pairs::<BITS, BLOCK>(weights);
            let scale = twice(widen(params));
            let offset = if OFFSET {
                twice(widen(params.add(PARAM_BYTES)))
            } else {
                scale
            };
            unrolled!(pair < TOKENS / 2, at most 4, {
                let record = record.add(pair * 2 * (BLOCK + NUMBER_BYTES));
                let numbers = record.add(2 * BLOCK);
                let factor = both(numbers);
                let sums = both(numbers.add(8));
                let start = if BITS == 4 {
                    vreinterpretq_s32_f32(both(numbers.add(16)))
                } else {
                    vdupq_n_s32(0)
                };
                let mut dot = [start; 2];
                unrolled!(j < BLOCK / 8, at most 4, {
                    let x = vld1q_s8(record.add(j * 16).cast());
                    dot[0] = smmla(dot[0], first[j], x);
                    dot[1] = smmla(dot[1], second[j], x);
                });
                unrolled!(half < 2, at most 2, {
                    let acc = &mut acc[pair * 2 + half];
                    let factor = vmulq_f32(factor, scale[half]);
                    *acc = vfmaq_f32(*acc, vcvtq_f32_s32(dot[half]), factor);
                    if OFFSET {
                        *acc = vfmaq_f32(*acc, sums, offset[half]);
                    }
                });
            });
            record = record.add(TOKENS * (BLOCK + NUMBER_BYTES));
            weights = weights.add(4 * group_bytes);
            params = params.add(if OFFSET { 2 * PARAM_BYTES } else { PARAM_BYTES });
        }
        for pair in acc.as_chunks_mut::<2>().0 {
            *pair = [vuzp1q_f32(pair[0], pair[1]), vuzp2q_f32(pair[0], pair[1])];
        }
        finish(tile, group, acc);
    }
}

/// `[a, a, b, b]` and `[c, c, d, d]`.
#[inline]
#[target_feature(enable = "neon")]
fn twice(values: float32x4_t) -> [float32x4_t; 2] {
    [vzip1q_f32(values, values), vzip2q_f32(values, values)]
}

/// A number of each of two tokens, as `[a, b, a, b]`.
///
/// # Safety
/// Eight bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn both(at: *const u8) -> float32x4_t {
    // SAFETY: the caller's promise.
    vreinterpretq_f32_u64(unsafe { vld1q_dup_u64(at.cast()) })
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn one_token<const BITS: u8, const BLOCK: usize, const OFFSET: bool>(tile: &Tile) {
    let group_bytes = BLOCK * BITS as usize / 2;
    let mut acc = [vdupq_n_f32(0.0); 4];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut weights = tile.weights;
        let mut params = tile.weights.add(tile.shape.params_at);
        let mut record = tile.activations;
        for _ in 0..tile.shape.blocks {
            let numbers = vld1q_f32(record.add(BLOCK).cast());
            // Eight columns twice: once for each of two rows.
            let mut x = [vdupq_n_s8(0); 4];
            for (j, x) in x.iter_mut().enumerate().take(BLOCK / 8) {
                *x = vreinterpretq_s8_u64(vld1q_dup_u64(record.add(j * 8).cast()));
            }
            // Sums lie as [row 0, row 0, row 1, row 1] and are added in pairs: the start must count once.
            let zero = vdupq_n_s32(0);
            let start = if BITS == 4 {
                vtrn1q_s32(start(numbers), zero)
            } else {
                zero
            };
            let scales = widen16(params);
            let offsets = if OFFSET {
                widen16(params.add(PARAM_BYTES))
            } else {
                scales
            };
            for (group, acc) in acc.iter_mut().enumerate() {
                let [first, second] = load_pairs::<BITS, BLOCK>(weights.add(group * group_bytes));
                let (mut low, mut high) = (start, start);
                for j in 0..BLOCK / 8 {
                    low = sdot(low, first[j], x[j]);
                    high = sdot(high, second[j], x[j]);
                }
                let dot = vpaddq_s32(low, high);
                *acc = accumulate::<OFFSET>(*acc, dot, scales[group], offsets[group], numbers);
            }
            weights = weights.add(4 * group_bytes);
            params = params.add(if OFFSET { 2 * PARAM_BYTES } else { PARAM_BYTES });
            record = record.add(BLOCK + NUMBER_BYTES);
        }
        for (group, acc) in acc.into_iter().enumerate() {
            finish(tile, group, [acc]);
        }
    }
}

/// Adds the 2 × 2 dot products of two rows of codes with two tokens, eight columns.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn smmla(sum: int32x4_t, rows: int8x16_t, tokens: int8x16_t) -> int32x4_t {
    let mut out = sum;
    // SAFETY: touches registers only, and the function has the feature.
    unsafe {
        asm!(
            "smmla {o:v}.4s, {a:v}.16b, {b:v}.16b",
            o = inout(vreg) out, a = in(vreg) rows, b = in(vreg) tokens,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}
