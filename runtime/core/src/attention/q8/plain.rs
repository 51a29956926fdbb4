//! Plain Rust, but for the products on microcontrollers with DSP instructions: the definition of the results.

use super::dots::dots;
use super::online::{Kernel, KeyGroup, Running, ValueBlock};
use super::rows::{Q8_POSITIONS, SHARED};
use crate::attention::online::BLOCK;
use crate::math::{LANES, ROUND, fma, larger, largest_lane, sum_lanes};

/// From here on [`exp2_negated`] is 0, whatever is added.
pub(super) const FAR: f32 = 256.0;

/// `2^r` for r from -½ to ½ to 1.1e-4, from the highest power on: minimax in the relative error (Lawson's iteration), exact
/// at 0.
pub(super) const POLYNOMIAL: [f32; 4] = [5.500_895e-2, 2.422_11e-1, 6.932_829e-1, 1.0];

/// `2^-x` for x not below -½ to 1.1e-4, a small part of what rounding weights to 8 bits does. Exact for whole numbers; 0 where that
/// is no normal number. A NaN stays one.
#[inline(always)]
pub(super) fn exp2_negated(x: f32) -> f32 {
    let x = if x > FAR { FAR } else { x };
    let shifted = x + ROUND;
    let whole = shifted - ROUND;
    let r = whole - x;
    let [first, rest @ ..] = POLYNOMIAL;
    let p = rest.into_iter().fold(first, |p, next| p * r + next);
    // Of NaNs, and of numbers so large that rounding has moved them below 0, nothing is subtracted.
    let exponent = if whole > 0.0 {
        shifted.to_bits() << 23
    } else {
        0
    };
    f32::from_bits(p.to_bits().saturating_sub(exponent))
}

/// The scale of codes up to 127, for the largest number 1.
pub(super) const STEP: f32 = 1.0 / 127.0;

/// See the module.
pub(super) struct Plain;

impl Kernel for Plain {
    const NAME: &'static str = "q8-scalar";

    #[inline(always)]
    unsafe fn scores<const N: usize>(group: &KeyGroup, scores: *mut f32) {
        for head in 0..N {
            for block in 0..group.blocks {
                let at = head * group.blocks + block;
                // SAFETY: the caller's promise.
                let (query, scale, keys, key_scales, scores) = unsafe {
                    (
                        &*group
                            .queries
                            .add(at * SHARED)
                            .cast::<[[i8; 4]; SHARED / 4]>(),
                        *group.query_scales.add(block * N + head),
                        group.keys.add(block * SHARED * Q8_POSITIONS),
                        &*group
                            .key_scales
                            .add(block * Q8_POSITIONS)
                            .cast::<[f32; Q8_POSITIONS]>(),
                        &mut *scores.add(head * BLOCK).cast::<[f32; Q8_POSITIONS]>(),
                    )
                };
                // SAFETY: as above.
                let sums = unsafe { dots::<Q8_POSITIONS>(query, keys, 4 * Q8_POSITIONS) };
                for ((score, sum), key_scale) in scores.iter_mut().zip(sums).zip(key_scales) {
                    let factor = key_scale * scale;
                    *score = if block == 0 {
                        sum as f32 * factor
                    } else {
                        fma(sum as f32, factor, *score)
                    };
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn weights<const N: usize>(
        scores: &mut [[f32; BLOCK]; N],
        state: &mut [Running; N],
    ) -> [f32; N] {
        let mut shrink = [1f32; N];
        for ((scores, state), shrink) in scores.iter_mut().zip(state).zip(&mut shrink) {
            let mut lanes = [f32::NEG_INFINITY; LANES];
            for scores in scores.as_chunks::<LANES>().0 {
                for (lane, &score) in lanes.iter_mut().zip(scores) {
                    *lane = larger(score, *lane);
                }
            }
            *shrink = state.raise(largest_lane(lanes));
            let mut lanes = [0f32; LANES];
            for scores in scores.as_chunks_mut::<LANES>().0 {
                for (lane, score) in lanes.iter_mut().zip(scores) {
                    *score = exp2_negated(state.largest - *score);
                    *lane += *score;
                }
            }
            state.total += sum_lanes(lanes);
        }
        shrink
    }

    #[inline(always)]
    unsafe fn round<const N: usize>(
        weights: &[[f32; BLOCK]; N],
        scales: [&[f32; Q8_POSITIONS]; 2],
        codes: &mut [[i8; BLOCK]; N],
    ) -> [f32; N] {
        let mut factors = [0f32; N];
        for ((weights, codes), factor) in weights.iter().zip(codes).zip(&mut factors) {
            let mut products = [0f32; BLOCK];
            let halves = products.as_chunks_mut::<Q8_POSITIONS>().0.iter_mut();
            let weights = weights.as_chunks::<Q8_POSITIONS>().0;
            for ((products, weights), scales) in halves.zip(weights).zip(scales) {
                for ((product, weight), scale) in products.iter_mut().zip(weights).zip(scales) {
                    *product = weight * scale;
                }
            }
            // None is below 0, so that they compare like their bits; a NaN is above all.
            let largest = products
                .iter()
                .fold(0u32, |largest, product| largest.max(product.to_bits()));
            let largest = f32::from_bits(largest);
            // With nothing but zeros, or with an infinity, codes are NaNs' lowest bytes, which are 0.
            let inverse = 127.0 / largest;
            for (code, product) in codes.iter_mut().zip(products) {
                *code = (product * inverse + ROUND).to_bits() as u8 as i8;
            }
            *factor = largest * STEP;
        }
        factors
    }

    #[inline(always)]
    unsafe fn weigh<const N: usize>(
        block: &ValueBlock,
        codes: &[[i8; BLOCK]; N],
        factors: &[f32; N],
    ) {
        for (head, (codes, factor)) in codes.iter().zip(factors).enumerate() {
            let fours = codes.as_chunks::<4>().0;
            let fours = fours
                .get(..block.groups * Q8_POSITIONS / 4)
                .unwrap_or(fours);
            // SAFETY: the caller's promise: so many fours of values are there.
            let sums = unsafe { dots::<SHARED>(fours, block.values, block.stride) };
            // SAFETY: the caller's promise.
            let out = unsafe {
                &mut *block
                    .out
                    .add(head * block.out_stride)
                    .cast::<[f32; SHARED]>()
            };
            for (y, sum) in out.iter_mut().zip(sums) {
                *y = fma(sum as f32, *factor, *y);
            }
        }
    }
}
