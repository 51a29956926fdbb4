//! x86-64 with AVX-512 VNNI: sixteen rows in the lanes of one register, `vpdpbusd` for four columns at a time.
//!
//! The instruction multiplies unsigned by signed bytes, so codes are stored as 0..=15 and 0..=255, and the
//! sum starts at `-middle * Σq`, which the prepared activations hold.

use super::activations::{NUMBER_BYTES, Order};
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES, PREFETCH, part_of};
use crate::vector::unrolled;
use core::arch::x86_64::*;

implementations! {
    quantised: "avx512-vnni",
    dense: "avx512",
    Interleave::of(crate::IsaKind::Avx512Vnni),
    Order::Plain,
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn block_tile<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
) {
    // Columns of a part, and registers of its codes.
    let part = part_of(BLOCK);
    let registers = part * BITS as usize / 32;
    let mut acc = [_mm512_setzero_ps(); TOKENS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut weights = tile.weights;
        let mut params = tile.weights.add(tile.shape.params_at);
        let mut record = tile.activations;
        for _ in 0..tile.shape.blocks {
            let scale = widen(params);
            let offset = if OFFSET {
                widen(params.add(PARAM_BYTES))
            } else {
                scale
            };
            let mut dots = [_mm512_setzero_si512(); TOKENS];
            unrolled!(token < TOKENS, {
                let numbers = record.add(token * (BLOCK + NUMBER_BYTES) + BLOCK);
                dots[token] = broadcast(numbers.add(if BITS == 4 { 8 } else { 12 }));
            });
            for index in 0..BLOCK / part {
                let columns = load_codes::<BITS, BLOCK>(weights);
                weights = weights.add(registers * 64);
                unrolled!(token < TOKENS, {
                    let x = record.add(token * (BLOCK + NUMBER_BYTES) + index * part);
                    let mut dot = dots[token];
                    if TOKENS >= 4 {
                        // The other tokens fill the time that a sum takes.
                        unrolled!(j < part / 4, {
                            dot = _mm512_dpbusd_epi32(dot, columns[j], broadcast(x.add(j * 4)));
                        });
                    } else {
                        // Two sums, for their latency.
                        let mut odd = _mm512_setzero_si512();
                        unrolled!(j < part / 8, at most 4, {
                            dot = _mm512_dpbusd_epi32(dot, columns[2 * j], broadcast(x.add(j * 8)));
                            let x = broadcast(x.add(j * 8 + 4));
                            odd = _mm512_dpbusd_epi32(odd, columns[2 * j + 1], x);
                        });
                        dot = _mm512_add_epi32(dot, odd);
                    }
                    dots[token] = dot;
                });
            }
            unrolled!(token < TOKENS, {
                let numbers = record.add(token * (BLOCK + NUMBER_BYTES) + BLOCK);
                let dot = _mm512_cvtepi32_ps(dots[token]);
                let factor = _mm512_mul_ps(_mm512_castsi512_ps(broadcast(numbers)), scale);
                acc[token] = _mm512_fmadd_ps(dot, factor, acc[token]);
                if OFFSET {
                    let sum = _mm512_castsi512_ps(broadcast(numbers.add(4)));
                    acc[token] = _mm512_fmadd_ps(sum, offset, acc[token]);
                }
            });
            params = params.add(if OFFSET { 2 * PARAM_BYTES } else { PARAM_BYTES });
            record = record.add(TOKENS * (BLOCK + NUMBER_BYTES));
        }
        let multipliers = tile.weights.add(tile.shape.multipliers_at);
        let multipliers = _mm512_loadu_ps(multipliers.cast());
        for (token, acc) in acc.into_iter().enumerate() {
            let out = tile.out.add(token * tile.out_stride);
            _mm512_storeu_ps(out, _mm512_mul_ps(acc, multipliers));
        }
    }
}

/// Columns 4i..4i+4 of one part of a block of a tile, in the part's own order, codes unsigned.
///
/// # Safety
/// The part must be readable at `at`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn load_codes<const BITS: u8, const BLOCK: usize>(at: *const u8) -> [__m512i; 8] {
    let registers = part_of(BLOCK) * BITS as usize / 32;
    let low_half = _mm512_set1_epi8(15);
    let mut columns = [_mm512_setzero_si512(); 8];
    unrolled!(j < registers, {
        // SAFETY: the caller's promise.
        let codes = unsafe { _mm512_loadu_si512(at.add(j * 64).cast()) };
        if BITS == 4 {
            let high = _mm512_srli_epi16::<4>(codes);
            columns[j] = _mm512_and_si512(codes, low_half);
            columns[(registers + j) % 8] = _mm512_and_si512(high, low_half);
        } else {
            columns[j] = codes;
        }
    });
    columns
}

/// Four bytes in every lane.
///
/// # Safety
/// Four bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn broadcast(at: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}

/// Sixteen halves as floats.
///
/// # Safety
/// 32 bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "avx,avx512f")]
unsafe fn widen(at: *const u8) -> __m512 {
    // SAFETY: the caller's promise.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(at.cast()) })
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn dense_tile<const BYTES: usize, const TOKENS: usize>(tile: &Tile<'_>) {
    let mut acc = [_mm512_setzero_ps(); TOKENS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let mut weights = tile.weights;
        let mut x = tile.activations;
        for _ in 0..tile.shape.blocks {
            if TOKENS == 1 {
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(PREFETCH).cast());
            }
            let rows = if BYTES == 2 {
                widen(weights)
            } else {
                _mm512_loadu_ps(weights.cast())
            };
            unrolled!(token < TOKENS, {
                let x = _mm512_castsi512_ps(broadcast(x.add(token * 4)));
                acc[token] = _mm512_fmadd_ps(rows, x, acc[token]);
            });
            weights = weights.add(16 * BYTES);
            x = x.add(TOKENS * 4);
        }
        for (token, acc) in acc.into_iter().enumerate() {
            _mm512_storeu_ps(tile.out.add(token * tile.out_stride), acc);
        }
    }
}
