//! AVX-512 with VNNI: sixteen keys, or sixteen columns of the values, in the lanes of a register.
//!
//! `vpdpbusd` multiplies unsigned by signed bytes. Weights are never below 0; keys get 128 added on the way, and sums start at
//! what that will have made of them.

use super::online::{Kernel, KeyGroup, Running, ValueBlock};
use super::plain::{FAR, POLYNOMIAL, STEP};
use super::rows::{Q8_POSITIONS, SHARED};
use crate::attention::online::BLOCK;
use crate::math::ROUND;
use crate::vector::unrolled;
use core::arch::x86_64::*;

pub(super) struct Avx512;

impl Kernel for Avx512 {
    const NAME: &'static str = "q8-avx512-vnni";

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn scores<const N: usize>(group: &KeyGroup, scores: *mut f32) {
        let flip = _mm512_set1_epi8(-128);
        let mut sums = [_mm512_setzero_ps(); N];
        for block in 0..group.blocks {
            // SAFETY: the caller's promise.
            unsafe {
                let keys = group.keys.add(block * SHARED * Q8_POSITIONS);
                let mut whole = [_mm512_setzero_si512(); N];
                unrolled!(head < N, at most 4, {
                    let sum = *group.query_sums.add(head * group.blocks + block);
                    whole[head] = _mm512_set1_epi32(-128 * sum);
                });
                unrolled!(four < SHARED / 4, {
                    let keys = _mm512_loadu_si512(keys.add(four * 4 * Q8_POSITIONS).cast());
                    let keys = _mm512_xor_si512(keys, flip);
                    unrolled!(head < N, at most 4, {
                        let at = (head * group.blocks + block) * SHARED + four * 4;
                        let query = broadcast(group.queries.add(at));
                        whole[head] = _mm512_dpbusd_epi32(whole[head], keys, query);
                    });
                });
                let key_scales = _mm512_loadu_ps(group.key_scales.add(block * Q8_POSITIONS));
                unrolled!(head < N, at most 4, {
                    let scale = *group.query_scales.add(block * N + head);
                    let factor = _mm512_mul_ps(key_scales, _mm512_set1_ps(scale));
                    let sum = _mm512_cvtepi32_ps(whole[head]);
                    sums[head] = if block == 0 {
                        _mm512_mul_ps(sum, factor)
                    } else {
                        _mm512_fmadd_ps(sum, factor, sums[head])
                    };
                });
            }
        }
        unrolled!(head < N, at most 4, {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(scores.add(head * BLOCK), sums[head]) };
        });
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn weights<const N: usize>(
        scores: &mut [[f32; BLOCK]; N],
        state: &mut [Running; N],
    ) -> [f32; N] {
        let mut shrink = [1f32; N];
        for ((scores, state), shrink) in scores.iter_mut().zip(state).zip(&mut shrink) {
            *shrink = head_weights(scores, state);
        }
        shrink
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn round<const N: usize>(
        weights: &[[f32; BLOCK]; N],
        scales: [&[f32; Q8_POSITIONS]; 2],
        codes: &mut [[i8; BLOCK]; N],
    ) -> [f32; N] {
        // SAFETY: sixteen scales each.
        let scales = unsafe { scales.map(|scales| _mm512_loadu_ps(scales.as_ptr())) };
        let mut factors = [0f32; N];
        for ((weights, codes), factor) in weights.iter().zip(codes).zip(&mut factors) {
            let [low, high] = load(weights);
            let products = [
                _mm512_mul_ps(low, scales[0]),
                _mm512_mul_ps(high, scales[1]),
            ];
            let bits = products.map(|p| _mm512_castps_si512(p));
            let largest = _mm512_reduce_max_epu32(_mm512_max_epu32(bits[0], bits[1]));
            let largest = f32::from_bits(largest);
            let inverse = 127.0 / largest;
            for (half, product) in products.into_iter().enumerate() {
                let product = _mm512_mul_ps(product, _mm512_set1_ps(inverse));
                let rounded = _mm512_add_ps(product, _mm512_set1_ps(ROUND));
                let bytes = _mm512_cvtepi32_epi8(_mm512_castps_si512(rounded));
                // SAFETY: two times sixteen codes.
                unsafe { _mm_storeu_si128(codes.as_mut_ptr().add(half * 16).cast(), bytes) };
            }
            *factor = largest * STEP;
        }
        factors
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn weigh<const N: usize>(
        block: &ValueBlock,
        codes: &[[i8; BLOCK]; N],
        factors: &[f32; N],
    ) {
        let mut sums = [[_mm512_setzero_si512(); 2]; N];
        for four in 0..block.groups * Q8_POSITIONS / 4 {
            // SAFETY: the caller's promise.
            unsafe {
                let values = block.values.add(four * block.stride);
                let values = [
                    _mm512_loadu_si512(values.cast()),
                    _mm512_loadu_si512(values.add(64).cast()),
                ];
                unrolled!(head < N, at most 4, {
                    let weights = broadcast(codes[head].as_ptr().add(four * 4));
                    sums[head][0] = _mm512_dpbusd_epi32(sums[head][0], weights, values[0]);
                    sums[head][1] = _mm512_dpbusd_epi32(sums[head][1], weights, values[1]);
                });
            }
        }
        unrolled!(head < N, at most 4, {
            unrolled!(half < 2, at most 2, {
                // SAFETY: the caller's promise.
                unsafe {
                    let out = block.out.add(head * block.out_stride + half * 16);
                    let sum = _mm512_cvtepi32_ps(sums[head][half]);
                    let factor = _mm512_set1_ps(factors[head]);
                    _mm512_storeu_ps(out, _mm512_fmadd_ps(sum, factor, _mm512_loadu_ps(out)));
                }
            });
        });
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
fn head_weights(scores: &mut [f32; BLOCK], state: &mut Running) -> f32 {
    let [mut low, mut high] = load(scores);
    // Where one of two numbers is a NaN, this is the second of them.
    let none = _mm512_set1_ps(f32::NEG_INFINITY);
    let most = _mm512_max_ps(high, _mm512_max_ps(low, none));
    let shrink = state.raise(_mm512_reduce_max_ps(most));
    let most = _mm512_set1_ps(state.largest);
    low = exp2_negated(_mm512_sub_ps(most, low));
    high = exp2_negated(_mm512_sub_ps(most, high));
    // SAFETY: two times sixteen scores.
    unsafe {
        _mm512_storeu_ps(scores.as_mut_ptr(), low);
        _mm512_storeu_ps(scores.as_mut_ptr().add(16), high);
    }
    let both = _mm512_add_ps(low, high);
    let eight = _mm256_add_ps(
        _mm512_castps512_ps256(both),
        _mm512_extractf32x8_ps::<1>(both),
    );
    let four = _mm_add_ps(
        _mm256_castps256_ps128(eight),
        _mm256_extractf128_ps::<1>(eight),
    );
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    state.total += _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    shrink
}

/// Four codes in each lane.
///
/// # Safety
/// Four bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn broadcast(at: *const i8) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}

/// A block's numbers in registers.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(numbers: &[f32; BLOCK]) -> [__m512; 2] {
    // SAFETY: two times sixteen numbers.
    unsafe {
        [
            _mm512_loadu_ps(numbers.as_ptr()),
            _mm512_loadu_ps(numbers.as_ptr().add(16)),
        ]
    }
}

/// [`super::plain::exp2_negated`].
#[inline]
#[target_feature(enable = "avx512f")]
fn exp2_negated(x: __m512) -> __m512 {
    // Of a number and a NaN this is the second, the NaN.
    let x = _mm512_min_ps(_mm512_set1_ps(FAR), x);
    let round = _mm512_set1_ps(ROUND);
    let shifted = _mm512_add_ps(x, round);
    let whole = _mm512_sub_ps(shifted, round);
    let r = _mm512_sub_ps(whole, x);
    let [first, rest @ ..] = POLYNOMIAL;
    let mut p = _mm512_set1_ps(first);
    for next in rest {
        p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(next));
    }
    let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(whole, _mm512_setzero_ps());
    let exponent = _mm512_maskz_slli_epi32::<23>(positive, _mm512_castps_si512(shifted));
    let p = _mm512_max_epu32(_mm512_castps_si512(p), exponent);
    _mm512_castsi512_ps(_mm512_sub_epi32(p, exponent))
}
