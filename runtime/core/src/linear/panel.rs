//! Four rows of unpacked weights, kept for the tokens that follow: unpacking costs as much as a token or two.
//!
//! Where there are several groups of tokens, the first leaves its weights in a panel on its way, and the others read it.

use core::mem::MaybeUninit;

use super::dotprod::{codes_at, part_bytes};
use super::kernel::Tile;

/// Blocks of a panel: its four rows take 9 KiB at most, so that a level-1 cache has room for activations too.
pub(super) const PANEL_BLOCKS: usize = 48;

/// Most bytes of a block of a panel: codes of four rows × 32 columns, then scales and offsets, each of the rows' twice or once.
/// Smaller blocks and those without offsets lie closer together.
const PANEL_BLOCK_BYTES: usize = 128 + 64;

/// What a group of tokens does with the panel: unpack weights without it, fill it on the way, or read what it was filled with.
pub(super) const NONE: u8 = 0;
pub(super) const FILL: u8 = 1;
pub(super) const READ: u8 = 2;

/// Multipliers that change nothing: for results that aren't complete.
static ONES: [f32; 4] = [1.0; 4];

/// Four rows of unpacked weights.
#[repr(align(64))]
pub(super) struct Panel([MaybeUninit<u8>; PANEL_BLOCKS * PANEL_BLOCK_BYTES]);

impl Panel {
    pub(super) const fn new() -> Panel {
        Panel([MaybeUninit::uninit(); PANEL_BLOCKS * PANEL_BLOCK_BYTES])
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// Some blocks of a tile.
pub(super) struct Part<'a> {
    pub tile: &'a Tile<'a>,
    pub first_block: usize,
    pub blocks: usize,
}

/// Where things lie that four rows of a part are multiplied from and to.
pub(super) struct Places {
    pub activations: *const u8,
    pub codes: *const u8,
    pub params: *const u8,
    pub multipliers: *const f32,
    pub out: *mut f32,
}

impl Part<'_> {
    /// The places of a group of rows by a group of `tokens` tokens, from token `first` on, with records of so many bytes.
    ///
    /// # Safety
    /// The groups are there.
    #[inline(always)]
    pub(super) unsafe fn places<const BITS: u8, const BLOCK: usize, const OFFSET: bool>(
        &self,
        group: usize,
        first: usize,
        tokens: usize,
        record: usize,
    ) -> Places {
        let (tile, shape) = (self.tile, self.tile.shape);
        let activations = (first * shape.blocks + self.first_block * tokens) * record;
        let codes = self.first_block * part_bytes(BITS, BLOCK) + codes_at(BITS, BLOCK, group);
        let params = self.first_block * shape.params_bytes + group * if OFFSET { 16 } else { 8 };
        let is_last = self.first_block + self.blocks == shape.blocks;
        // SAFETY: all are within the activations, the tile and the output, by the shape.
        unsafe {
            let multipliers = tile.weights.add(shape.multipliers_at + group * 16);
            Places {
                activations: tile.activations.add(activations),
                codes: tile.weights.add(codes),
                params: tile.weights.add(shape.params_at + params),
                // Results that aren't complete stay as they are.
                multipliers: if is_last {
                    multipliers.cast()
                } else {
                    ONES.as_ptr()
                },
                out: tile.out.add(first * tile.out_stride + group * 4),
            }
        }
    }
}

/// Defines `many_tokens<BITS, BLOCK, OFFSET>`, a tile by all groups of several tokens, from `$some_tokens`, four rows of a part by
/// a group of them: `<BITS, BLOCK, OFFSET, HIGH, TOKENS, PANEL>`, `HIGH` where the rows' 4-bit codes are the high ones of their bytes.
macro_rules! many_tokens {
    (features: $features:literal, $some_tokens:ident, tokens: [$($tokens:literal),+]) => {
        /// All groups of several tokens.
        ///
        /// # Safety
        /// See [`TileFn`](crate::linear::kernel::TileFn); the tokens are some such groups, blocks have one part.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn many_tokens<const BITS: u8, const BLOCK: usize, const OFFSET: bool>(tile: &Tile<'_>) {
            use $crate::linear::panel::{PANEL_BLOCKS, Panel, Part};
            // A copy stays in registers: for all the compiler knows, the assembler changes what lies in memory.
            let shape = *tile.shape;
            let tile = &Tile { shape: &shape, ..*tile };
            let mut panel = Panel::new();
            let panel = panel.as_mut_ptr();
            for group in 0..4 {
                for first_block in (0..shape.blocks).step_by(PANEL_BLOCKS) {
                    let blocks = PANEL_BLOCKS.min(shape.blocks - first_block);
                    let part = Part { tile, first_block, blocks };
                    // SAFETY: the caller's promise; the part is within the tile and no larger than a panel.
                    unsafe {
                        if BITS == 4 && group % 2 == 1 {
                            token_groups::<BITS, BLOCK, OFFSET, true>(&part, group, panel);
                        } else {
                            token_groups::<BITS, BLOCK, OFFSET, false>(&part, group, panel);
                        }
                    }
                }
            }
        }

        /// Four rows of a part by all groups of tokens.
        ///
        /// # Safety
        /// As [`many_tokens`]; `panel` has room for the part.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn token_groups<const BITS: u8, const BLOCK: usize, const OFFSET: bool, const HIGH: bool>(
            part: &Part<'_>,
            group: usize,
            panel: *mut u8,
        ) {
            use $crate::linear::panel::{FILL, NONE, READ};
            let mut first = 0;
            while first < part.tile.tokens {
                let left = part.tile.tokens - first;
                $(
                    if left >= $tokens {
                        // SAFETY: the caller's promise; as many tokens are left, and the first of several groups fills the panel.
                        unsafe {
                            if first > 0 {
                                $some_tokens::<BITS, BLOCK, OFFSET, HIGH, $tokens, READ>(part, group, first, panel);
                            } else if left > $tokens {
                                $some_tokens::<BITS, BLOCK, OFFSET, HIGH, $tokens, FILL>(part, group, 0, panel);
                            } else {
                                $some_tokens::<BITS, BLOCK, OFFSET, HIGH, $tokens, NONE>(part, group, 0, panel);
                            }
                        }
                        first += $tokens;
                        continue;
                    }
                )+
                return;
            }
        }
    };
}

pub(super) use many_tokens;
