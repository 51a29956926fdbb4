//! x86-64 with AVX2: eight rows in the lanes of one register, four columns at a time.
//!
//! `vpmaddubsw` multiplies unsigned by signed bytes and adds pairs as 16-bit with saturation. 4-bit codes can't
//! reach it: eight pairs of 15 * 127 stay below 2¹⁵. 8-bit codes go in as |code|, with their sign moved to the
//! activation: a pair is at most 2 * 128 * 127, below 2¹⁵ as well.

use super::activations::{NUMBER_BYTES, Order};
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES, PREFETCH, ROW_TILE, part_of};
use crate::vector::unrolled;
use core::arch::x86_64::*;

implementations! {
    quantised: "avx2",
    dense: "avx2",
    Interleave::of(crate::IsaKind::Avx2),
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
    tile: &Tile<'_>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if TOKENS == 1 {
            block_token::<BITS, BLOCK, OFFSET>(tile);
        } else {
            block_rows::<BITS, BLOCK, OFFSET, TOKENS>(tile, 0);
            block_rows::<BITS, BLOCK, OFFSET, TOKENS>(tile, 1);
        }
    }
}

/// A tile for one token: all of its rows in one pass, so that the weights are read in order and what is read of the token serves
/// sixteen rows. More tokens' sums would not fit the registers.
///
/// # Safety
/// See [`super::kernel::TileFn`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block_token<const BITS: u8, const BLOCK: usize, const OFFSET: bool>(tile: &Tile<'_>) {
    const GROUPS: usize = ROW_TILE / 8;
    let part = part_of(BLOCK);
    // Registers of a part's codes of eight rows.
    let registers = part * BITS as usize / 32;
    let params_bytes = if OFFSET { 2 * PARAM_BYTES } else { PARAM_BYTES };
    let block_bytes = BLOCK / part * registers * GROUPS * 32 + params_bytes;
    let mut acc = [_mm256_setzero_ps(); GROUPS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape; what is only asked for may lie anywhere.
    unsafe {
        let mut weights = tile.weights;
        let mut ahead = weights.wrapping_add(PREFETCH);
        let mut params = tile.weights.add(tile.shape.params_at);
        let mut x = tile.activations;
        for _ in 0..tile.shape.blocks {
            for line in (0..block_bytes).step_by(64) {
                _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(line).cast());
            }
            ahead = ahead.wrapping_add(block_bytes);
            let mut dots = [_mm256_setzero_si256(); GROUPS];
            for _ in 0..BLOCK / part {
                add_dots::<BITS, BLOCK>(&mut dots, weights, x);
                weights = weights.add(GROUPS * registers * 32);
                x = x.add(part);
            }
            let numbers = x;
            let token_scale = _mm256_castsi256_ps(broadcast(numbers));
            unrolled!(group < GROUPS, at most 2, {
                let params = params.add(group * 16);
                let mut dot = dots[group];
                if BITS == 4 {
                    dot = _mm256_add_epi32(dot, broadcast(numbers.add(8)));
                }
                let factor = _mm256_mul_ps(token_scale, widen(params));
                acc[group] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), factor, acc[group]);
                if OFFSET {
                    let sum = _mm256_castsi256_ps(broadcast(numbers.add(4)));
                    let offset = widen(params.add(PARAM_BYTES));
                    acc[group] = _mm256_fmadd_ps(sum, offset, acc[group]);
                }
            });
            params = params.add(params_bytes);
            x = numbers.add(NUMBER_BYTES);
        }
        let multipliers = tile.weights.add(tile.shape.multipliers_at);
        for (group, acc) in acc.into_iter().enumerate() {
            let multipliers = _mm256_loadu_ps(multipliers.add(group * 32).cast());
            _mm256_storeu_ps(tile.out.add(group * 8), _mm256_mul_ps(acc, multipliers));
        }
    }
}

/// Adds the dot products of one part of a tile's sixteen rows with one token, 4-bit codes as 0..=15.
///
/// # Safety
/// The part must be readable at `weights`, the token's codes at `x`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn add_dots<const BITS: u8, const BLOCK: usize>(
    dots: &mut [__m256i; 2],
    weights: *const u8,
    x: *const u8,
) {
    let registers = part_of(BLOCK) * BITS as usize / 32;
    let ones = _mm256_set1_epi16(1);
    let low_half = _mm256_set1_epi8(15);
    let mut pairs = [_mm256_setzero_si256(); 2];
    // SAFETY: the caller's promise.
    unsafe {
        unrolled!(j < registers, {
            let low = broadcast(x.add(j * 4));
            let high = broadcast(x.add(if BITS == 4 {
                (registers + j) * 4
            } else {
                j * 4
            }));
            unrolled!(group < 2, at most 2, {
                let codes = weights.add((group * registers + j) * 32).cast();
                let codes = _mm256_loadu_si256(codes);
                if BITS == 4 {
                    let codes_high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low_half);
                    let codes_low = _mm256_and_si256(codes, low_half);
                    let sum = _mm256_add_epi16(
                        _mm256_maddubs_epi16(codes_low, low),
                        _mm256_maddubs_epi16(codes_high, high),
                    );
                    pairs[group] = _mm256_add_epi16(pairs[group], sum);
                } else {
                    let signed = _mm256_sign_epi8(low, codes);
                    let sum = _mm256_maddubs_epi16(_mm256_abs_epi8(codes), signed);
                    dots[group] = _mm256_add_epi32(dots[group], _mm256_madd_epi16(sum, ones));
                }
            });
        });
        if BITS == 4 {
            for (dot, pairs) in dots.iter_mut().zip(pairs) {
                *dot = _mm256_add_epi32(*dot, _mm256_madd_epi16(pairs, ones));
            }
        }
    }
}

/// One half of a tile: eight rows.
///
/// # Safety
/// See [`super::kernel::TileFn`]; `group` is below 2.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn block_rows<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
    group: usize,
) {
    // Columns of a part, and registers of its codes of eight rows.
    let part = part_of(BLOCK);
    let registers = part * BITS as usize / 32;
    let mut acc = [_mm256_setzero_ps(); TOKENS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut weights = tile.weights.add(group * registers * 32);
        let mut params = tile.weights.add(tile.shape.params_at + group * 16);
        let mut record = tile.activations;
        for _ in 0..tile.shape.blocks {
            let scale = widen(params);
            let offset = if OFFSET {
                widen(params.add(PARAM_BYTES))
            } else {
                scale
            };
            let mut dots = [_mm256_setzero_si256(); TOKENS];
            let mut columns = [_mm256_setzero_si256(); 8];
            if BLOCK == part {
                columns = load_codes::<BITS, BLOCK>(weights);
                weights = weights.add(2 * registers * 32);
            } else {
                for index in 0..BLOCK / part {
                    columns = load_codes::<BITS, BLOCK>(weights);
                    weights = weights.add(2 * registers * 32);
                    unrolled!(token < TOKENS, {
                        let x = record.add(token * (BLOCK + NUMBER_BYTES) + index * part);
                        let dot = dot::<BITS, BLOCK>(&columns, x);
                        dots[token] = _mm256_add_epi32(dots[token], dot);
                    });
                }
            }
            unrolled!(token < TOKENS, {
                let x = record.add(token * (BLOCK + NUMBER_BYTES));
                let numbers = x.add(BLOCK);
                // Of one part the sum is made here: sums of all tokens would not fit the registers.
                let mut dot = if BLOCK == part {
                    dot::<BITS, BLOCK>(&columns, x)
                } else {
                    dots[token]
                };
                if BITS == 4 {
                    dot = _mm256_add_epi32(dot, broadcast(numbers.add(8)));
                }
                let factor = _mm256_mul_ps(_mm256_castsi256_ps(broadcast(numbers)), scale);
                acc[token] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), factor, acc[token]);
                if OFFSET {
                    let sum = _mm256_castsi256_ps(broadcast(numbers.add(4)));
                    acc[token] = _mm256_fmadd_ps(sum, offset, acc[token]);
                }
            });
            params = params.add(if OFFSET { 2 * PARAM_BYTES } else { PARAM_BYTES });
            record = record.add(TOKENS * (BLOCK + NUMBER_BYTES));
        }
        let multipliers = tile.shape.multipliers_at + group * 32;
        let multipliers = _mm256_loadu_ps(tile.weights.add(multipliers).cast());
        for (token, acc) in acc.into_iter().enumerate() {
            let out = tile.out.add(token * tile.out_stride + group * 8);
            _mm256_storeu_ps(out, _mm256_mul_ps(acc, multipliers));
        }
    }
}

/// Columns 4i..4i+4 of one part of a block of eight rows, in the part's own order, 4-bit codes as 0..=15.
///
/// # Safety
/// The part must be readable at `at`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_codes<const BITS: u8, const BLOCK: usize>(at: *const u8) -> [__m256i; 8] {
    let registers = part_of(BLOCK) * BITS as usize / 32;
    let low_half = _mm256_set1_epi8(15);
    let mut columns = [_mm256_setzero_si256(); 8];
    unrolled!(j < registers, {
        // SAFETY: the caller's promise.
        let codes = unsafe { _mm256_loadu_si256(at.add(j * 32).cast()) };
        if BITS == 4 {
            let high = _mm256_srli_epi16::<4>(codes);
            columns[j] = _mm256_and_si256(codes, low_half);
            columns[(registers + j) % 8] = _mm256_and_si256(high, low_half);
        } else {
            columns[j] = codes;
        }
    });
    columns
}

/// The dot products of eight rows' codes of one part with one token's, 4-bit codes as 0..=15.
///
/// # Safety
/// The token's codes must be readable at `x`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn dot<const BITS: u8, const BLOCK: usize>(columns: &[__m256i; 8], x: *const u8) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    // SAFETY: the caller's promise.
    unsafe {
        if BITS == 4 {
            let mut pairs = _mm256_maddubs_epi16(columns[0], broadcast(x));
            unrolled!(j < part_of(BLOCK) / 4, {
                if j > 0 {
                    let x = broadcast(x.add(j * 4));
                    pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(columns[j], x));
                }
            });
            _mm256_madd_epi16(pairs, ones)
        } else {
            let mut sum = _mm256_setzero_si256();
            unrolled!(j < part_of(BLOCK) / 4, {
                let x = _mm256_sign_epi8(broadcast(x.add(j * 4)), columns[j]);
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(columns[j]), x);
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
            });
            sum
        }
    }
}

/// Four bytes in every lane.
///
/// # Safety
/// Four bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn broadcast(at: *const u8) -> __m256i {
    // SAFETY: the caller's promise.
    _mm256_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}

/// Eight halves as floats.
///
/// # Safety
/// Sixteen bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "avx,f16c")]
unsafe fn widen(at: *const u8) -> __m256 {
    // SAFETY: the caller's promise.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(at.cast()) })
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dense_tile<const BYTES: usize, const TOKENS: usize>(tile: &Tile<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        if TOKENS <= 4 {
            dense_rows::<BYTES, TOKENS, 2>(tile, 0);
        } else {
            // Half the rows at a time, so that the sums fit the registers.
            dense_rows::<BYTES, TOKENS, 1>(tile, 0);
            dense_rows::<BYTES, TOKENS, 1>(tile, 1);
        }
    }
}

/// `GROUPS` groups of eight rows, from group `first` on.
///
/// # Safety
/// See [`super::kernel::TileFn`]; `first + GROUPS` is at most 2.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dense_rows<const BYTES: usize, const TOKENS: usize, const GROUPS: usize>(
    tile: &Tile<'_>,
    first: usize,
) {
    let mut acc = [[_mm256_setzero_ps(); GROUPS]; TOKENS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut weights = tile.weights.add(first * 8 * BYTES);
        let mut x = tile.activations;
        for _ in 0..tile.shape.blocks {
            if TOKENS == 1 {
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(PREFETCH).cast());
            }
            let mut rows = [_mm256_setzero_ps(); GROUPS];
            unrolled!(group < GROUPS, at most 2, {
                let at = weights.add(group * 8 * BYTES);
                rows[group] = if BYTES == 2 {
                    widen(at)
                } else {
                    _mm256_loadu_ps(at.cast())
                };
            });
            unrolled!(token < TOKENS, {
                let x = _mm256_castsi256_ps(broadcast(x.add(token * 4)));
                unrolled!(group < GROUPS, at most 2, {
                    acc[token][group] = _mm256_fmadd_ps(rows[group], x, acc[token][group]);
                });
            });
            weights = weights.add(16 * BYTES);
            x = x.add(TOKENS * 4);
        }
        for (token, acc) in acc.into_iter().enumerate() {
            for (group, acc) in acc.into_iter().enumerate() {
                let out = token * tile.out_stride + (first + group) * 8;
                _mm256_storeu_ps(tile.out.add(out), acc);
            }
        }
    }
}
