//! AArch64 with `sdot`. It multiplies signed bytes, so codes are moved by 128, and 128 times the row's weights are added.

use super::{Dots, Implementation, Panel, nothing};
use core::arch::aarch64::*;

pub(super) static IMPLEMENTATION: Implementation = Implementation {
    name: "i8-neon-dotprod",
    dots,
    begin: nothing,
    end: nothing,
};

/// `sum += Σ a * b` over the four bytes of each lane; one lane of `b`.
///
/// # Safety
/// The CPU must have `sdot`.
#[inline(always)]
unsafe fn sdot(sum: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let mut sum = sum;
    // SAFETY: the caller's promise; registers only.
    unsafe {
        core::arch::asm!(
            ".arch_extension dotprod",
            "sdot {s:v}.4s, {a:v}.16b, {b:v}.16b",
            s = inout(vreg) sum, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// # Safety
/// See [`super::DotsFn`].
unsafe fn dots(call: &Dots, panel: &mut Panel) {
    for tile in 0..call.tiles {
        let mut first = 0;
        // SAFETY: the caller's promise.
        unsafe {
            while first + 4 <= call.tokens {
                some::<4>(call, tile, first, panel);
                first += 4;
            }
            while first < call.tokens {
                some::<1>(call, tile, first, panel);
                first += 1;
            }
        }
    }
}

/// The tokens from `first` on.
///
/// # Safety
/// As [`dots`], with so many tokens.
#[inline(always)]
unsafe fn some<const TOKENS: usize>(call: &Dots, tile: usize, first: usize, panel: &mut Panel) {
    // SAFETY: the caller's promise; the panel has whole vectors.
    unsafe {
        let zero = vdupq_n_s32(0);
        let (ones, flip) = (vdupq_n_s8(1), vdupq_n_u8(0x80));
        let mut sums = [[zero; 4]; TOKENS];
        let mut weight_sums = [zero; 4];
        let codes = call.activations.add(first * call.stride);
        for group in 0..call.columns / 4 {
            let at = call
                .weights
                .add(tile * call.tile_bytes + group * 64)
                .cast::<i8>();
            let rows = [0, 16, 32, 48].map(|offset| vld1q_s8(at.add(offset)));
            for (sum, rows) in weight_sums.iter_mut().zip(rows) {
                *sum = sdot(*sum, rows, ones);
            }
            for (token, sums) in sums.iter_mut().enumerate() {
                let code = codes.add(token * call.stride + group * 4).cast::<u32>();
                let code = vreinterpretq_u8_u32(vdupq_n_u32(code.read_unaligned()));
                let code = vreinterpretq_s8_u8(veorq_u8(code, flip));
                for (sum, rows) in sums.iter_mut().zip(rows) {
                    *sum = sdot(*sum, rows, code);
                }
            }
        }
        for (panel, sums) in panel.iter_mut().skip(first).zip(sums) {
            let Some(to) = panel.get_mut(tile) else {
                return;
            };
            let quarters = to.as_chunks_mut::<4>().0.iter_mut();
            for ((to, sum), weights) in quarters.zip(sums).zip(weight_sums) {
                vst1q_s32(to.as_mut_ptr(), vaddq_s32(sum, vshlq_n_s32::<7>(weights)));
            }
        }
    }
}
