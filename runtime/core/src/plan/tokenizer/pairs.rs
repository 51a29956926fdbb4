//! Byte-pair encoding of one piece of text.
//!
//! R. Sennrich and others, «Neural Machine Translation of Rare Words with Subword Units», 2016, arXiv 1508.07909; over
//! bytes as GPT-2 has it. The pair with the lowest rank is merged first, the leftmost of equals, until none is left.

use super::{NO_BYTE, NONE, Tokenizer};
use crate::plan::PlanError;
use core::ops::Range;

/// Symbols of a run of text while they are merged.
pub(super) struct Run<'r, 'p> {
    tokenizer: &'r Tokenizer<'p>,
    /// Token ids.
    ids: &'r mut [u32],
    /// What [`Tokenizer::merged`] says of each symbol and the next one.
    ranks: &'r mut [u32],
    len: usize,
}

impl<'r, 'p> Run<'r, 'p> {
    /// An empty run with room for so many symbols.
    pub(super) fn new(
        tokenizer: &'r Tokenizer<'p>,
        ids: &'r mut [u32],
        ranks: &'r mut [u32],
    ) -> Run<'r, 'p> {
        Run {
            tokenizer,
            ids,
            ranks,
            len: 0,
        }
    }

    /// Encodes a piece of text without special tokens in it.
    pub(super) fn encode(
        &mut self,
        text: &str,
        take: &mut impl FnMut(u32) -> Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        self.len = 0;
        let characters = &self.tokenizer.characters;
        for character in text.chars() {
            if !characters.fold_any() {
                self.push(u32::from(character))?;
                continue;
            }
            let folded = characters.fold(u32::from(character));
            folded
                .into_iter()
                .flatten()
                .try_for_each(|character| self.push(character))?;
        }
        for index in 0..self.len {
            self.rank(index);
        }
        while let Some((index, merged)) = self.lowest() {
            if let Some(id) = self.ids.get_mut(index) {
                *id = merged & 0xFFFF;
            }
            remove(self.ids, index + 1, self.len);
            remove(self.ranks, index + 1, self.len);
            self.len -= 1;
            self.rank(index);
            if let Some(before) = index.checked_sub(1) {
                self.rank(before);
            }
        }
        self.ids.iter().take(self.len).try_for_each(|&id| take(id))
    }

    /// Appends the bytes of a character.
    fn push(&mut self, character: u32) -> Result<(), PlanError> {
        let (bytes, count) = utf8(character);
        for &byte in bytes.iter().take(count) {
            let token = self.tokenizer.byte_token(byte);
            // A byte that the vocabulary doesn't know is left out.
            if token == NO_BYTE {
                continue;
            }
            *self.ids.get_mut(self.len).ok_or(PlanError::ContextFull)? = token;
            self.len += 1;
        }
        Ok(())
    }

    /// Looks up what a symbol and the next one become.
    fn rank(&mut self, index: usize) {
        let next = index + 1;
        let pair = match (self.ids.get(index), self.ids.get(next)) {
            (Some(&left), Some(&right)) if next < self.len => self.tokenizer.merged(left, right),
            _ => NONE,
        };
        if let Some(rank) = self.ranks.get_mut(index) {
            *rank = pair;
        }
    }

    /// The symbol that is merged with its next one first.
    fn lowest(&self) -> Option<(usize, u32)> {
        let ranks = self.ranks.iter().take(self.len).copied().enumerate();
        let lowest = ranks.min_by_key(|&(_, rank)| rank);
        lowest.filter(|&(_, rank)| rank != NONE)
    }
}

/// Takes one of the first `len` items out.
fn remove(items: &mut [u32], index: usize, len: usize) {
    let tail: Range<usize> = index..len;
    let Some(tail) = items.get_mut(tail) else {
        return;
    };
    let mut previous: Option<&mut u32> = None;
    for item in tail {
        if let Some(previous) = previous {
            *previous = *item;
        }
        previous = Some(item);
    }
}

/// The bytes of a character, and how many they are.
pub(super) fn utf8(character: u32) -> ([u8; 4], usize) {
    let low = |shift: u32| (character >> shift & 0x3F) as u8 | 0x80;
    let high = |shift: u32, mark: u8| (character >> shift) as u8 | mark;
    match character {
        0..0x80 => ([character as u8, 0, 0, 0], 1),
        0x80..0x800 => ([high(6, 0xC0), low(0), 0, 0], 2),
        0x800..0x1_0000 => ([high(12, 0xE0), low(6), low(0), 0], 3),
        _ => ([high(18, 0xF0), low(12), low(6), low(0)], 4),
    }
}
