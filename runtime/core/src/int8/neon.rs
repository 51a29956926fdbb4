//! AArch64 as every ARMv8.0 has it: signed bytes multiplied to 16 bits and added in pairs to 32. Codes are moved by 128, and
//! 128 times the row's weights are added. Two products of -128 would overflow 16 bits, so each is added by itself.

use super::{Dots, Implementation, Panel, nothing};
use crate::vector::unrolled;
use core::arch::aarch64::*;

pub(super) static IMPLEMENTATION: Implementation = Implementation {
    name: "i8-neon",
    dots,
    begin: nothing,
    end: nothing,
};

/// # Safety
/// See [`super::DotsFn`].
#[target_feature(enable = "neon")]
unsafe fn dots(call: &Dots, panel: &mut Panel) {
    for tile in 0..call.tiles {
        let mut first = 0;
        // SAFETY: the caller's promise.
        unsafe {
            let starts = starts(call, tile);
            while first + 2 <= call.tokens {
                some::<2>(call, tile, first, &starts, panel);
                first += 2;
            }
            if first < call.tokens {
                some::<1>(call, tile, first, &starts, panel);
            }
        }
    }
}

/// 128 times the sum of each row's weights, four rows to a vector.
///
/// # Safety
/// As [`dots`].
#[target_feature(enable = "neon")]
unsafe fn starts(call: &Dots, tile: usize) -> [int32x4_t; 4] {
    let mut sums = [vdupq_n_s32(0); 8];
    for group in 0..call.columns / 4 {
        let at = call
            .weights
            .wrapping_add(tile * call.tile_bytes + group * 64);
        unrolled!(quarter < 4, at most 4, {
            // SAFETY: the caller's promise: the tile has these groups of 64.
            let rows = unsafe { vld1q_s8(at.add(quarter * 16).cast()) };
            let (low, high) = (vmovl_s8(vget_low_s8(rows)), vmovl_high_s8(rows));
            sums[2 * quarter] = vpadalq_s16(sums[2 * quarter], low);
            sums[2 * quarter + 1] = vpadalq_s16(sums[2 * quarter + 1], high);
        });
    }
    let mut starts = [vdupq_n_s32(0); 4];
    unrolled!(quarter < 4, at most 4, {
        starts[quarter] = vshlq_n_s32::<7>(vpaddq_s32(sums[2 * quarter], sums[2 * quarter + 1]));
    });
    starts
}

/// The tokens from `first` on.
///
/// # Safety
/// As [`dots`], with so many tokens.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn some<const TOKENS: usize>(
    call: &Dots,
    tile: usize,
    first: usize,
    starts: &[int32x4_t; 4],
    panel: &mut Panel,
) {
    // Of each token two vectors for four rows: a row's even and odd pairs of columns side by side.
    let mut sums = [[vdupq_n_s32(0); 8]; TOKENS];
    let flip = vdupq_n_u8(0x80);
    let codes = call.activations.wrapping_add(first * call.stride);
    for group in 0..call.columns / 4 {
        let at = call
            .weights
            .wrapping_add(tile * call.tile_bytes + group * 64);
        let mut rows = [vdupq_n_s8(0); 4];
        unrolled!(quarter < 4, at most 4, {
            // SAFETY: the caller's promise: the tile has these groups of 64.
            rows[quarter] = unsafe { vld1q_s8(at.add(quarter * 16).cast()) };
        });
        unrolled!(token < TOKENS, at most 2, {
            let code = codes.wrapping_add(token * call.stride + group * 4).cast::<u32>();
            // SAFETY: the caller's promise: the token has these codes.
            let code = vreinterpretq_u8_u32(vdupq_n_u32(unsafe { code.read_unaligned() }));
            let code = vreinterpretq_s8_u8(veorq_u8(code, flip));
            unrolled!(quarter < 4, at most 4, {
                let low = vmull_s8(vget_low_s8(rows[quarter]), vget_low_s8(code));
                let high = vmull_high_s8(rows[quarter], code);
                let sums = &mut sums[token];
                sums[2 * quarter] = vpadalq_s16(sums[2 * quarter], low);
                sums[2 * quarter + 1] = vpadalq_s16(sums[2 * quarter + 1], high);
            });
        });
    }
    for (panel, sums) in panel.iter_mut().skip(first).zip(sums) {
        let Some(to) = panel.get_mut(tile) else {
            return;
        };
        let quarters = to.as_chunks_mut::<4>().0.iter_mut();
        for ((to, sums), &start) in quarters.zip(sums.as_chunks::<2>().0).zip(starts) {
            let dots = vaddq_s32(vpaddq_s32(sums[0], sums[1]), start);
            // SAFETY: `to` is four numbers.
            unsafe { vst1q_s32(to.as_mut_ptr(), dots) };
        }
    }
}
