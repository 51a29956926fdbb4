//! AArch64 with `smmla`: two rows by two tokens, eight columns at a time.
//!
//! One instruction does 32 multiply-accumulates: codes lie as two rows × eight columns, activations as two tokens ×
//! eight columns. One token alone goes through `sdot` on the same layout.

use super::activations::{ActivationLayout, META_BYTES, Order};
use super::dotprod::sdot;
use super::layout::{Interleave, PARAM_BYTES};
use super::neon::{accumulate, dense, finish, widen};
use super::{Implementation, Tile, TileFn};
use crate::WeightFormat;
use core::arch::aarch64::*;
use core::arch::asm;

/// The matrix-multiply kernel for `format`.
pub(super) fn implementation(format: WeightFormat) -> &'static Implementation {
    implementation_of!(format, block, dense)
}

const fn block<const BITS: u8, const BLOCK: usize, const OFFSET: bool>() -> Implementation {
    Implementation {
        name: if BITS == 4 {
            "q4-neon-i8mm"
        } else {
            "q8-neon-i8mm"
        },
        interleave: Interleave {
            rows: 2,
            unit: 8,
            unsigned: false,
        },
        activations: ActivationLayout {
            order: Order::TokenPairs,
            block: BLOCK,
        },
        tile_functions: const {
            &[
                (4, pairs_tile::<BITS, BLOCK, OFFSET, 4> as TileFn),
                (2, pairs_tile::<BITS, BLOCK, OFFSET, 2>),
                (1, single_tile::<BITS, BLOCK, OFFSET>),
            ]
        },
    }
}

/// The codes of two rows: columns 8i..8i+8 of the block, in its own order, of one row and then of the other.
///
/// # Safety
/// One block of two rows must be readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_rows<const BITS: u8, const BLOCK: usize>(at: *const u8) -> [int8x16_t; 4] {
    let registers = BLOCK * BITS as usize / 64;
    let mut columns = [vdupq_n_s8(0); 4];
    for j in 0..registers {
        // SAFETY: the caller's promise.
        let codes = unsafe { vld1q_u8(at.add(j * 16)) };
        if BITS == 4 {
            columns[j] = vreinterpretq_s8_u8(vandq_u8(codes, vdupq_n_u8(15)));
            columns[registers + j] = vreinterpretq_s8_u8(vshrq_n_u8::<4>(codes));
        } else {
            columns[j] = vreinterpretq_s8_u8(codes);
        }
    }
    columns
}

/// # Safety
/// See [`TileFn`].
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn pairs_tile<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile,
) {
    let shape = tile.shape;
    let meta_stride = shape.blocks * META_BYTES;
    let row_bytes = BLOCK * BITS as usize / 8;
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape. Token functions
    // take whole pairs from an even token on, so every token here is interleaved with its neighbour.
    unsafe {
        let mut acc = [[vdupq_n_f32(0.0); TOKENS]; 4];
        let mut weights = tile.weights;
        let mut params = tile.weights.add(shape.params_at);
        for index in 0..shape.blocks {
            for (group, acc) in acc.iter_mut().enumerate() {
                let first = load_rows::<BITS, BLOCK>(weights);
                let second = load_rows::<BITS, BLOCK>(weights.add(2 * row_bytes));
                weights = weights.add(4 * row_bytes);
                let scale = widen(params.add(group * 8));
                let offset = if OFFSET {
                    widen(params.add(PARAM_BYTES + group * 8))
                } else {
                    scale
                };
                for (pair, acc) in acc.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                    let x = tile
                        .codes
                        .add(pair * 2 * tile.codes_stride + index * BLOCK * 2)
                        .cast::<i8>();
                    let meta = tile.meta.add(pair * 2 * meta_stride + index * META_BYTES);
                    let meta = [
                        vld1q_f32(meta.cast()),
                        vld1q_f32(meta.add(meta_stride).cast()),
                    ];
                    // [row 0 token 0, row 0 token 1, row 1 token 0, row 1 token 1], and rows 2 and 3.
                    let start = if BITS == 4 {
                        vtrn1q_s32(
                            vdupq_laneq_s32::<2>(vreinterpretq_s32_f32(meta[0])),
                            vdupq_laneq_s32::<2>(vreinterpretq_s32_f32(meta[1])),
                        )
                    } else {
                        vdupq_n_s32(0)
                    };
                    let (mut low, mut high) = (start, start);
                    for j in 0..BLOCK / 8 {
                        let x = vld1q_s8(x.add(j * 16));
                        low = smmla(low, first[j], x);
                        high = smmla(high, second[j], x);
                    }
                    acc[0] =
                        accumulate::<OFFSET>(acc[0], vuzp1q_s32(low, high), scale, offset, meta[0]);
                    acc[1] =
                        accumulate::<OFFSET>(acc[1], vuzp2q_s32(low, high), scale, offset, meta[1]);
                }
            }
            params = params.add(shape.params_bytes);
        }
        finish(tile, acc);
    }
}

/// # Safety
/// See [`TileFn`].
#[target_feature(enable = "neon,dotprod")]
unsafe fn single_tile<const BITS: u8, const BLOCK: usize, const OFFSET: bool>(tile: &Tile) {
    let shape = tile.shape;
    let row_bytes = BLOCK * BITS as usize / 8;
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut acc = [[vdupq_n_f32(0.0); 1]; 4];
        let mut weights = tile.weights;
        let mut params = tile.weights.add(shape.params_at);
        for index in 0..shape.blocks {
            let meta = vld1q_f32(tile.meta.add(index * META_BYTES).cast());
            // Eight columns twice: once for each of two rows.
            let mut x = [vdupq_n_s8(0); 4];
            for (j, x) in x.iter_mut().take(BLOCK / 8).enumerate() {
                *x = vreinterpretq_s8_u64(vld1q_dup_u64(
                    tile.codes.add(index * BLOCK + j * 8).cast(),
                ));
            }
            for (group, [acc]) in acc.iter_mut().enumerate() {
                let first = load_rows::<BITS, BLOCK>(weights);
                let second = load_rows::<BITS, BLOCK>(weights.add(2 * row_bytes));
                weights = weights.add(4 * row_bytes);
                let scale = widen(params.add(group * 8));
                let offset = if OFFSET {
                    widen(params.add(PARAM_BYTES + group * 8))
                } else {
                    scale
                };
                // [row 0, row 0, row 1, row 1]: the pairs are added at the end. The start must count once.
                let start = if BITS == 4 {
                    vtrn1q_s32(
                        vdupq_laneq_s32::<2>(vreinterpretq_s32_f32(meta)),
                        vdupq_n_s32(0),
                    )
                } else {
                    vdupq_n_s32(0)
                };
                let (mut low, mut high) = (start, start);
                for j in 0..BLOCK / 8 {
                    low = sdot(low, first[j], x[j]);
                    high = sdot(high, second[j], x[j]);
                }
                *acc = accumulate::<OFFSET>(*acc, vpaddq_s32(low, high), scale, offset, meta);
            }
            params = params.add(shape.params_bytes);
        }
        finish(tile, acc);
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
