//! AArch64 with `sdot`: four rows in the lanes of a register, by a lane of a token's codes. It multiplies signed bytes, so
//! codes are moved by 128, and sums start at 128 times the row's weights.
//!
//! Assembler: stable Rust has no intrinsic for `sdot`. `.if` leaves out tokens that are not there.

use super::{Dots, Implementation, Panel, ROW_TILE, TOKENS, nothing};
use core::arch::asm;

pub(super) static IMPLEMENTATION: Implementation = Implementation {
    name: "i8-neon-dotprod",
    dots,
    begin: nothing,
    end: nothing,
};

/// # Safety
/// See [`super::DotsFn`].
#[target_feature(enable = "neon,dotprod")]
unsafe fn dots(call: &Dots, panel: &mut Panel) {
    for tile in 0..call.tiles.min(2) {
        let mut first = 0;
        // SAFETY: the caller's promise.
        unsafe {
            let starts = starts(call, tile);
            let tokens = call.tokens.min(TOKENS);
            while first + 4 <= tokens {
                some::<4>(call, tile, first, &starts, panel);
                first += 4;
            }
            while first < tokens {
                some::<1>(call, tile, first, &starts, panel);
                first += 1;
            }
        }
    }
}

/// 128 times the sum of each row's weights.
///
/// # Safety
/// As [`dots`].
#[target_feature(enable = "neon,dotprod")]
unsafe fn starts(call: &Dots, tile: usize) -> [i32; ROW_TILE] {
    let mut starts = [0; ROW_TILE];
    // SAFETY: the caller's promise: the tile has 64 bytes for each four columns.
    unsafe {
        asm!(
            ".irp n, 16, 17, 18, 19",
            "movi v\\n\\().2d, #0",
            ".endr",
            "movi v4.16b, #1",
            "2:",
            "ld1 {{v0.16b-v3.16b}}, [{weights}], #64",
            "sdot v16.4s, v0.16b, v4.16b",
            "sdot v17.4s, v1.16b, v4.16b",
            "sdot v18.4s, v2.16b, v4.16b",
            "sdot v19.4s, v3.16b, v4.16b",
            "subs {columns}, {columns}, #4",
            "b.ne 2b",
            ".irp n, 16, 17, 18, 19",
            "shl v\\n\\().4s, v\\n\\().4s, #7",
            ".endr",
            "st1 {{v16.4s-v19.4s}}, [{starts}]",
            weights = inout(reg) call.weights.add(tile * call.tile_bytes) => _,
            columns = inout(reg) call.columns => _,
            starts = in(reg) starts.as_mut_ptr(),
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            options(nostack),
        );
    }
    starts
}

/// Sixteen rows by four columns, lane `$lane` of each token's codes. v0 to v3: the rows; v4 to v7: codes; v16 to v31: sums, four
/// registers a token.
macro_rules! four_columns {
    ($lane:literal) => {
        concat!(
            "ld1 {{v0.16b-v3.16b}}, [{weights}], #64\n",
            four_columns!(@ 16, 17, 18, 19, 4, $lane),
            ".if {tokens} == 4\n",
            four_columns!(@ 20, 21, 22, 23, 5, $lane),
            four_columns!(@ 24, 25, 26, 27, 6, $lane),
            four_columns!(@ 28, 29, 30, 31, 7, $lane),
            ".endif\n",
        )
    };
    (@ $a:literal, $b:literal, $c:literal, $d:literal, $codes:literal, $lane:literal) => {
        concat!(
            "sdot v", $a, ".4s, v0.16b, v", $codes, ".4b[", $lane, "]\n",
            "sdot v", $b, ".4s, v1.16b, v", $codes, ".4b[", $lane, "]\n",
            "sdot v", $c, ".4s, v2.16b, v", $codes, ".4b[", $lane, "]\n",
            "sdot v", $d, ".4s, v3.16b, v", $codes, ".4b[", $lane, "]\n",
        )
    };
}

/// The tokens from `first` on: four, or one.
///
/// # Safety
/// As [`dots`], with so many tokens, which the panel has room for.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn some<const COUNT: usize>(
    call: &Dots,
    tile: usize,
    first: usize,
    starts: &[i32; ROW_TILE],
    panel: &mut Panel,
) {
    // SAFETY: the caller's promise. Columns are a multiple of sixteen.
    unsafe {
        let codes = call.activations.add(first * call.stride);
        let to = panel.as_mut_ptr().add(first).cast::<[i32; ROW_TILE]>();
        asm!(
            "ld1 {{v16.4s-v19.4s}}, [{starts}]",
            ".if {tokens} == 4",
            "ld1 {{v20.4s-v23.4s}}, [{starts}]",
            "ld1 {{v24.4s-v27.4s}}, [{starts}]",
            "ld1 {{v28.4s-v31.4s}}, [{starts}]",
            ".endif",
            "movi v8.16b, #128",
            "2:",
            "ldr q4, [{codes}], #16",
            "eor v4.16b, v4.16b, v8.16b",
            ".if {tokens} == 4",
            "ldr q5, [{second}], #16",
            "ldr q6, [{third}], #16",
            "ldr q7, [{fourth}], #16",
            "eor v5.16b, v5.16b, v8.16b",
            "eor v6.16b, v6.16b, v8.16b",
            "eor v7.16b, v7.16b, v8.16b",
            ".endif",
            four_columns!(0),
            four_columns!(1),
            four_columns!(2),
            four_columns!(3),
            "subs {columns}, {columns}, #16",
            "b.ne 2b",
            "st1 {{v16.4s-v19.4s}}, [{to}], {to_step}",
            ".if {tokens} == 4",
            "st1 {{v20.4s-v23.4s}}, [{to}], {to_step}",
            "st1 {{v24.4s-v27.4s}}, [{to}], {to_step}",
            "st1 {{v28.4s-v31.4s}}, [{to}], {to_step}",
            ".endif",
            weights = inout(reg) call.weights.add(tile * call.tile_bytes) => _,
            starts = in(reg) starts.as_ptr(),
            codes = inout(reg) codes => _,
            second = inout(reg) codes.wrapping_add(call.stride) => _,
            third = inout(reg) codes.wrapping_add(2 * call.stride) => _,
            fourth = inout(reg) codes.wrapping_add(3 * call.stride) => _,
            columns = inout(reg) call.columns => _,
            to = inout(reg) to.add(tile) => _,
            to_step = in(reg) 2 * 4 * ROW_TILE,
            tokens = const COUNT,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _, out("v8") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack),
        );
    }
}
