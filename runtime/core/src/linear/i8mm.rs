//! AArch64 with `smmla`: two tokens by two rows, eight columns at a time.
//!
//! One instruction does 32 multiply-accumulates: activations of two tokens × eight columns by codes of two rows × eight
//! columns, and the sums stay two by two until the end. Weights lie as `sdot` wants them, four rows × four columns, so
//! that one token or two take the very code that suits them best, the `sdot` kernel's. For more tokens they are turned into
//! pairs of rows; the first group of tokens leaves these in a panel, unpacked, with their scales as f32, for the others.
//!
//! Codes of 4 bits are unpacked as the `sdot` kernel does for several tokens: low ones as they are, high ones as
//! 16 times the code and 8, in sums that `scvtf` divides by 16.
//!
//! Assembler for the reasons given there.

mod pairs;

use super::activations::Order;
use super::dotprod::{self, one_token, part_bytes};
use super::kernel::{Tile, TileFn, implementations};
use super::layout::{Interleave, part_of};
use super::neon::dense_tile;
use super::panel::{self, FILL, Part, READ};
use core::arch::asm;
use pairs::{load_block, unpack_block};

implementations! {
    quantised: "neon-i8mm",
    dense: "neon",
    Interleave::of(crate::IsaKind::NeonI8mm),
    Order::StartedPairs { middle: if BITS == 4 { 8 } else { 0 } },
    tokens: [12, 8, 4, 2, 1],
    takes_runs: true,
    all_groups: all_groups,
}

/// # Safety
/// See [`super::kernel::TileFn`].
#[target_feature(enable = "neon,dotprod,i8mm")]
unsafe fn block_tile<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const TOKENS: usize,
>(
    tile: &Tile<'_>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match TOKENS {
            1 => one_token::<BITS, BLOCK, OFFSET>(tile),
            2 => dotprod::block_tile::<BITS, BLOCK, OFFSET, 2>(tile),
            // No code for these: `LinearKernel::select` takes the `sdot` kernel.
            _ if BLOCK > part_of(BLOCK) => {}
            _ => many_tokens::<BITS, BLOCK, OFFSET>(tile),
        }
    }
}

const fn all_groups<const BITS: u8, const BLOCK: usize, const OFFSET: bool>() -> Option<TileFn> {
    if BLOCK > part_of(BLOCK) {
        None
    } else {
        Some(many_tokens::<BITS, BLOCK, OFFSET>)
    }
}

panel::many_tokens!(features: "neon,dotprod,i8mm", token_pairs, tokens: [12, 8, 4]);

/// Loads what a pair of tokens' results were before this part.
macro_rules! load_pair {
    ($pair:literal, $a:literal, $b:literal) => {
        concat!(
            ".if 2 * ",
            $pair,
            " < {tokens}\n",
            "ld1 {{v0.4s}}, [{from}], {stride}\n",
            "ld1 {{v1.4s}}, [{from}], {stride}\n",
            "zip1 v",
            $a,
            ".2d, v0.2d, v1.2d\n",
            "zip2 v",
            $b,
            ".2d, v0.2d, v1.2d\n",
            ".endif\n",
        )
    };
}

/// Eight columns of two tokens in `$x` by those of four rows in `$first` and `$second`.
macro_rules! eight_columns {
    ($x:literal, $first:literal, $second:literal) => {
        concat!(
            "smmla v0.4s, v",
            $x,
            ".16b, v",
            $first,
            ".16b\n",
            "smmla v1.4s, v",
            $x,
            ".16b, v",
            $second,
            ".16b\n",
        )
    };
}

/// A block of a pair of tokens.
macro_rules! multiply_pair {
    ($pair:literal, $a:literal, $b:literal) => {
        concat!(
            ".if 2 * ", $pair, " < {tokens}\n",
            // v0, v1: what the sums start at, then the sums; v2: d; v3: d * Σq; v28 to v31: activations.
            "ld1 {{v0.16b-v3.16b}}, [{x}], #64\n",
            ".if {block} == 32\n",
            "ld1 {{v28.16b-v31.16b}}, [{x}], #64\n",
            ".else\n",
            "ld1 {{v28.16b, v29.16b}}, [{x}], #32\n",
            ".endif\n",
            eight_columns!("28", "16", "17"),
            eight_columns!("29", "18", "19"),
            ".if {block} == 32\n",
            eight_columns!("30", "20", "21"),
            eight_columns!("31", "22", "23"),
            ".endif\n",
            ".if {high}\n",
            "scvtf v0.4s, v0.4s, #4\n",
            "scvtf v1.4s, v1.4s, #4\n",
            ".else\n",
            "scvtf v0.4s, v0.4s\n",
            "scvtf v1.4s, v1.4s\n",
            ".endif\n",
            "fmul v28.4s, v24.4s, v2.4s\n",
            "fmul v29.4s, v25.4s, v2.4s\n",
            "fmla v", $a, ".4s, v0.4s, v28.4s\n",
            "fmla v", $b, ".4s, v1.4s, v29.4s\n",
            ".if {offset}\n",
            "fmla v", $a, ".4s, v26.4s, v3.4s\n",
            "fmla v", $b, ".4s, v27.4s, v3.4s\n",
            ".endif\n",
            ".endif\n",
        )
    };
}

/// Stores a pair of tokens' results.
macro_rules! store_pair {
    ($pair:literal, $a:literal, $b:literal) => {
        concat!(
            ".if 2 * ",
            $pair,
            " < {tokens}\n",
            "zip1 v0.2d, v",
            $a,
            ".2d, v",
            $b,
            ".2d\n",
            "zip2 v1.2d, v",
            $a,
            ".2d, v",
            $b,
            ".2d\n",
            "fmul v0.4s, v0.4s, v2.4s\n",
            "fmul v1.4s, v1.4s, v2.4s\n",
            "st1 {{v0.4s}}, [{out}], {stride}\n",
            "st1 {{v1.4s}}, [{out}], {stride}\n",
            ".endif\n",
        )
    };
}

/// The same for each pair of tokens: its number and the registers of its results, rows [0, 1] of both tokens and rows [2, 3].
macro_rules! each_pair {
    ($step:ident) => {
        concat!(
            $step!("0", "4", "5"),
            $step!("1", "6", "7"),
            $step!("2", "8", "9"),
            $step!("3", "10", "11"),
            $step!("4", "12", "13"),
            $step!("5", "14", "15"),
        )
    };
}

/// Four rows of a part by a group of `TOKENS` tokens, from token `first` on.
///
/// # Safety
/// As [`token_groups`]; `TOKENS` is even and at most 12, and the group is there.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn token_pairs<
    const BITS: u8,
    const BLOCK: usize,
    const OFFSET: bool,
    const HIGH: bool,
    const TOKENS: usize,
    const PANEL: u8,
>(
    part: &Part<'_>,
    group: usize,
    first: usize,
    panel: *mut u8,
) {
    let record = const { Order::StartedPairs { middle: 0 }.record_bytes(BLOCK) };
    let step = if BLOCK == 32 {
        64
    } else {
        part_bytes(BITS, BLOCK)
    };
    // SAFETY: all addresses are within the tile, the panel, the activations and the output, by the shape.
    unsafe {
        let places = part.places::<BITS, BLOCK, OFFSET>(group, first, TOKENS, record);
        asm!(
            // v4 to v15: results of six pairs of tokens.
            "cbnz {begun}, 4f",
            ".irp n, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            ".if \\n < 4 + {tokens}",
            "movi v\\n\\().2d, #0",
            ".endif",
            ".endr",
            "b 2f",
            "4:",
            "mov {from}, {out}",
            each_pair!(load_pair),
            "2:",
            ".if {read}",
            load_block!(),
            ".else",
            unpack_block!(),
            ".endif",
            each_pair!(multiply_pair),
            "subs {blocks}, {blocks}, #1",
            "b.ne 2b",
            "ldr q2, [{multipliers}]",
            each_pair!(store_pair),
            x = inout(reg) places.activations => _,
            w = inout(reg) places.codes => _,
            p = inout(reg) places.params => _,
            panel = inout(reg) panel => _,
            blocks = inout(reg) part.blocks => _,
            begun = in(reg) part.first_block,
            step = in(reg) step,
            // From the last registers of one block's codes to the next block's.
            rest = in(reg) part_bytes(BITS, BLOCK) - step,
            params = in(reg) part.tile.shape.params_bytes,
            multipliers = in(reg) places.multipliers,
            out = inout(reg) places.out => _,
            from = out(reg) _,
            stride = in(reg) part.tile.out_stride * 4,
            tokens = const TOKENS,
            bits = const BITS,
            block = const BLOCK,
            high = const HIGH as u8,
            fill = const (PANEL == FILL) as u8,
            read = const (PANEL == READ) as u8,
            offset = const OFFSET as u8,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _,
            out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _,
            out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _,
            out("v28") _, out("v29") _, out("v30") _, out("v31") _,
            options(nostack),
        );
    }
}
