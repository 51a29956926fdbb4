//! AArch64 as every ARMv8.0 has it: four rows at a time, a pair of columns in a pair of 16-bit lanes.
//!
//! `smlal` multiplies bytes into 16-bit sums. Codes lie as four rows × two columns in eight bytes,
//! activations as each pair four times, so a lane pair belongs to one row, and one pairwise add at the end of
//! a block gives four 32-bit sums. Sixteen products of 15 * 127 stay below 2¹⁵, so 4-bit codes need that add
//! once a block; products of 8-bit codes must be added after two (2 * 128 * 127).
//!
//! One token takes the four groups of four rows of a tile side by side; more tokens take them one after the
//! other, with the sums of all tokens in registers.

use super::activations::{NUMBER_BYTES, Order};
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES, part_of};
use crate::vector::unrolled;
use core::arch::aarch64::*;
use core::arch::asm;

implementations! {
    quantised: "neon",
    dense: "neon",
    Interleave::of(crate::IsaKind::Neon),
    Order::Pairs4,
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "neon")]
unsafe fn block_tile<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
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
#[target_feature(enable = "neon")]
unsafe fn one_token<const BITS: u8, const BLOCK: usize, const OFFSET: bool>(tile: &Tile<'_>) {
    let part = part_of(BLOCK);
    let group_bytes = part * BITS as usize / 2;
    let mut acc = [vdupq_n_f32(0.0); 4];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut weights = tile.weights;
        let mut params = tile.weights.add(tile.shape.params_at);
        let mut record = tile.activations;
        for _ in 0..tile.shape.blocks {
            let numbers = vld1q_f32(record.add(BLOCK * 4).cast());
            let mut dots = [start::<BITS>(numbers); 4];
            for index in 0..BLOCK / part {
                let x = load_token::<BLOCK>(record.add(index * part * 4));
                unrolled!(group < 4, at most 4, {
                    let codes = load_codes::<BITS, BLOCK>(weights.add(group * group_bytes));
                    dots[group] = dot::<BITS, BLOCK>(dots[group], &codes, &x);
                });
                weights = weights.add(4 * group_bytes);
            }
            let scales = widen16(params);
            let offsets = if OFFSET {
                widen16(params.add(PARAM_BYTES))
            } else {
                scales
            };
            unrolled!(group < 4, at most 4, {
                let (dot, scale) = (dots[group], scales[group]);
                acc[group] = accumulate::<OFFSET>(acc[group], dot, scale, offsets[group], numbers);
            });
            params = params.add(if OFFSET { 2 * PARAM_BYTES } else { PARAM_BYTES });
            record = record.add(BLOCK * 4 + NUMBER_BYTES);
        }
        for (group, acc) in acc.into_iter().enumerate() {
            finish(tile, group, [acc]);
        }
    }
}

/// # Safety
/// See [`super::kernel::TileFn`]; `group` is below 4.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn many_tokens<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
    group: usize,
) {
    let part = part_of(BLOCK);
    let group_bytes = part * BITS as usize / 2;
    let record_bytes = BLOCK * 4 + NUMBER_BYTES;
    let mut acc = [vdupq_n_f32(0.0); TOKENS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut weights = tile.weights.add(group * group_bytes);
        let mut params = tile.weights.add(tile.shape.params_at + group * 8);
        let mut record = tile.activations;
        for _ in 0..tile.shape.blocks {
            let mut codes = [vdupq_n_s8(0); 8];
            let mut dots = [vdupq_n_s32(0); TOKENS];
            if BLOCK == part {
                codes = load_codes::<BITS, BLOCK>(weights);
                weights = weights.add(4 * group_bytes);
            } else {
                for index in 0..BLOCK / part {
                    codes = load_codes::<BITS, BLOCK>(weights);
                    weights = weights.add(4 * group_bytes);
                    unrolled!(token < TOKENS, {
                        let x = record.add(token * record_bytes + index * part * 4);
                        let x = load_token::<BLOCK>(x);
                        dots[token] = dot::<BITS, BLOCK>(dots[token], &codes, &x);
                    });
                }
            }
            let scale = widen(params);
            let offset = if OFFSET {
                widen(params.add(PARAM_BYTES))
            } else {
                scale
            };
            unrolled!(token < TOKENS, {
                let record = record.add(token * record_bytes);
                let numbers = vld1q_f32(record.add(BLOCK * 4).cast());
                // Of one part the sum is made here: sums of all tokens would not fit the registers.
                let dot = if BLOCK == part {
                    let x = load_token::<BLOCK>(record);
                    dot::<BITS, BLOCK>(start::<BITS>(numbers), &codes, &x)
                } else {
                    vaddq_s32(dots[token], start::<BITS>(numbers))
                };
                acc[token] = accumulate::<OFFSET>(acc[token], dot, scale, offset, numbers);
            });
            record = record.add(TOKENS * record_bytes);
            params = params.add(if OFFSET { 2 * PARAM_BYTES } else { PARAM_BYTES });
        }
        finish(tile, group, acc);
    }
}

/// One token's codes of a part of a block, in the registers that belong to [`load_codes`]'.
///
/// # Safety
/// They must be readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_token<const BLOCK: usize>(at: *const u8) -> [int8x16_t; 8] {
    let mut x = [vdupq_n_s8(0); 8];
    unrolled!(j < part_of(BLOCK) / 4, {
        // SAFETY: the caller's promise.
        x[j] = unsafe { vld1q_s8(at.add(j * 16).cast()) };
    });
    x
}

/// `sum` and the dot products of four rows' codes of one part of a block with one token's.
#[inline]
#[target_feature(enable = "neon")]
fn dot<const BITS: u8, const BLOCK: usize>(
    sum: int32x4_t,
    codes: &[int8x16_t; 8],
    x: &[int8x16_t; 8],
) -> int32x4_t {
    if BITS == 4 {
        let mut pairs = vmull_s8(vget_low_s8(codes[0]), vget_low_s8(x[0]));
        pairs = vmlal_high_s8(pairs, codes[0], x[0]);
        unrolled!(j < part_of(BLOCK) / 4, {
            if j > 0 {
                pairs = vmlal_s8(pairs, vget_low_s8(codes[j]), vget_low_s8(x[j]));
                pairs = vmlal_high_s8(pairs, codes[j], x[j]);
            }
        });
        vpadalq_s16(sum, pairs)
    } else {
        let mut sum = sum;
        unrolled!(j < part_of(BLOCK) / 4, {
            let pairs = vmull_s8(vget_low_s8(codes[j]), vget_low_s8(x[j]));
            sum = vpadalq_s16(sum, vmlal_high_s8(pairs, codes[j], x[j]));
        });
        sum
    }
}

/// Loads one part of a block of a group of rows: registers in the order of the part's columns, 4-bit codes as 0..=15.
///
/// # Safety
/// The part must be readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_codes<const BITS: u8, const BLOCK: usize>(at: *const u8) -> [int8x16_t; 8] {
    let mut codes = [vdupq_n_s8(0); 8];
    // SAFETY: the caller's promise: a group is 4 rows, so 16 bytes for 4 columns of 8 bits.
    unsafe {
        if BITS == 4 {
            let registers = part_of(BLOCK) / 8;
            let bytes = if BLOCK > 16 {
                vld1q_u8_x4(at)
            } else {
                let half = vld1q_u8_x2(at);
                uint8x16x4_t(half.0, half.1, half.1, half.1)
            };
            let bytes = [bytes.0, bytes.1, bytes.2, bytes.3];
            for (j, &bytes) in bytes.iter().enumerate().take(registers) {
                codes[j] = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
                codes[registers + j] = vreinterpretq_s8_u8(vshrq_n_u8::<4>(bytes));
            }
        } else {
            let first = vld1q_s8_x4(at.cast());
            let second = if BLOCK > 16 {
                vld1q_s8_x4(at.add(64).cast())
            } else {
                first
            };
            codes = [
                first.0, first.1, first.2, first.3, second.0, second.1, second.2, second.3,
            ];
        }
    }
    codes
}

/// What the sum of a block starts at: `-8 Σq` for 4 bits.
#[inline]
#[target_feature(enable = "neon")]
fn start<const BITS: u8>(numbers: float32x4_t) -> int32x4_t {
    if BITS == 4 {
        vdupq_laneq_s32::<2>(vreinterpretq_s32_f32(numbers))
    } else {
        vdupq_n_s32(0)
    }
}

/// Adds one block of four rows: `fma(dot, d * scale, acc)`, then the offsets.
#[inline]
#[target_feature(enable = "neon")]
fn accumulate<const OFFSET: bool>(
    acc: float32x4_t,
    dot: int32x4_t,
    scale: float32x4_t,
    offset: float32x4_t,
    numbers: float32x4_t,
) -> float32x4_t {
    let factor = vmulq_laneq_f32::<0>(scale, numbers);
    let acc = vfmaq_f32(acc, vcvtq_f32_s32(dot), factor);
    if OFFSET {
        vfmaq_laneq_f32::<1>(acc, offset, numbers)
    } else {
        acc
    }
}

/// Multiplies four rows by their multipliers and stores them for each token.
///
/// # Safety
/// See [`super::kernel::TileFn`]; `group` is below 4.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn finish<const TOKENS: usize>(tile: &Tile<'_>, group: usize, acc: [float32x4_t; TOKENS]) {
    // SAFETY: sixteen multipliers and sixteen outputs a token, by the shape.
    unsafe {
        let at = tile.shape.multipliers_at + group * 16;
        let multipliers = vld1q_f32(tile.weights.add(at).cast());
        for (token, acc) in acc.into_iter().enumerate() {
            let out = tile.out.add(token * tile.out_stride + group * 4);
            vst1q_f32(out, vmulq_f32(acc, multipliers));
        }
    }
}

/// Sixteen halves as floats.
///
/// # Safety
/// 32 bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn widen16(at: *const u8) -> [float32x4_t; 4] {
    // SAFETY: the caller's promise.
    let halves = unsafe { vld1q_u8_x2(at) };
    let ([first, second], [third, fourth]) = (widen8(halves.0), widen8(halves.1));
    [first, second, third, fourth]
}

/// Eight halves as floats. Stable Rust has no intrinsic for `fcvtl` on halves in general registers.
#[inline]
#[target_feature(enable = "neon")]
fn widen8(halves: uint8x16_t) -> [float32x4_t; 2] {
    let (low, high);
    // SAFETY: touches registers only.
    unsafe {
        asm!("fcvtl {o:v}.4s, {i:v}.4h", o = out(vreg) low, i = in(vreg) halves, options(pure, nomem, nostack, preserves_flags));
        asm!("fcvtl2 {o:v}.4s, {i:v}.8h", o = out(vreg) high, i = in(vreg) halves, options(pure, nomem, nostack, preserves_flags));
    }
    [low, high]
}

/// Four halves as floats.
///
/// # Safety
/// Eight bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn widen(at: *const u8) -> float32x4_t {
    let wide;
    // SAFETY: the caller's promise; `fcvtl` touches registers only.
    unsafe {
        let halves = vld1_u8(at);
        asm!("fcvtl {o:v}.4s, {i:v}.4h", o = out(vreg) wide, i = in(vreg) halves, options(pure, nomem, nostack, preserves_flags));
    }
    wide
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn dense_tile<const BYTES: usize, const TOKENS: usize>(tile: &Tile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        if TOKENS <= 4 {
            dense_rows::<BYTES, TOKENS, 4>(tile, 0);
        } else {
            // Half the rows at a time, so that the sums fit the registers.
            dense_rows::<BYTES, TOKENS, 2>(tile, 0);
            dense_rows::<BYTES, TOKENS, 2>(tile, 2);
        }
    }
}

/// `GROUPS` groups of four rows, from group `first` on.
///
/// # Safety
/// See [`super::kernel::TileFn`]; `first + GROUPS` is at most 4.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn dense_rows<const BYTES: usize, const TOKENS: usize, const GROUPS: usize>(
    tile: &Tile<'_>,
    first: usize,
) {
    let mut acc = [[vdupq_n_f32(0.0); TOKENS]; GROUPS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut weights = tile.weights.add(first * 4 * BYTES);
        let mut x = tile.activations.cast::<f32>();
        for _ in 0..tile.shape.blocks {
            let mut rows = [vdupq_n_f32(0.0); GROUPS];
            unrolled!(group < GROUPS, at most 4, {
                let at = weights.add(group * 4 * BYTES);
                rows[group] = if BYTES == 2 {
                    widen(at)
                } else {
                    vld1q_f32(at.cast())
                };
            });
            unrolled!(token < TOKENS, {
                let x = vld1q_dup_f32(x.add(token));
                unrolled!(group < GROUPS, at most 4, {
                    acc[group][token] = vfmaq_f32(acc[group][token], rows[group], x);
                });
            });
            weights = weights.add(16 * BYTES);
            x = x.add(TOKENS);
        }
        for (group, acc) in acc.into_iter().enumerate() {
            for (token, acc) in acc.into_iter().enumerate() {
                let out = token * tile.out_stride + (first + group) * 4;
                vst1q_f32(tile.out.add(out), acc);
            }
        }
    }
}
