//! x86-64 with AVX2: eight rows in the lanes of one register, four columns at a time.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds pairs as 16-bit with saturation. 4-bit codes can't
//! reach it: eight pairs of 15 * 127 stay below 2¹⁵. 8-bit codes go in as |code|, with their sign moved to the
//! activation: a pair is at most 2 * 128 * 127, below 2¹⁵ as well.

use super::activations::{NUMBER_BYTES, Order};
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES};
use core::arch::x86_64::*;

implementations! {
    quantised: "avx2",
    dense: "avx2",
    Interleave { rows: 8, unit: 4, unsigned: false },
    Order::Plain,
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block_tile<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile,
) {
    let shape = tile.shape;
    // A compile-time constant equal to `shape.row_bytes / 4`: registers of one block's codes of eight rows.
    let registers = BLOCK * BITS as usize / 32;
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let low_half = _mm256_set1_epi8(15);
        let ones = _mm256_set1_epi16(1);
        let mut acc = [[_mm256_setzero_ps(); TOKENS]; 2];
        let mut weights = tile.weights;
        let mut params = tile.weights.add(shape.params_at);
        for index in 0..shape.blocks {
            for (group, acc) in acc.iter_mut().enumerate() {
                // Columns 4i..4i+4 of the block, in its own order.
                let mut columns = [_mm256_setzero_si256(); 8];
                for j in 0..registers {
                    let codes =
                        _mm256_loadu_si256(weights.add((group * registers + j) * 32).cast());
                    if BITS == 4 {
                        columns[j] = _mm256_and_si256(codes, low_half);
                        columns[registers + j] =
                            _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_half);
                    } else {
                        columns[j] = codes;
                    }
                }
                let params = params.add(group * 16);
                let scale = _mm256_cvtph_ps(_mm_loadu_si128(params.cast()));
                for (token, acc) in acc.iter_mut().enumerate() {
                    let x = tile
                        .activations
                        .add((index * TOKENS + token) * (BLOCK + NUMBER_BYTES));
                    let numbers = x.add(BLOCK);
                    let dot = if BITS == 4 {
                        let mut pairs = _mm256_setzero_si256();
                        for (j, &columns) in columns.iter().enumerate().take(BLOCK / 4) {
                            pairs = _mm256_add_epi16(
                                pairs,
                                _mm256_maddubs_epi16(columns, broadcast(x.add(j * 4))),
                            );
                        }
                        let start =
                            _mm256_set1_epi32(numbers.add(8).cast::<i32>().read_unaligned());
                        _mm256_add_epi32(start, _mm256_madd_epi16(pairs, ones))
                    } else {
                        let mut sum = _mm256_setzero_si256();
                        for (j, &columns) in columns.iter().enumerate().take(BLOCK / 4) {
                            let signed = _mm256_sign_epi8(broadcast(x.add(j * 4)), columns);
                            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(columns), signed);
                            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
                        }
                        sum
                    };
                    let factor = _mm256_mul_ps(
                        _mm256_set1_ps(numbers.cast::<f32>().read_unaligned()),
                        scale,
                    );
                    *acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), factor, *acc);
                    if OFFSET {
                        let offset =
                            _mm256_cvtph_ps(_mm_loadu_si128(params.add(PARAM_BYTES).cast()));
                        let sum = _mm256_set1_ps(numbers.add(4).cast::<f32>().read_unaligned());
                        *acc = _mm256_fmadd_ps(sum, offset, *acc);
                    }
                }
            }
            weights = weights.add(2 * registers * 32);
            params = params.add(shape.params_bytes);
        }
        for (group, acc) in acc.into_iter().enumerate() {
            let multipliers =
                _mm256_loadu_ps(tile.weights.add(shape.multipliers_at + group * 32).cast());
            for (token, acc) in acc.into_iter().enumerate() {
                let out = tile.out.add(token * tile.out_stride + group * 8);
                _mm256_storeu_ps(out, _mm256_mul_ps(acc, multipliers));
            }
        }
    }
}

/// Four codes of the activations in every lane.
///
/// # Safety
/// Four bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn broadcast(at: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    _mm256_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dense_tile<const BYTES: usize, const TOKENS: usize>(tile: &Tile) {
    let mut acc = [[_mm256_setzero_ps(); 2]; TOKENS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        for column in 0..tile.shape.blocks {
            let at = tile.weights.add(column * 16 * BYTES);
            let weights = if BYTES == 2 {
                [
                    _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
                    _mm256_cvtph_ps(_mm_loadu_si128(at.add(16).cast())),
                ]
            } else {
                [
                    _mm256_loadu_ps(at.cast()),
                    _mm256_loadu_ps(at.add(32).cast()),
                ]
            };
            for (token, acc) in acc.iter_mut().enumerate() {
                let x = tile
                    .activations
                    .add((column * TOKENS + token) * 4)
                    .cast::<f32>()
                    .read_unaligned();
                let x = _mm256_set1_ps(x);
                acc[0] = _mm256_fmadd_ps(weights[0], x, acc[0]);
                acc[1] = _mm256_fmadd_ps(weights[1], x, acc[1]);
            }
        }
        for (token, acc) in acc.into_iter().enumerate() {
            let out = tile.out.add(token * tile.out_stride);
            _mm256_storeu_ps(out, acc[0]);
            _mm256_storeu_ps(out.add(8), acc[1]);
        }
    }
}
