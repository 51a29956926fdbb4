//! Four rows of unpacked weights, kept for the tokens that follow: unpacking costs as much as a token or two.
//!
//! Where there are several groups of tokens, the first leaves its weights in a panel on its way, and the others read it.

use core::mem::MaybeUninit;

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
pub(super) static ONES: [f32; 4] = [1.0; 4];

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

impl Part<'_> {
    /// Whether results are complete after it.
    pub(super) fn is_last(&self) -> bool {
        self.first_block + self.blocks == self.tile.shape.blocks
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
