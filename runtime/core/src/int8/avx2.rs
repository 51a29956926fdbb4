//! x86-64 with AVX2. Bytes are widened to 16 bits first: `vpmaddubsw` would saturate.

use super::{Dots, Implementation, Panel, nothing};
use core::arch::x86_64::*;

pub(super) static IMPLEMENTATION: Implementation = Implementation {
    name: "i8-avx2",
    dots,
    begin: nothing,
    end: nothing,
};

/// # Safety
/// See [`super::DotsFn`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dots(call: &Dots, panel: &mut Panel) {
    for tile in 0..call.tiles {
        let mut first = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while first + 2 <= call.tokens {
                some::<2>(call, tile, first, panel);
                first += 2;
            }
            if first < call.tokens {
                some::<1>(call, tile, first, panel);
            }
        }
    }
}

/// The tokens from `first` on. A register holds four rows, two sums of two columns each.
///
/// # Safety
/// As [`dots`], with so many tokens.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn some<const TOKENS: usize>(call: &Dots, tile: usize, first: usize, panel: &mut Panel) {
    let mut sums = [[_mm256_setzero_si256(); 4]; TOKENS];
    // SAFETY: the caller's promise; the panel has whole vectors.
    unsafe {
        let codes = call.activations.add(first * call.stride);
        for group in 0..call.columns / 4 {
            let at = call.weights.add(tile * call.tile_bytes + group * 64);
            for quarter in 0..4 {
                let rows = _mm256_cvtepi8_epi16(_mm_loadu_si128(at.add(quarter * 16).cast()));
                for (token, sums) in sums.iter_mut().enumerate() {
                    let code = codes.add(token * call.stride + group * 4);
                    let code = _mm_set1_epi32(code.cast::<i32>().read_unaligned());
                    let code = _mm256_cvtepu8_epi16(code);
                    let products = _mm256_madd_epi16(rows, code);
                    sums[quarter] = _mm256_add_epi32(sums[quarter], products);
                }
            }
        }
        for (panel, sums) in panel.iter_mut().skip(first).zip(sums) {
            let Some(to) = panel.get_mut(tile) else {
                return;
            };
            for (to, pair) in to
                .as_chunks_mut::<8>()
                .0
                .iter_mut()
                .zip(sums.as_chunks::<2>().0)
            {
                // Neighbours are the two sums of one row; adding pairs works in halves of 128 bits.
                let added = _mm256_hadd_epi32(pair[0], pair[1]);
                let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(added);
                _mm256_storeu_si256(to.as_mut_ptr().cast(), ordered);
            }
        }
    }
}
