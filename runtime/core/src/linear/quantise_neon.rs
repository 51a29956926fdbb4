//! Rounding activations to int8 with AArch64 Advanced SIMD, straight into the records its kernels read.
//!
//! The compiler's vectors for the portable code shuffle each byte into place; `ld2` and `uzp1` do it for many at once.

use super::activations::{Order, Place, scale_and_inverse};
use crate::math::ROUND;
use crate::vector::unrolled;
use core::arch::aarch64::*;

/// Writes the records of one token of a group, the last one padded with zeros. Nothing is written when `records` is too
/// short for them.
#[target_feature(enable = "neon")]
pub(super) fn quantise<const BLOCK: usize>(
    order: Order,
    x: &[f32],
    place: Place,
    records: &mut [u8],
) {
    let record = order.record_bytes(BLOCK);
    let step = record * place.size;
    if records.len() < x.len().div_ceil(BLOCK) * step || place.token >= place.size {
        return;
    }
    // SAFETY: there is a record for each block of each token of the group.
    unsafe {
        let own = records.as_mut_ptr().add(place.token * record);
        match order {
            Order::StartedPairs { middle } if place.size > 2 => {
                let side = place.token % 2;
                let pair = own.sub(side * record);
                each_block::<BLOCK>(x, pair, step, |block, to| {
                    half_pair::<BLOCK>(block, to, side, middle)
                });
            }
            Order::Started { middle } | Order::StartedPairs { middle } => {
                each_block::<BLOCK>(x, own, step, |block, to| {
                    started::<BLOCK>(block, to, middle)
                });
            }
            Order::Pairs4 => {
                each_block::<BLOCK>(x, own, step, |block, to| pairs4::<BLOCK>(block, to))
            }
            // Not of this architecture, or not of blocks.
            Order::Plain | Order::Float | Order::SplitPairs | Order::Halves => {}
        }
    }
}

/// One block: codes of each part in even columns, then odd ones (a block of 16 in the first register), the scale and the sum of
/// codes.
struct Rounded {
    codes: [int8x16_t; 8],
    scale: f32,
    sum: i32,
}

/// Calls `store` with each block and where its record is: `step` bytes after the one before.
///
/// # Safety
/// The records must be there.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn each_block<const BLOCK: usize>(
    x: &[f32],
    mut to: *mut u8,
    step: usize,
    store: impl Fn(Rounded, *mut u8),
) {
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    for x in blocks {
        store(round(x), to);
        to = to.wrapping_add(step);
    }
    if !rest.is_empty() {
        let mut padded = [0.0; BLOCK];
        padded.iter_mut().zip(rest).for_each(|(p, &x)| *p = x);
        store(round(&padded), to);
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn round<const BLOCK: usize>(x: &[f32; BLOCK]) -> Rounded {
    if BLOCK > 32 {
        return round_parts(x);
    }
    let mut even = [vdupq_n_f32(0.0); 4];
    let mut odd = even;
    let mut largest = vdupq_n_u32(0);
    unrolled!(i < BLOCK / 8, at most 4, {
        // SAFETY: `i * 8 + 8 <= BLOCK`.
        let both = unsafe { vld2q_f32(x.as_ptr().add(i * 8)) };
        (even[i], odd[i]) = (both.0, both.1);
        let magnitudes = [vabsq_f32(both.0), vabsq_f32(both.1)].map(|m| vreinterpretq_u32_f32(m));
        let larger = vmaxq_u32(magnitudes[0], magnitudes[1]);
        largest = if i == 0 { larger } else { vmaxq_u32(largest, larger) };
    });
    let (scale, inverse) = scale_and_inverse(vmaxvq_u32(largest));
    if BLOCK == 32 {
        let (even, odd) = (narrow(even, inverse), narrow(odd, inverse));
        let sum = vaddvq_s16(vpadalq_s8(vpaddlq_s8(even), odd));
        Rounded {
            codes: [even, odd, even, even, even, even, even, even],
            scale,
            sum: i32::from(sum),
        }
    } else {
        let codes = narrow([even[0], even[1], odd[0], odd[1]], inverse);
        Rounded {
            codes: [codes; 8],
            scale,
            sum: i32::from(vaddlvq_s8(codes)),
        }
    }
}

/// [`round`] for blocks of several parts, which don't fit the registers: values are read a second time for their codes.
#[inline]
#[target_feature(enable = "neon")]
fn round_parts<const BLOCK: usize>(x: &[f32; BLOCK]) -> Rounded {
    let mut largest = vdupq_n_u32(0);
    for x in x.as_chunks::<16>().0 {
        // SAFETY: sixteen values are there.
        let x = unsafe { vld1q_f32_x4(x.as_ptr()) };
        let magnitudes = [x.0, x.1, x.2, x.3].map(|x| vreinterpretq_u32_f32(vabsq_f32(x)));
        let [a, b, c, d] = magnitudes;
        largest = vmaxq_u32(largest, vmaxq_u32(vmaxq_u32(a, b), vmaxq_u32(c, d)));
    }
    let (scale, inverse) = scale_and_inverse(vmaxvq_u32(largest));
    let mut codes = [vdupq_n_s8(0); 8];
    let mut sums = vdupq_n_s16(0);
    unrolled!(part < BLOCK / 32, at most 4, {
        let mut even = [vdupq_n_f32(0.0); 4];
        let mut odd = even;
        unrolled!(i < 4, at most 4, {
            // SAFETY: `part * 32 + i * 8 + 8 <= BLOCK`.
            let both = unsafe { vld2q_f32(x.as_ptr().add(part * 32 + i * 8)) };
            (even[i], odd[i]) = (both.0, both.1);
        });
        let (even, odd) = (narrow(even, inverse), narrow(odd, inverse));
        // A lane sums sixteen codes at most.
        sums = vpadalq_s8(vpadalq_s8(sums, even), odd);
        (codes[2 * part], codes[2 * part + 1]) = (even, odd);
    });
    Rounded {
        codes,
        scale,
        sum: i32::from(vaddvq_s16(sums)),
    }
}

/// The low bytes of sixteen values, rounded.
#[inline]
#[target_feature(enable = "neon")]
fn narrow(x: [float32x4_t; 4], inverse: f32) -> int8x16_t {
    let rounded = x.map(|x| {
        let sum = vaddq_f32(vmulq_n_f32(x, inverse), vdupq_n_f32(ROUND));
        vreinterpretq_s16_f32(sum)
    });
    let low = vreinterpretq_s8_s16(vuzp1q_s16(rounded[0], rounded[1]));
    let high = vreinterpretq_s8_s16(vuzp1q_s16(rounded[2], rounded[3]));
    vuzp1q_s8(low, high)
}

/// A record of [`Order::Started`].
///
/// # Safety
/// It must be there.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn started<const BLOCK: usize>(block: Rounded, to: *mut u8, middle: i32) {
    // SAFETY: the caller's promise.
    unsafe {
        vst1q_s32(to.cast(), vdupq_n_s32(-middle * block.sum));
        unrolled!(i < BLOCK / 16, {
            vst1q_s8(to.add(16 + i * 16).cast(), block.codes[i]);
        });
        put_scale(block.scale, block.sum, to.add(16 + BLOCK), 4);
    }
}

/// Token `side`'s part of a record of [`Order::StartedPairs`].
///
/// # Safety
/// The record must be there, and `side` below 2.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn half_pair<const BLOCK: usize>(block: Rounded, to: *mut u8, side: usize, middle: i32) {
    // SAFETY: the caller's promise: 64 bytes of numbers, and two tokens' codes.
    unsafe {
        let numbers = to.add(side * 8);
        let start = vdup_n_s32(-middle * block.sum);
        vst1_s32(numbers.cast(), start);
        vst1_s32(numbers.add(16).cast(), start);
        put_scale(block.scale, block.sum, numbers.add(32), 16);
        put_scale(block.scale, block.sum, numbers.add(36), 16);
        let to = to.add(64 + side * 8).cast::<u64>();
        unrolled!(i < BLOCK / 16, {
            let eights = vreinterpretq_u64_s8(block.codes[i]);
            to.add(i * 4).write_unaligned(vgetq_lane_u64::<0>(eights));
            to.add(i * 4 + 2)
                .write_unaligned(vgetq_lane_u64::<1>(eights));
        });
    }
}

/// A record of [`Order::Pairs4`].
///
/// # Safety
/// It must be there.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn pairs4<const BLOCK: usize>(block: Rounded, to: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe {
        unrolled!(i < BLOCK / 16, {
            let pairs = vreinterpretq_s16_s8(block.codes[i]);
            let twice = [vzip1q_s16(pairs, pairs), vzip2q_s16(pairs, pairs)]
                .map(|t| vreinterpretq_s32_s16(t));
            let to = to.add(i * 64).cast();
            vst1q_s32(to, vzip1q_s32(twice[0], twice[0]));
            vst1q_s32(to.add(4), vzip2q_s32(twice[0], twice[0]));
            vst1q_s32(to.add(8), vzip1q_s32(twice[1], twice[1]));
            vst1q_s32(to.add(12), vzip2q_s32(twice[1], twice[1]));
        });
        let numbers = to.add(BLOCK * 4);
        put_scale(block.scale, block.sum, numbers, 4);
        numbers.add(8).cast::<i32>().write_unaligned(-8 * block.sum);
    }
}

/// Writes `d`, and `d * Σq` `distance` bytes later.
///
/// # Safety
/// Both places must be there.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn put_scale(scale: f32, sum: i32, to: *mut u8, distance: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        to.cast::<f32>().write_unaligned(scale);
        to.add(distance)
            .cast::<f32>()
            .write_unaligned(scale * sum as f32);
    }
}
