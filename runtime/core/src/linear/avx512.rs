//! x86-64 with AVX-512 VNNI: sixteen rows in the lanes of one register, `vpdpbusd` for four columns at a time.
//!
//! The instruction multiplies unsigned by signed bytes, so codes are stored as 0..=15 and 0..=255, and the
//! sum starts at `-middle * Σq`, which the prepared activations hold.

use super::activations::{NUMBER_BYTES, Order};
use super::kernel::{Tile, implementations};
use super::layout::{Interleave, PARAM_BYTES};
use core::arch::x86_64::*;

implementations! {
    quantised: "avx512-vnni",
    dense: "avx512",
    Interleave { rows: 16, unit: 4, unsigned: true },
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
    tile: &Tile,
) {
    let shape = tile.shape;
    // A compile-time constant equal to `shape.row_bytes / 4`: registers of one block's codes.
    let registers = BLOCK * BITS as usize / 32;
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        let low_half = _mm512_set1_epi8(15);
        let mut acc = [_mm512_setzero_ps(); TOKENS];
        let mut weights = tile.weights;
        let mut params = tile.weights.add(shape.params_at);
        for index in 0..shape.blocks {
            // Columns 4i..4i+4 of the block, in its own order.
            let mut columns = [_mm512_setzero_si512(); 8];
            for j in 0..registers {
                let codes = _mm512_loadu_si512(weights.add(j * 64).cast());
                if BITS == 4 {
                    columns[j] = _mm512_and_si512(codes, low_half);
                    columns[registers + j] =
                        _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low_half);
                } else {
                    columns[j] = codes;
                }
            }
            let scale = _mm512_cvtph_ps(_mm256_loadu_si256(params.cast()));
            for (token, acc) in acc.iter_mut().enumerate() {
                let x = tile
                    .activations
                    .add((index * TOKENS + token) * (BLOCK + NUMBER_BYTES));
                let numbers = x.add(BLOCK);
                let start = numbers
                    .add(if BITS == 4 { 8 } else { 12 })
                    .cast::<i32>()
                    .read_unaligned();
                let mut even = _mm512_set1_epi32(start);
                let mut odd = _mm512_setzero_si512();
                for j in (0..BLOCK / 4).step_by(2) {
                    even = _mm512_dpbusd_epi32(even, columns[j], broadcast(x.add(j * 4)));
                    odd = _mm512_dpbusd_epi32(odd, columns[j + 1], broadcast(x.add(j * 4 + 4)));
                }
                let dot = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
                let factor = _mm512_mul_ps(
                    _mm512_set1_ps(numbers.cast::<f32>().read_unaligned()),
                    scale,
                );
                *acc = _mm512_fmadd_ps(dot, factor, *acc);
                if OFFSET {
                    let offset =
                        _mm512_cvtph_ps(_mm256_loadu_si256(params.add(PARAM_BYTES).cast()));
                    let sum = _mm512_set1_ps(numbers.add(4).cast::<f32>().read_unaligned());
                    *acc = _mm512_fmadd_ps(sum, offset, *acc);
                }
            }
            weights = weights.add(registers * 64);
            params = params.add(shape.params_bytes);
        }
        let multipliers = _mm512_loadu_ps(tile.weights.add(shape.multipliers_at).cast());
        for (token, acc) in acc.into_iter().enumerate() {
            _mm512_storeu_ps(
                tile.out.add(token * tile.out_stride),
                _mm512_mul_ps(acc, multipliers),
            );
        }
    }
}

/// Four codes of the activations in every lane.
///
/// # Safety
/// Four bytes must be readable at `at`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn broadcast(at: *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    _mm512_set1_epi32(unsafe { at.cast::<i32>().read_unaligned() })
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn dense_tile<const BYTES: usize, const TOKENS: usize>(tile: &Tile) {
    let mut acc = [_mm512_setzero_ps(); TOKENS];
    // SAFETY: all addresses are within the tile, the activations and the output, by the shape.
    unsafe {
        for column in 0..tile.shape.blocks {
            let at = tile.weights.add(column * 16 * BYTES);
            let weights = if BYTES == 2 {
                _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()))
            } else {
                _mm512_loadu_ps(at.cast())
            };
            for (token, acc) in acc.iter_mut().enumerate() {
                let x = tile
                    .activations
                    .add((column * TOKENS + token) * 4)
                    .cast::<f32>()
                    .read_unaligned();
                *acc = _mm512_fmadd_ps(weights, _mm512_set1_ps(x), *acc);
            }
        }
        for (token, acc) in acc.into_iter().enumerate() {
            _mm512_storeu_ps(tile.out.add(token * tile.out_stride), acc);
        }
    }
}
