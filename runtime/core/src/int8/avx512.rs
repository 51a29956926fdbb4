//! x86-64 with AVX-512 VNNI: sixteen rows in the lanes of a register, `vpdpbusd` for four columns at a time.

use super::{Dots, Implementation, Panel, nothing};
use crate::vector::unrolled;
use core::arch::x86_64::*;

pub(super) static IMPLEMENTATION: Implementation = Implementation {
    name: "i8-avx512-vnni",
    dots,
    begin: nothing,
    end: nothing,
};

/// # Safety
/// See [`super::DotsFn`].
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn dots(call: &Dots, panel: &mut Panel) {
    let mut first = 0;
    // SAFETY: the caller's promise.
    unsafe {
        for (count, function) in [
            (
                8,
                if call.tiles == 2 {
                    some::<8, 2>
                } else {
                    some::<8, 1>
                } as unsafe fn(_, _, &mut _),
            ),
            (
                4,
                if call.tiles == 2 {
                    some::<4, 2>
                } else {
                    some::<4, 1>
                },
            ),
            (
                2,
                if call.tiles == 2 {
                    some::<2, 2>
                } else {
                    some::<2, 1>
                },
            ),
            (
                1,
                if call.tiles == 2 {
                    some::<1, 2>
                } else {
                    some::<1, 1>
                },
            ),
        ] {
            while first + count <= call.tokens {
                function(call, first, panel);
                first += count;
            }
        }
    }
}

/// The tokens from `first` on.
///
/// # Safety
/// As [`dots`], with so many tokens and tiles.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn some<const TOKENS: usize, const TILES: usize>(
    call: &Dots,
    first: usize,
    panel: &mut Panel,
) {
    let mut sums = [[_mm512_setzero_si512(); TILES]; TOKENS];
    // SAFETY: the caller's promise; the panel has whole vectors.
    unsafe {
        let codes = call.activations.add(first * call.stride);
        for group in 0..call.columns / 4 {
            let mut weights = [_mm512_setzero_si512(); TILES];
            unrolled!(tile < TILES, at most 2, {
                let at = call.weights.add(tile * call.tile_bytes + group * 64);
                weights[tile] = _mm512_loadu_si512(at.cast());
            });
            unrolled!(token < TOKENS, {
                let code = codes.add(token * call.stride + group * 4);
                let code = _mm512_set1_epi32(code.cast::<i32>().read_unaligned());
                unrolled!(tile < TILES, at most 2, {
                    sums[token][tile] = _mm512_dpbusd_epi32(sums[token][tile], code, weights[tile]);
                });
            });
        }
        for (panel, sums) in panel.iter_mut().skip(first).zip(sums) {
            for (to, sum) in panel.iter_mut().zip(sums) {
                _mm512_storeu_si512(to.as_mut_ptr().cast(), sum);
            }
        }
    }
}
