//! AArch64 with `sdot`: four keys, or four columns of the values, in the lanes of a register, by a lane of codes.
//!
//! Assembler: stable Rust has no intrinsic for `sdot`, and the sums of four heads leave few registers. `.if` leaves out heads
//! that are not there.

use super::neon_softmax;
use super::online::{Kernel, KeyGroup, Running, ValueBlock};
use super::rows::{Q8_POSITIONS, SHARED};
use crate::attention::online::BLOCK;
use core::arch::asm;

pub(super) struct Dotprod;

/// Sixteen keys or columns, by lane `$lane` of each head's register of codes. v0 to v3: what was loaded; v16 to v31: sums,
/// four registers a head.
macro_rules! multiply {
    ($first:literal, $second:literal, $third:literal, $fourth:literal, $lane:literal) => {
        concat!(
            "ld1 {{v0.16b-v3.16b}}, [{from}], {step}\n",
            multiply!(@ 0, 16, 17, 18, 19, $first, $lane),
            multiply!(@ 1, 20, 21, 22, 23, $second, $lane),
            multiply!(@ 2, 24, 25, 26, 27, $third, $lane),
            multiply!(@ 3, 28, 29, 30, 31, $fourth, $lane),
        )
    };
    (@ $head:literal, $a:literal, $b:literal, $c:literal, $d:literal, $codes:literal, $lane:literal) => {
        concat!(
            ".if {heads} > ", $head, "\n",
            "sdot v", $a, ".4s, v0.16b, v", $codes, ".4b[", $lane, "]\n",
            "sdot v", $b, ".4s, v1.16b, v", $codes, ".4b[", $lane, "]\n",
            "sdot v", $c, ".4s, v2.16b, v", $codes, ".4b[", $lane, "]\n",
            "sdot v", $d, ".4s, v3.16b, v", $codes, ".4b[", $lane, "]\n",
            ".endif\n",
        )
    };
}

/// Zeros the sums of all heads.
macro_rules! zero_sums {
    () => {
        concat!(
            ".irp n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n",
            ".if \\n < 16 + 4 * {heads}\n",
            "movi v\\n\\().2d, #0\n",
            ".endif\n",
            ".endr\n",
        )
    };
}

/// The scores of one head, from the sums `$a` to `$d` of a block; `$start` for the first block, which overwrites.
macro_rules! score {
    ($head:literal, $start:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            ".if {heads} > ",
            $head,
            "\n",
            "ld1r {{v4.4s}}, [{query_scales}], {scales_stride}\n",
            "fmul v4.4s, v4.4s, v15.s[0]\n",
            ".irp n, ",
            $a,
            ", ",
            $b,
            ", ",
            $c,
            ", ",
            $d,
            "\n",
            "scvtf v\\n\\().4s, v\\n\\().4s\n",
            ".endr\n",
            "fmul v5.4s, v0.4s, v4.4s\n",
            "fmul v6.4s, v1.4s, v4.4s\n",
            "fmul v7.4s, v2.4s, v4.4s\n",
            "fmul v8.4s, v3.4s, v4.4s\n",
            ".if ",
            $start,
            "\n",
            "fmul v9.4s, v",
            $a,
            ".4s, v5.4s\n",
            "fmul v10.4s, v",
            $b,
            ".4s, v6.4s\n",
            "fmul v11.4s, v",
            $c,
            ".4s, v7.4s\n",
            "fmul v12.4s, v",
            $d,
            ".4s, v8.4s\n",
            ".else\n",
            "ld1 {{v9.4s-v12.4s}}, [{scores}]\n",
            "fmla v9.4s, v",
            $a,
            ".4s, v5.4s\n",
            "fmla v10.4s, v",
            $b,
            ".4s, v6.4s\n",
            "fmla v11.4s, v",
            $c,
            ".4s, v7.4s\n",
            "fmla v12.4s, v",
            $d,
            ".4s, v8.4s\n",
            ".endif\n",
            "st1 {{v9.4s-v12.4s}}, [{scores}], {scores_stride}\n",
            ".endif\n",
        )
    };
}

/// A block of columns of sixteen keys. v4 to v11: codes of the queries, two registers a head.
macro_rules! block_of_keys {
    ($start:literal) => {
        concat!(
            "ld1 {{v4.16b, v5.16b}}, [{queries}], {queries_stride}\n",
            ".if {heads} > 1\n",
            "ld1 {{v6.16b, v7.16b}}, [{queries}], {queries_stride}\n",
            ".endif\n",
            ".if {heads} > 2\n",
            "ld1 {{v8.16b, v9.16b}}, [{queries}], {queries_stride}\n",
            ".endif\n",
            ".if {heads} > 3\n",
            "ld1 {{v10.16b, v11.16b}}, [{queries}], {queries_stride}\n",
            ".endif\n",
            "add {queries}, {queries}, {queries_back}\n",
            zero_sums!(),
            multiply!(4, 6, 8, 10, 0),
            multiply!(4, 6, 8, 10, 1),
            multiply!(4, 6, 8, 10, 2),
            multiply!(4, 6, 8, 10, 3),
            multiply!(5, 7, 9, 11, 0),
            multiply!(5, 7, 9, 11, 1),
            multiply!(5, 7, 9, 11, 2),
            multiply!(5, 7, 9, 11, 3),
            "ld1 {{v0.4s-v3.4s}}, [{key_scales}], #64\n",
            score!(0, $start, 16, 17, 18, 19),
            score!(1, $start, 20, 21, 22, 23),
            score!(2, $start, 24, 25, 26, 27),
            score!(3, $start, 28, 29, 30, 31),
            "add {query_scales}, {query_scales}, {scales_back}\n",
            "sub {scores}, {scores}, #{heads} * 4 * {block}\n",
        )
    };
}

/// Adds one head's weighted sums to sixteen columns of its output.
macro_rules! add_sums {
    ($head:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            ".if {heads} > ",
            $head,
            "\n",
            "ld1r {{v4.4s}}, [{factors}], #4\n",
            "ld1 {{v0.4s-v3.4s}}, [{out}]\n",
            ".irp n, ",
            $a,
            ", ",
            $b,
            ", ",
            $c,
            ", ",
            $d,
            "\n",
            "scvtf v\\n\\().4s, v\\n\\().4s\n",
            ".endr\n",
            "fmla v0.4s, v",
            $a,
            ".4s, v4.4s\n",
            "fmla v1.4s, v",
            $b,
            ".4s, v4.4s\n",
            "fmla v2.4s, v",
            $c,
            ".4s, v4.4s\n",
            "fmla v3.4s, v",
            $d,
            ".4s, v4.4s\n",
            "st1 {{v0.4s-v3.4s}}, [{out}], {out_stride}\n",
            ".endif\n",
        )
    };
}

impl Kernel for Dotprod {
    const NAME: &'static str = "q8-neon-dotprod";

    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn scores<const N: usize>(group: &KeyGroup, scores: *mut f32) {
        let row = group.blocks * SHARED;
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                block_of_keys!(1),
                "subs {blocks}, {blocks}, #1",
                "b.eq 3f",
                "2:",
                block_of_keys!(0),
                "subs {blocks}, {blocks}, #1",
                "b.ne 2b",
                "3:",
                from = inout(reg) group.keys => _,
                step = in(reg) 4 * Q8_POSITIONS,
                queries = inout(reg) group.queries => _,
                queries_stride = in(reg) row,
                // From past the last query back to the first one's next block.
                queries_back = in(reg) SHARED as isize - (N * row) as isize,
                query_scales = inout(reg) group.query_scales => _,
                scales_stride = in(reg) 4 * group.blocks,
                scales_back = in(reg) 4 - (4 * N * group.blocks) as isize,
                key_scales = inout(reg) group.key_scales => _,
                scores = inout(reg) scores => _,
                scores_stride = in(reg) 4 * BLOCK,
                blocks = inout(reg) group.blocks => _,
                heads = const N,
                block = const BLOCK,
                in("v15") group.scale,
                out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _,
                out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                out("v24") _, out("v25") _, out("v26") _, out("v27") _,
                out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                options(nostack),
            );
        }
    }

    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn weights<const N: usize>(
        scores: &mut [[f32; BLOCK]; N],
        state: &mut [Running; N],
    ) -> [f32; N] {
        neon_softmax::weights(scores, state)
    }

    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn round(
        weights: &[f32; BLOCK],
        scales: [&[f32; Q8_POSITIONS]; 2],
        codes: &mut [i8; BLOCK],
    ) -> f32 {
        neon_softmax::round(weights, scales, codes)
    }

    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn weigh<const N: usize>(
        block: &ValueBlock,
        codes: &[[i8; BLOCK]; N],
        factors: &[f32; N],
    ) {
        for column in (0..SHARED).step_by(16) {
            // SAFETY: the caller's promise.
            unsafe {
                asm!(
                    zero_sums!(),
                    "2:",
                    // v4 to v7: sixteen codes of each head.
                    "ldr q4, [{codes}]",
                    ".if {heads} > 1",
                    "ldr q5, [{codes}, #{block}]",
                    ".endif",
                    ".if {heads} > 2",
                    "ldr q6, [{codes}, #2 * {block}]",
                    ".endif",
                    ".if {heads} > 3",
                    "ldr q7, [{codes}, #3 * {block}]",
                    ".endif",
                    "add {codes}, {codes}, #16",
                    multiply!(4, 5, 6, 7, 0),
                    multiply!(4, 5, 6, 7, 1),
                    multiply!(4, 5, 6, 7, 2),
                    multiply!(4, 5, 6, 7, 3),
                    "subs {groups}, {groups}, #1",
                    "b.ne 2b",
                    add_sums!(0, 16, 17, 18, 19),
                    add_sums!(1, 20, 21, 22, 23),
                    add_sums!(2, 24, 25, 26, 27),
                    add_sums!(3, 28, 29, 30, 31),
                    from = inout(reg) block.values.add(column * 4) => _,
                    step = in(reg) block.stride,
                    codes = inout(reg) codes.as_ptr() => _,
                    factors = inout(reg) factors.as_ptr() => _,
                    groups = inout(reg) block.groups => _,
                    out = inout(reg) block.out.add(column) => _,
                    out_stride = in(reg) 4 * block.out_stride,
                    heads = const N,
                    block = const BLOCK,
                    out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                    out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                    out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                    out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                    out("v24") _, out("v25") _, out("v26") _, out("v27") _,
                    out("v28") _, out("v29") _, out("v30") _, out("v31") _,
                    options(nostack),
                );
            }
        }
    }
}
