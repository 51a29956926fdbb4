//! WordPiece: each word is cut into the longest tokens that fit, from its start to its end.
//!
//! M. Schuster and K. Nakajima, «Japanese and Korean Voice Search», 2012; greedily, as BERT has it. Tokens that go on within a
//! word are spelled with `##` before them.

use super::characters::CharacterClass;
use super::pairs::utf8;
use super::{Tokenizer, id_at};
use crate::plan::PlanError;

/// What tokens begin with that do not begin a word.
const CONTINUES: &[u8] = b"##";

/// What a tokenizer says of words.
pub(super) struct Spelling {
    /// Stands for a word that can't be spelled.
    pub unknown: u32,
    /// Characters of the longest word that is spelled at all.
    pub longest_word: u32,
}

/// A word while its characters come.
struct Word<'w> {
    /// Room for its bytes.
    bytes: &'w mut [u8],
    len: usize,
    characters: u32,
}

impl Word<'_> {
    fn push(&mut self, character: u32) -> Result<(), PlanError> {
        let (bytes, count) = utf8(character);
        for &byte in bytes.iter().take(count) {
            *self.bytes.get_mut(self.len).ok_or(PlanError::ContextFull)? = byte;
            self.len += 1;
        }
        self.characters = self.characters.saturating_add(1);
        Ok(())
    }
}

impl Tokenizer<'_> {
    /// Encodes text without special tokens in it. `bytes` has room for the longest word, `ids` for its tokens.
    pub(super) fn words(
        &self,
        text: &str,
        spelling: &Spelling,
        bytes: &mut [u8],
        ids: &mut [u32],
        take: &mut impl FnMut(u32) -> Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        let mut word = Word {
            bytes,
            len: 0,
            characters: 0,
        };
        for character in text.chars() {
            let character = u32::from(character);
            let class = self.characters.class(character);
            if matches!(class, CharacterClass::Space | CharacterClass::Alone) {
                self.end_word(&mut word, spelling, ids, take)?;
            }
            if matches!(class, CharacterClass::Space | CharacterClass::Removed) {
                continue;
            }
            let folded = self.characters.fold(character);
            folded
                .into_iter()
                .flatten()
                .try_for_each(|c| word.push(c))?;
            if class == CharacterClass::Alone {
                self.end_word(&mut word, spelling, ids, take)?;
            }
        }
        self.end_word(&mut word, spelling, ids, take)
    }

    /// Gives the tokens of a word, or the one that stands for words that can't be spelled.
    fn end_word(
        &self,
        word: &mut Word<'_>,
        spelling: &Spelling,
        ids: &mut [u32],
        take: &mut impl FnMut(u32) -> Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        if word.characters == 0 {
            return Ok(());
        }
        let bytes = word.bytes.get(..word.len).unwrap_or_default();
        let long = word.characters > spelling.longest_word;
        let count = if long { None } else { self.spell(bytes, ids)? };
        (word.len, word.characters) = (0, 0);
        match count {
            Some(count) => ids.iter().take(count).try_for_each(|&id| take(id)),
            None => take(spelling.unknown),
        }
    }

    /// Writes the tokens of a word; says how many they are, if it can be spelled.
    fn spell(&self, word: &[u8], ids: &mut [u32]) -> Result<Option<usize>, PlanError> {
        let (mut start, mut count) = (0, 0);
        while let Some(rest) = word.get(start..).filter(|rest| !rest.is_empty()) {
            let lead: &[u8] = if start == 0 { &[] } else { CONTINUES };
            let whole = |end: &usize| rest.get(*end).is_none_or(|&byte| byte & 0xC0 != 0x80);
            let mut ends = (1..=rest.len()).rev().filter(whole);
            let longest = ends.find_map(|end| {
                let id = self.listed(lead, rest.get(..end)?)?;
                Some((id, end))
            });
            let Some((id, end)) = longest else {
                return Ok(None);
            };
            *ids.get_mut(count).ok_or(PlanError::ContextFull)? = id;
            count += 1;
            start = start.saturating_add(end);
        }
        Ok(Some(count))
    }

    /// The token that is spelled as `lead` and then `rest`.
    fn listed(&self, lead: &[u8], rest: &[u8]) -> Option<u32> {
        let ids = self.sorted.as_chunks::<2>().0;
        let place = ids.binary_search_by(|id| {
            let piece = self.piece(id_at(id)).iter();
            piece.cmp(lead.iter().chain(rest))
        });
        ids.get(place.ok()?).map(id_at)
    }

    /// Whether the list of tokens is in the order of their spelling.
    pub(super) fn is_sorted(&self) -> bool {
        let ids = self.sorted.as_chunks::<2>().0;
        let pieces = || ids.iter().map(|id| self.piece(id_at(id)));
        pieces().zip(pieces().skip(1)).all(|(a, b)| a < b)
    }
}
