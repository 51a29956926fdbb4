//! AArch64 Advanced SIMD without `sdot`: products of two times eight codes in 16 bits, added in pairs to 32.
//!
//! Two products of codes from -127 to 127 fit into 16 bits, and no more: so two rows of four columns (or of four positions) are
//! multiplied before their sums are widened. Each sum is in two lanes until the end.

use super::neon_softmax;
use super::online::{Kernel, KeyGroup, Running, ValueBlock};
use super::rows::{Q8_POSITIONS, SHARED};
use crate::attention::online::BLOCK;
use crate::vector::unrolled;
use core::arch::aarch64::*;
use core::arch::asm;

pub(super) struct Neon;

/// Products of four lanes of two rows, added in pairs.
macro_rules! eight_products {
    ($first:literal, $second:literal, $low:literal, $high:literal) => {
        concat!(
            "smull v24.8h, v",
            $first,
            ".8b, v28.8b\n",
            "smull2 v25.8h, v",
            $first,
            ".16b, v28.16b\n",
            "smlal v24.8h, v",
            $second,
            ".8b, v29.8b\n",
            "smlal2 v25.8h, v",
            $second,
            ".16b, v29.16b\n",
            "sadalp v",
            $low,
            ".4s, v24.8h\n",
            "sadalp v",
            $high,
            ".4s, v25.8h\n",
        )
    };
}

impl Kernel for Neon {
    const NAME: &'static str = "q8-neon";

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn scores<const N: usize>(group: &KeyGroup, scores: *mut f32) {
        for head in 0..N {
            for block in 0..group.blocks {
                let at = head * group.blocks + block;
                // SAFETY: the caller's promise.
                unsafe {
                    let keys = group.keys.add(block * SHARED * Q8_POSITIONS);
                    let query = group.queries.add(at * SHARED);
                    let sums = sums(keys, 4 * Q8_POSITIONS, query, SHARED / 4);
                    let scale = *group.query_scales.add(block * N + head);
                    let key_scales = vld1q_f32_x4(group.key_scales.add(block * Q8_POSITIONS));
                    let key_scales = [key_scales.0, key_scales.1, key_scales.2, key_scales.3];
                    let to = scores.add(head * BLOCK);
                    unrolled!(i < 4, at most 4, {
                        let factor = vmulq_n_f32(key_scales[i], scale);
                        let sum = vcvtq_f32_s32(sums[i]);
                        let score = if block == 0 {
                            vmulq_f32(sum, factor)
                        } else {
                            vfmaq_f32(vld1q_f32(to.add(4 * i)), sum, factor)
                        };
                        vst1q_f32(to.add(4 * i), score);
                    });
                }
            }
        }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn weights<const N: usize>(
        scores: &mut [[f32; BLOCK]; N],
        state: &mut [Running; N],
    ) -> [f32; N] {
        neon_softmax::weights(scores, state)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn round<const N: usize>(
        weights: &[[f32; BLOCK]; N],
        scales: [&[f32; Q8_POSITIONS]; 2],
        codes: &mut [[i8; BLOCK]; N],
    ) -> [f32; N] {
        neon_softmax::round(weights, scales, codes)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn weigh<const N: usize>(
        block: &ValueBlock,
        codes: &[[i8; BLOCK]; N],
        factors: &[f32; N],
    ) {
        let fours = block.groups * Q8_POSITIONS / 4;
        for (head, (codes, factor)) in codes.iter().zip(factors).enumerate() {
            for column in (0..SHARED).step_by(16) {
                // SAFETY: the caller's promise.
                unsafe {
                    let values = block.values.add(column * 4);
                    let sums = sums(values, block.stride, codes.as_ptr(), fours);
                    let out = block.out.add(head * block.out_stride + column);
                    unrolled!(i < 4, at most 4, {
                        let y = vld1q_f32(out.add(4 * i));
                        vst1q_f32(out.add(4 * i), vfmaq_n_f32(y, vcvtq_f32_s32(sums[i]), *factor));
                    });
                }
            }
        }
    }
}

/// The sums over `fours`, an even number and not 0, of `rows[16 lanes][4] * codes[4]`, four lanes a register; rows are `stride`
/// bytes apart.
///
/// Assembler: the compiler moves the upper halves of registers down, instead of multiplying them where they are.
///
/// # Safety
/// All that must be readable.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn sums(rows: *const i8, stride: usize, codes: *const i8, fours: usize) -> [int32x4_t; 4] {
    let (a, b, c, d);
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            // v16 to v23: two sums for each lane of v0 to v3.
            ".irp n, 16, 17, 18, 19, 20, 21, 22, 23",
            "movi v\\n\\().2d, #0",
            ".endr",
            "2:",
            "ld1 {{v0.16b-v3.16b}}, [{rows}], {stride}",
            "ld1 {{v4.16b-v7.16b}}, [{rows}], {stride}",
            "ld2r {{v28.4s, v29.4s}}, [{codes}], #8",
            eight_products!(0, 4, 16, 17),
            eight_products!(1, 5, 18, 19),
            eight_products!(2, 6, 20, 21),
            eight_products!(3, 7, 22, 23),
            "subs {pairs}, {pairs}, #1",
            "b.ne 2b",
            "addp v16.4s, v16.4s, v17.4s",
            "addp v18.4s, v18.4s, v19.4s",
            "addp v20.4s, v20.4s, v21.4s",
            "addp v22.4s, v22.4s, v23.4s",
            rows = inout(reg) rows => _,
            stride = in(reg) stride,
            codes = inout(reg) codes => _,
            pairs = inout(reg) fours / 2 => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") a, out("v17") _, out("v18") b, out("v19") _,
            out("v20") c, out("v21") _, out("v22") d, out("v23") _,
            out("v24") _, out("v25") _, out("v28") _, out("v29") _,
            options(nostack, readonly),
        );
    }
    [a, b, c, d]
}
