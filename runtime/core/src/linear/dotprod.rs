//! AArch64 with `sdot`: four rows in the lanes of one register, four columns at a time.
//!
//! The activations of four columns are one lane of a register, chosen by the instruction, so nothing is copied
//! about. Stable Rust has no intrinsic for `sdot`, hence the `asm!`.

use super::activations::{ActivationLayout, META_BYTES, Order};
use super::layout::{Interleave, PARAM_BYTES};
use super::neon::{accumulate, dense, finish, widen};
use super::{Implementation, Tile, TileFn};
use crate::WeightFormat;
use core::arch::aarch64::*;
use core::arch::asm;

/// The dot-product kernel for `format`.
pub(super) fn implementation(format: WeightFormat) -> &'static Implementation {
    implementation_of!(format, block, dense)
}

const fn block<const BITS: u8, const BLOCK: usize, const OFFSET: bool>() -> Implementation {
    Implementation {
        name: if BITS == 4 {
            "q4-neon-dotprod"
        } else {
            "q8-neon-dotprod"
        },
        interleave: Interleave {
            rows: 4,
            unit: 4,
            unsigned: false,
        },
        activations: ActivationLayout {
            order: Order::Plain,
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

/// # Safety
/// See [`TileFn`].
#[target_feature(enable = "neon,dotprod")]
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
                // Columns 4i..4i+4 of the block, in its own order.
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
                        .add(token * tile.codes_stride + index * BLOCK)
                        .cast::<i8>();
                    let meta = vld1q_f32(
                        tile.meta
                            .add(token * meta_stride + index * META_BYTES)
                            .cast(),
                    );
                    let mut dot = if BITS == 4 {
                        vdupq_laneq_s32::<2>(vreinterpretq_s32_f32(meta))
                    } else {
                        vdupq_n_s32(0)
                    };
                    for part in 0..BLOCK / 16 {
                        let x = vld1q_s8(x.add(part * 16));
                        dot = sdot_lane::<0>(dot, columns[part * 4], x);
                        dot = sdot_lane::<1>(dot, columns[part * 4 + 1], x);
                        dot = sdot_lane::<2>(dot, columns[part * 4 + 2], x);
                        dot = sdot_lane::<3>(dot, columns[part * 4 + 3], x);
                    }
                    *acc = accumulate::<OFFSET>(*acc, dot, scale, offset, meta);
                }
            }
            params = params.add(shape.params_bytes);
        }
        finish(tile, acc);
    }
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
