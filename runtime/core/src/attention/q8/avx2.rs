//! AVX2: eight keys, or eight columns of the values, in the lanes of a register.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds in pairs, which fits 16 bits for codes from -127 to 127. Weights
//! are never below 0; a key's sign goes to the query.

use super::online::{Kernel, KeyGroup, Running, ValueBlock};
use super::plain::Plain;
use super::rows::{Q8_POSITIONS, SHARED};
use crate::attention::online::BLOCK;
use crate::vector::unrolled;
use core::arch::x86_64::*;

pub(super) struct Avx2;

impl Kernel for Avx2 {
    const NAME: &'static str = "q8-avx2";

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn scores<const N: usize>(group: &KeyGroup, scores: *mut f32) {
        for half in 0..2 {
            let mut sums = [_mm256_setzero_ps(); N];
            for block in 0..group.blocks {
                // SAFETY: the caller's promise.
                unsafe {
                    let keys = group.keys.add(block * SHARED * Q8_POSITIONS + half * 32);
                    let mut whole = [_mm256_setzero_si256(); N];
                    unrolled!(four < SHARED / 4, {
                        let keys = _mm256_loadu_si256(keys.add(four * 4 * Q8_POSITIONS).cast());
                        let sizes = _mm256_abs_epi8(keys);
                        unrolled!(head < N, at most 4, {
                            let at = (head * group.blocks + block) * SHARED + four * 4;
                            let query = broadcast(group.queries.add(at));
                            let query = _mm256_sign_epi8(query, keys);
                            whole[head] = add_products(whole[head], sizes, query);
                        });
                    });
                    let at = group.key_scales.add(block * Q8_POSITIONS + half * 8);
                    let key_scales = _mm256_loadu_ps(at);
                    unrolled!(head < N, at most 4, {
                        let scale = *group.query_scales.add(block * N + head);
                        let factor = _mm256_mul_ps(key_scales, _mm256_set1_ps(scale));
                        let sum = _mm256_cvtepi32_ps(whole[head]);
                        sums[head] = if block == 0 {
                            _mm256_mul_ps(sum, factor)
                        } else {
                            _mm256_fmadd_ps(sum, factor, sums[head])
                        };
                    });
                }
            }
            unrolled!(head < N, at most 4, {
                // SAFETY: the caller's promise.
                unsafe { _mm256_storeu_ps(scores.add(head * BLOCK + half * 8), sums[head]) };
            });
        }
    }

    #[inline(always)]
    unsafe fn weights<const N: usize>(
        scores: &mut [[f32; BLOCK]; N],
        state: &mut [Running; N],
    ) -> [f32; N] {
        // SAFETY: plain Rust, which the compiler turns into this set's vectors.
        unsafe { Plain::weights(scores, state) }
    }

    #[inline(always)]
    unsafe fn round<const N: usize>(
        weights: &[[f32; BLOCK]; N],
        scales: [&[f32; Q8_POSITIONS]; 2],
        codes: &mut [[i8; BLOCK]; N],
    ) -> [f32; N] {
        // SAFETY: as above.
        unsafe { Plain::round(weights, scales, codes) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn weigh<const N: usize>(
        block: &ValueBlock,
        codes: &[[i8; BLOCK]; N],
        factors: &[f32; N],
    ) {
        for column in (0..SHARED).step_by(16) {
            let mut sums = [[_mm256_setzero_si256(); 2]; N];
            for four in 0..block.groups * Q8_POSITIONS / 4 {
                // SAFETY: the caller's promise.
                unsafe {
                    let values = block.values.add(four * block.stride + column * 4);
                    let values = [
                        _mm256_loadu_si256(values.cast()),
                        _mm256_loadu_si256(values.add(32).cast()),
                    ];
                    unrolled!(head < N, at most 4, {
                        let weights = broadcast(codes[head].as_ptr().add(four * 4));
                        sums[head][0] = add_products(sums[head][0], weights, values[0]);
                        sums[head][1] = add_products(sums[head][1], weights, values[1]);
                    });
                }
            }
            unrolled!(head < N, at most 4, {
                unrolled!(half < 2, at most 2, {
                    // SAFETY: the caller's promise.
                    unsafe {
                        let out = block.out.add(head * block.out_stride + column + half * 8);
                        let sum = _mm256_cvtepi32_ps(sums[head][half]);
                        let factor = _mm256_set1_ps(factors[head]);
                        _mm256_storeu_ps(out, _mm256_fmadd_ps(sum, factor, _mm256_loadu_ps(out)));
                    }
                });
            });
        }
    }
}

/// Adds four products of bytes, the first unsigned, in each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn add_products(sums: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(unsigned, signed);
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// Four codes in each lane.
///
/// # Safety
/// Four bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn broadcast(at: *const i8) -> __m256i {
    // SAFETY: the caller's promise.
    _mm256_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}
