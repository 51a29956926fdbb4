//! What an instruction set's file provides: tile functions, and the layouts they read.

use super::activations::{ActivationLayout, Order};
use super::layout::{Interleave, TileShape};

/// What a tile function works on: sixteen rows of weights, one group of tokens.
pub(crate) struct Tile<'a> {
    /// The packed tile.
    pub weights: *const u8,
    pub shape: &'a TileShape,
    /// The records of the group of tokens.
    pub activations: *const u8,
    /// Where the first token's sixteen results go.
    pub out: *mut f32,
    /// Values from one token's results to the next.
    pub out_stride: usize,
    /// How many tokens there are: those of a group, or of several groups where the kernel takes them together.
    pub tokens: usize,
    /// How many tiles to multiply, whose weights and results lie one behind the other: more than one only for one token, and
    /// where the kernel takes runs.
    #[cfg_attr(
        not(arm_dsp),
        allow(dead_code, reason = "only kernels of microcontrollers take runs")
    )]
    pub tiles: usize,
}

/// Multiplies one tile by one group of tokens.
///
/// # Safety
/// The pointers of the tile must be good for the shape and the number of tokens, and the CPU must have
/// the instruction set the function is written for.
pub(crate) type TileFn = unsafe fn(&Tile<'_>);

/// One kernel: everything that differs between formats and instruction sets.
pub(crate) struct Implementation {
    pub name: &'static str,
    pub interleave: Interleave,
    pub activations: ActivationLayout,
    /// One function for each of the activations' groups of tokens.
    pub tile_functions: &'static [TileFn],
    /// Multiplies a tile by all groups of [`TOGETHER`] tokens and more, one behind the other, to unpack its weights but once.
    pub all_groups: Option<TileFn>,
    /// Whether the function for one token takes several tiles at once, to spare calls where a tile is a few hundred instructions.
    pub takes_runs: bool,
}

/// Groups of tokens that most kernels take, dense ones on every instruction set.
pub(crate) const TOKEN_GROUPS: &[usize] = &[8, 4, 2, 1];

/// Groups that a kernel takes together are multiples of so many tokens; smaller ones follow.
pub(crate) const TOGETHER: usize = 4;

impl Implementation {
    /// A dense kernel: on all instruction sets the columns lie in order, sixteen rows side by side.
    pub(crate) const fn dense(
        name: &'static str,
        tile_functions: &'static [TileFn],
    ) -> Implementation {
        Implementation {
            name,
            interleave: Interleave::DENSE,
            activations: ActivationLayout::new(Order::Float, 1, TOKEN_GROUPS),
            tile_functions,
            all_groups: None,
            takes_runs: false,
        }
    }
}

/// Defines `implementation(format)` from an instruction set's tile functions,
/// `block_tile<BITS, BLOCK, OFFSET, TOKENS>` and `dense_tile<BYTES, TOKENS>`. Block tiles take groups of 8, 4, 2 and
/// 1 tokens, or those that are named; `all_groups` names a constant
/// function `<BITS, BLOCK, OFFSET>` that gives [`Implementation::all_groups`].
macro_rules! implementations {
    (quantised: $isa:literal, dense: $dense:literal, $interleave:expr, $order:expr $(,)?) => {
        $crate::linear::kernel::implementations! {
            quantised: $isa, dense: $dense, $interleave, $order, tokens: [8, 4, 2, 1]
        }
    };
    (quantised: $isa:literal, dense: $dense:literal, $interleave:expr, $order:expr, tokens: [$($tokens:literal),+] $(,)?) => {
        $crate::linear::kernel::implementations! {
            quantised: $isa, dense: $dense, $interleave, $order, tokens: [$($tokens),+], takes_runs: false
        }
    };
    (
        quantised: $isa:literal, dense: $dense:literal, $interleave:expr, $order:expr, tokens: [$($tokens:literal),+],
        takes_runs: $takes_runs:literal $(, all_groups: $all_groups:ident)? $(,)?
    ) => {
        /// This instruction set's kernel for `format`.
        pub(super) fn implementation(
            format: $crate::WeightFormat,
        ) -> &'static $crate::linear::kernel::Implementation {
            use $crate::WeightFormat::{Block, F16, F32};
            // Other sizes of blocks were refused before.
            match format {
                Block { bits: 4, block: 16, offset: false } => const { &block::<4, 16, false>() },
                Block { bits: 4, block: 16, offset: true } => const { &block::<4, 16, true>() },
                Block { bits: 4, block: 64, offset: false } => const { &block::<4, 64, false>() },
                Block { bits: 4, block: 64, offset: true } => const { &block::<4, 64, true>() },
                Block { bits: 4, block: 128, offset: false } => const { &block::<4, 128, false>() },
                Block { bits: 4, block: 128, offset: true } => const { &block::<4, 128, true>() },
                Block { bits: 4, offset: false, .. } => const { &block::<4, 32, false>() },
                Block { bits: 4, offset: true, .. } => const { &block::<4, 32, true>() },
                Block { block: 16, offset: false, .. } => const { &block::<8, 16, false>() },
                Block { block: 16, offset: true, .. } => const { &block::<8, 16, true>() },
                Block { block: 64, offset: false, .. } => const { &block::<8, 64, false>() },
                Block { block: 64, offset: true, .. } => const { &block::<8, 64, true>() },
                Block { block: 128, offset: false, .. } => const { &block::<8, 128, false>() },
                Block { block: 128, offset: true, .. } => const { &block::<8, 128, true>() },
                Block { offset: false, .. } => const { &block::<8, 32, false>() },
                Block { offset: true, .. } => const { &block::<8, 32, true>() },
                F16 => const { &dense::<2>(concat!("f16-", $dense)) },
                F32 => const { &dense::<4>(concat!("f32-", $dense)) },
            }
        }

        const fn block<const BITS: u8, const BLOCK: usize, const OFFSET: bool>()
        -> $crate::linear::kernel::Implementation {
            $crate::linear::kernel::Implementation {
                name: if BITS == 4 {
                    concat!("q4-", $isa)
                } else {
                    concat!("q8-", $isa)
                },
                interleave: $interleave,
                activations: $crate::linear::activations::ActivationLayout::new(
                    $order,
                    BLOCK,
                    &[$($tokens),+],
                ),
                tile_functions: if $crate::Feature::of_bits(BITS).is_built() {
                    &[$(block_tile::<BITS, BLOCK, OFFSET, $tokens>),+]
                } else {
                    &[]
                },
                all_groups: {
                    let mut _all: Option<$crate::linear::kernel::TileFn> = None;
                    $(
                        if $crate::Feature::of_bits(BITS).is_built() {
                            _all = $all_groups::<BITS, BLOCK, OFFSET>();
                        }
                    )?
                    _all
                },
                takes_runs: $takes_runs,
            }
        }

        const fn dense<const BYTES: usize>(
            name: &'static str,
        ) -> $crate::linear::kernel::Implementation {
            $crate::linear::kernel::Implementation::dense(
                name,
                if $crate::Feature::Dense.is_built() {
                    &[
                        dense_tile::<BYTES, 8>,
                        dense_tile::<BYTES, 4>,
                        dense_tile::<BYTES, 2>,
                        dense_tile::<BYTES, 1>,
                    ]
                } else {
                    &[]
                },
            )
        }
    };
}

pub(crate) use implementations;
