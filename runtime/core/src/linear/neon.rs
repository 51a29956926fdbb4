//! AArch64 as every ARMv8.0 has it: four rows at a time, a pair of columns in a pair of 16-bit lanes.
//!
//! `smlal` multiplies bytes into 16-bit sums. Codes lie as four rows × two columns in eight bytes, activations as
//! each pair four times, so a lane pair belongs to one row, and one pairwise add at the end of a block gives four
//! 32-bit sums. Sixteen products of 15 * 127 stay below 2¹⁵, so 4-bit codes need that add once a block; products of
//! 8-bit codes must be added after two (2 * 128 * 127).

use super::activations::{ActivationLayout, META_BYTES, Order};
use super::layout::{Interleave, PARAM_BYTES};
use super::{Implementation, Tile, TileFn};
use crate::WeightFormat;
use core::arch::aarch64::*;
use core::arch::asm;

/// The ARMv8.0 kernel for `format`.
pub(super) fn implementation(format: WeightFormat) -> &'static Implementation {
    implementation_of!(format, block, dense)
}

const fn block<const BITS: u8, const BLOCK: usize, const OFFSET: bool>() -> Implementation {
    Implementation {
        name: if BITS == 4 { "q4-neon" } else { "q8-neon" },
        interleave: Interleave {
            rows: 4,
            unit: 2,
            unsigned: false,
        },
        activations: ActivationLayout {
            order: Order::Pairs4,
            block: BLOCK,
        },
        tile_functions: const {
            &[
                (4, block_tile::<BITS, BLOCK, OFFSET, 4> as TileFn),
                (2, block_tile::<BITS, BLOCK, OFFSET, 2>),
                (1, block_tile::<BITS, BLOCK, OFFSET, 1>),
            ]
        },
    }
}

pub(super) const fn dense<const BYTES: usize>() -> Implementation {
    let name = if BYTES == 2 { "f16-neon" } else { "f32-neon" };
    Implementation::dense(
        name,
        const {
            &[
                (4, dense_tile::<BYTES, 4> as TileFn),
                (2, dense_tile::<BYTES, 2>),
                (1, dense_tile::<BYTES, 1>),
            ]
        },
    )
}

/// # Safety
/// See [`TileFn`].
#[target_feature(enable = "neon")]
unsafe fn block_tile<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile,
) {
    let shape = tile.shape;
    let meta_stride = shape.blocks * META_BYTES;
    // A compile-time constant equal to `shape.row_bytes / 4`: registers of one block's codes of four rows.
    let registers = BLOCK * BITS as usize / 32;
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut acc = [[vdupq_n_f32(0.0); TOKENS]; 4];
        let mut weights = tile.weights;
        let mut params = tile.weights.add(shape.params_at);
        for index in 0..shape.blocks {
            for (group, acc) in acc.iter_mut().enumerate() {
                // Columns 4i..4i+4 of the block, in its own order: a pair in each half.
                let mut columns = [vdupq_n_s8(0); 8];
                for j in 0..registers {
                    let codes = vld1q_u8(weights.add(j * 16));
                    if BITS == 4 {
                        columns[j] = vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15)));
                        columns[registers + j] = vreinterpretq_s8_u8(vshrq_n_u8::<4>(codes));
                    } else {
                        columns[j] = vreinterpretq_s8_u8(codes);
                    }
                }
                weights = weights.add(registers * 16);
                let scale = widen(params.add(group * 8));
                let offset = if OFFSET {
                    widen(params.add(PARAM_BYTES + group * 8))
                } else {
                    scale
                };
                for (token, acc) in acc.iter_mut().enumerate() {
                    let x = tile
                        .codes
                        .add(token * tile.codes_stride + index * BLOCK * 4)
                        .cast::<i8>();
                    let meta = tile.meta.add(token * meta_stride + index * META_BYTES);
                    let numbers = vld1q_f32(meta.cast());
                    let dot = if BITS == 4 {
                        let first = vld1q_s8(x);
                        let mut pairs = vmull_s8(vget_low_s8(columns[0]), vget_low_s8(first));
                        pairs = vmlal_high_s8(pairs, columns[0], first);
                        for j in 1..BLOCK / 4 {
                            let x = vld1q_s8(x.add(j * 16));
                            pairs = vmlal_s8(pairs, vget_low_s8(columns[j]), vget_low_s8(x));
                            pairs = vmlal_high_s8(pairs, columns[j], x);
                        }
                        let start = vdupq_laneq_s32::<2>(vreinterpretq_s32_f32(numbers));
                        vpadalq_s16(start, pairs)
                    } else {
                        let mut sum = vdupq_n_s32(0);
                        for j in 0..BLOCK / 4 {
                            let x = vld1q_s8(x.add(j * 16));
                            let pairs = vmull_s8(vget_low_s8(columns[j]), vget_low_s8(x));
                            sum = vpadalq_s16(sum, vmlal_high_s8(pairs, columns[j], x));
                        }
                        sum
                    };
                    *acc = accumulate::<OFFSET>(*acc, dot, scale, offset, numbers);
                }
            }
            params = params.add(shape.params_bytes);
        }
        finish(tile, acc);
    }
}

/// Adds one block of four rows: `fma(dot, d * scale, acc)`, then the offsets.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn accumulate<const OFFSET: bool>(
    acc: float32x4_t,
    dot: int32x4_t,
    scale: float32x4_t,
    offset: float32x4_t,
    meta: float32x4_t,
) -> float32x4_t {
    let acc = vfmaq_f32(acc, vcvtq_f32_s32(dot), vmulq_laneq_f32::<0>(scale, meta));
    if OFFSET {
        vfmaq_laneq_f32::<1>(acc, offset, meta)
    } else {
        acc
    }
}

/// Multiplies by the row multipliers and stores sixteen rows of each token.
///
/// # Safety
/// See [`TileFn`].
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn finish<const TOKENS: usize>(tile: &Tile, acc: [[float32x4_t; TOKENS]; 4]) {
    for (group, acc) in acc.into_iter().enumerate() {
        // SAFETY: sixteen multipliers and sixteen outputs a token, by the shape.
        unsafe {
            let multipliers = vld1q_f32(
                tile.weights
                    .add(tile.shape.multipliers_at + group * 16)
                    .cast(),
            );
            for (token, acc) in acc.into_iter().enumerate() {
                vst1q_f32(
                    tile.out.add(token * tile.out_stride + group * 4),
                    vmulq_f32(acc, multipliers),
                );
            }
        }
    }
}

/// Four halves as floats.
///
/// # Safety
/// Eight bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn widen(at: *const u8) -> float32x4_t {
    let wide;
    // SAFETY: the caller's promise; `fcvtl` touches registers only.
    unsafe {
        let halves = vld1_u8(at);
        asm!("fcvtl {o:v}.4s, {i:v}.4h", o = out(vreg) wide, i = in(vreg) halves, options(pure, nomem, nostack, preserves_flags));
    }
    wide
}

/// # Safety
/// See [`TileFn`].
#[target_feature(enable = "neon")]
unsafe fn dense_tile<const BYTES: usize, const TOKENS: usize>(tile: &Tile) {
    let mut acc = [[vdupq_n_f32(0.0); 4]; TOKENS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let columns = tile.shape.blocks;
        let mut column = 0;
        while column + 4 <= columns {
            let mut x = [vdupq_n_f32(0.0); TOKENS];
            for (token, x) in x.iter_mut().enumerate() {
                *x = vld1q_f32(
                    tile.codes
                        .add(token * tile.codes_stride + column * 4)
                        .cast(),
                );
            }
            dense_column::<BYTES, TOKENS, 0>(tile, column, &x, &mut acc);
            dense_column::<BYTES, TOKENS, 1>(tile, column + 1, &x, &mut acc);
            dense_column::<BYTES, TOKENS, 2>(tile, column + 2, &x, &mut acc);
            dense_column::<BYTES, TOKENS, 3>(tile, column + 3, &x, &mut acc);
            column += 4;
        }
        while column < columns {
            let mut x = [vdupq_n_f32(0.0); TOKENS];
            for (token, x) in x.iter_mut().enumerate() {
                *x = vld1q_dup_f32(
                    tile.codes
                        .add(token * tile.codes_stride + column * 4)
                        .cast(),
                );
            }
            dense_column::<BYTES, TOKENS, 0>(tile, column, &x, &mut acc);
            column += 1;
        }
        for (token, acc) in acc.into_iter().enumerate() {
            for (group, acc) in acc.into_iter().enumerate() {
                vst1q_f32(tile.out.add(token * tile.out_stride + group * 4), acc);
            }
        }
    }
}

/// Adds one column of sixteen rows times lane `LANE` of each token's `x`.
///
/// # Safety
/// `column` must be inside the tile.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dense_column<const BYTES: usize, const TOKENS: usize, const LANE: i32>(
    tile: &Tile,
    column: usize,
    x: &[float32x4_t; TOKENS],
    acc: &mut [[float32x4_t; 4]; TOKENS],
) {
    for group in 0..4 {
        // SAFETY: the caller's promise.
        let weights = unsafe {
            let at = tile.weights.add((column * 16 + group * 4) * BYTES);
            if BYTES == 2 {
                widen(at)
            } else {
                vld1q_f32(at.cast())
            }
        };
        for (acc, x) in acc.iter_mut().zip(x) {
            acc[group] = vfmaq_laneq_f32::<LANE>(acc[group], weights, *x);
        }
    }
}
