//! AArch64 with `sdot`: four rows in the lanes of one register, four columns at a time.
//!
//! The activations of four columns are one lane of a register, chosen by the instruction, so nothing is
//! copied about. Stable Rust has no intrinsic for `sdot`, hence the `asm!`. One token takes the four groups
//! of four rows of a tile side by side; more tokens take them one after the other.

use super::activations::{NUMBER_BYTES, Order};
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES};
use super::neon::{accumulate, dense_tile, finish, load_codes, start, widen, widen16};
use crate::vector::unrolled;
use core::arch::aarch64::*;
use core::arch::asm;

implementations! {
    quantised: "neon-dotprod",
    dense: "neon",
    Interleave::of(crate::IsaKind::NeonDotprod),
    Order::Plain,
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "neon,dotprod")]
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
                many_tokens::<BITS, BLOCK, OFFSET, TOKENS>(tile, group);
            }
        }
    }
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
            let x = load_x::<BLOCK>(record);
            let numbers = vld1q_f32(record.add(BLOCK).cast());
            let start = if BITS == 4 {
                start(numbers)
            } else {
                vdupq_n_s32(0)
            };
            let scales = widen16(params);
            let offsets = if OFFSET {
                widen16(params.add(PARAM_BYTES))
            } else {
                scales
            };
            for (group, acc) in acc.iter_mut().enumerate() {
                let codes = load_codes::<BITS, BLOCK>(weights.add(group * group_bytes));
                let dot = dot::<BLOCK>(start, &codes, &x);
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

/// # Safety
/// See [`super::kernel::TileFn`]; `group` is below 4.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn many_tokens<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile,
    group: usize,
) {
    let group_bytes = BLOCK * BITS as usize / 2;
    let mut acc = [vdupq_n_f32(0.0); TOKENS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut weights = tile.weights.add(group * group_bytes);
        let mut params = tile.weights.add(tile.shape.params_at + group * 8);
        let mut record = tile.activations;
        for _ in 0..tile.shape.blocks {
            let codes = load_codes::<BITS, BLOCK>(weights);
            let scale = widen(params);
            let offset = if OFFSET {
                widen(params.add(PARAM_BYTES))
            } else {
                scale
            };
            unrolled!(token < TOKENS, {
                let x = load_x::<BLOCK>(record.add(token * (BLOCK + NUMBER_BYTES)));
                let numbers = record.add(token * (BLOCK + NUMBER_BYTES) + BLOCK);
                let numbers = vld1q_f32(numbers.cast());
                let start = if BITS == 4 {
                    start(numbers)
                } else {
                    vdupq_n_s32(0)
                };
                let dot = dot::<BLOCK>(start, &codes, &x);
                acc[token] = accumulate::<OFFSET>(acc[token], dot, scale, offset, numbers);
            });
            record = record.add(TOKENS * (BLOCK + NUMBER_BYTES));
            weights = weights.add(4 * group_bytes);
            params = params.add(if OFFSET { 2 * PARAM_BYTES } else { PARAM_BYTES });
        }
        finish(tile, group, acc);
    }
}

/// One token's codes of one block.
///
/// # Safety
/// `BLOCK` bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_x<const BLOCK: usize>(at: *const u8) -> [int8x16_t; 2] {
    // SAFETY: the caller's promise.
    unsafe {
        let first = vld1q_s8(at.cast());
        [
            first,
            if BLOCK == 32 {
                vld1q_s8(at.add(16).cast())
            } else {
                first
            },
        ]
    }
}

/// `start` plus the dot products of four rows' codes of one block with one token's.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const BLOCK: usize>(
    start: int32x4_t,
    codes: &[int8x16_t; 8],
    x: &[int8x16_t; 2],
) -> int32x4_t {
    let mut sum = start;
    for part in 0..BLOCK / 16 {
        sum = sdot_lane::<0>(sum, codes[part * 4], x[part]);
        sum = sdot_lane::<1>(sum, codes[part * 4 + 1], x[part]);
        sum = sdot_lane::<2>(sum, codes[part * 4 + 2], x[part]);
        sum = sdot_lane::<3>(sum, codes[part * 4 + 3], x[part]);
    }
    sum
}

/// Adds to each lane the dot product of its four codes with lane `LANE` of `x`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot_lane<const LANE: i32>(sum: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut out = sum;
    // SAFETY: touches registers only, and the function has the feature.
    unsafe {
        asm!(
            "sdot {o:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]",
            o = inout(vreg) out, a = in(vreg) codes, b = in(vreg) x, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}

/// Adds to each lane the dot product of its four codes with the same lane of `x`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(super) fn sdot(sum: int32x4_t, codes: int8x16_t, x: int8x16_t) -> int32x4_t {
    let mut out = sum;
    // SAFETY: touches registers only, and the function has the feature.
    unsafe {
        asm!(
            "sdot {o:v}.4s, {a:v}.16b, {b:v}.16b",
            o = inout(vreg) out, a = in(vreg) codes, b = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    out
}
