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
    ($from:literal, $first:literal, $second:literal, $third:literal, $fourth:literal, $lane:literal) => {
        concat!(
            "ld1 {{v0.16b-v3.16b}}, [{", $from, "}], {step}\n",
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

/// Zeros the sums of all heads: four registers an instruction, and by a pipe that the products leave idle.
macro_rules! zero_sums {
    () => {
        concat!(
            "ld1 {{v16.16b-v19.16b}}, [{zeros}]\n",
            ".if {heads} > 1\n",
            "ld1 {{v20.16b-v23.16b}}, [{zeros}]\n",
            ".endif\n",
            ".if {heads} > 2\n",
            "ld1 {{v24.16b-v27.16b}}, [{zeros}]\n",
            ".endif\n",
            ".if {heads} > 3\n",
            "ld1 {{v28.16b-v31.16b}}, [{zeros}]\n",
            ".endif\n",
        )
    };
}

/// What [`zero_sums`] reads.
static ZEROS: [i32; 16] = [0; 16];

/// The scores of one head, from the sums `$a` to `$d` of a block; `$start` for the first block, which overwrites. v0 to v3: scales
/// of the keys; v13: of the queries.
macro_rules! score {
    ($head:literal, $start:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            ".if {heads} > ",
            $head,
            "\n",
            to_floats!($a, $b, $c, $d),
            "fmul v5.4s, v0.4s, v13.s[",
            $head,
            "]\n",
            "fmul v6.4s, v1.4s, v13.s[",
            $head,
            "]\n",
            "fmul v7.4s, v2.4s, v13.s[",
            $head,
            "]\n",
            "fmul v8.4s, v3.4s, v13.s[",
            $head,
            "]\n",
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

/// Sums as floats.
macro_rules! to_floats {
    ($a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            "scvtf v", $a, ".4s, v", $a, ".4s\n", "scvtf v", $b, ".4s, v", $b, ".4s\n", "scvtf v",
            $c, ".4s, v", $c, ".4s\n", "scvtf v", $d, ".4s, v", $d, ".4s\n",
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
            multiply!("from", 4, 6, 8, 10, 0),
            multiply!("from", 4, 6, 8, 10, 1),
            multiply!("from", 4, 6, 8, 10, 2),
            multiply!("from", 4, 6, 8, 10, 3),
            multiply!("from", 5, 7, 9, 11, 0),
            multiply!("from", 5, 7, 9, 11, 1),
            multiply!("from", 5, 7, 9, 11, 2),
            multiply!("from", 5, 7, 9, 11, 3),
            "ld1 {{v0.4s-v3.4s}}, [{key_scales}], #64\n",
            "ldr q13, [{query_scales}], #4 * {heads}\n",
            score!(0, $start, 16, 17, 18, 19),
            score!(1, $start, 20, 21, 22, 23),
            score!(2, $start, 24, 25, 26, 27),
            score!(3, $start, 28, 29, 30, 31),
            "sub {scores}, {scores}, #{heads} * 4 * {block}\n",
        )
    };
}

/// Adds one head's weighted sums to sixteen columns of its output, at `$out`. v12: factors of all heads.
macro_rules! add_sums {
    ($out:literal, $head:literal, $a:literal, $b:literal, $c:literal, $d:literal) => {
        concat!(
            ".if {heads} > ",
            $head,
            "\n",
            "ld1 {{v0.4s-v3.4s}}, [{",
            $out,
            "}]\n",
            to_floats!($a, $b, $c, $d),
            "fmla v0.4s, v",
            $a,
            ".4s, v12.s[",
            $head,
            "]\n",
            "fmla v1.4s, v",
            $b,
            ".4s, v12.s[",
            $head,
            "]\n",
            "fmla v2.4s, v",
            $c,
            ".4s, v12.s[",
            $head,
            "]\n",
            "fmla v3.4s, v",
            $d,
            ".4s, v12.s[",
            $head,
            "]\n",
            "st1 {{v0.4s-v3.4s}}, [{",
            $out,
            "}], {out_stride}\n",
            ".endif\n",
        )
    };
}

/// Sixteen columns of the values at `$from`; `$done` names where to go on after a single group. v4 to v11: codes, two registers a head.
macro_rules! weigh_columns {
    ($from:literal, $out:literal, $done:literal) => {
        concat!(
            zero_sums!(),
            multiply!($from, 4, 6, 8, 10, 0),
            multiply!($from, 4, 6, 8, 10, 1),
            multiply!($from, 4, 6, 8, 10, 2),
            multiply!($from, 4, 6, 8, 10, 3),
            "tbz {groups}, #1, ",
            $done,
            "f\n",
            multiply!($from, 5, 7, 9, 11, 0),
            multiply!($from, 5, 7, 9, 11, 1),
            multiply!($from, 5, 7, 9, 11, 2),
            multiply!($from, 5, 7, 9, 11, 3),
            $done,
            ":\n",
            add_sums!($out, 0, 16, 17, 18, 19),
            add_sums!($out, 1, 20, 21, 22, 23),
            add_sums!($out, 2, 24, 25, 26, 27),
            add_sums!($out, 3, 28, 29, 30, 31),
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
                zeros = in(reg) ZEROS.as_ptr(),
                key_scales = inout(reg) group.key_scales => _,
                scores = inout(reg) scores => _,
                scores_stride = in(reg) 4 * BLOCK,
                blocks = inout(reg) group.blocks => _,
                heads = const N,
                block = const BLOCK,
                out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                out("v8") _, out("v9") _, out("v10") _, out("v11") _, out("v12") _,
                out("v13") _,
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
    unsafe fn round<const N: usize>(
        weights: &[[f32; BLOCK]; N],
        scales: [&[f32; Q8_POSITIONS]; 2],
        codes: &mut [[i8; BLOCK]; N],
    ) -> [f32; N] {
        neon_softmax::round(weights, scales, codes)
    }

    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn weigh<const N: usize>(
        block: &ValueBlock,
        codes: &[[i8; BLOCK]; N],
        factors: &[f32; N],
    ) {
        let mut four = [0f32; 4];
        four.iter_mut()
            .zip(factors)
            .for_each(|(four, factor)| *four = *factor);
        // SAFETY: the caller's promise.
        unsafe {
            asm!(
                "ldr q12, [{factors}]",
                "ld1 {{v4.16b, v5.16b}}, [{codes}], #32",
                ".if {heads} > 1",
                "ld1 {{v6.16b, v7.16b}}, [{codes}], #32",
                ".endif",
                ".if {heads} > 2",
                "ld1 {{v8.16b, v9.16b}}, [{codes}], #32",
                ".endif",
                ".if {heads} > 3",
                "ld1 {{v10.16b, v11.16b}}, [{codes}]",
                ".endif",
                weigh_columns!("from", "out", "2"),
                weigh_columns!("next_from", "next_out", "3"),
                from = inout(reg) block.values => _,
                next_from = inout(reg) block.values.add(16 * 4) => _,
                step = in(reg) block.stride,
                codes = inout(reg) codes.as_ptr() => _,
                factors = in(reg) four.as_ptr(),
                groups = in(reg) block.groups,
                zeros = in(reg) ZEROS.as_ptr(),
                out = inout(reg) block.out => _,
                next_out = inout(reg) block.out.add(16) => _,
                out_stride = in(reg) 4 * block.out_stride,
                heads = const N,
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
}
