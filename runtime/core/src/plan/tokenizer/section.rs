//! The head of a tokenizer's section: how it encodes, and how much there is of each of its tables.

use super::Cut;
use crate::plan::record::{Reader, Writer};

/// Bytes of the tokenizer's own header.
pub const TOKENIZER_HEADER_BYTES: usize = 64;

/// How a text becomes tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Scheme {
    /// Byte-level byte-pair encoding.
    BytePairs {
        /// How the text is cut first.
        cut: Cut,
        /// Whether digits are cut off one by one before that.
        digits: bool,
    },
    /// Words in the longest tokens that fit.
    WordPiece {
        /// Stands for a word that can't be spelled.
        unknown: u32,
        /// Characters of the longest word that is spelled at all.
        longest_word: u32,
    },
}

impl Scheme {
    /// Kind, cut, and the two numbers of the second kind.
    fn encode(self) -> [u32; 4] {
        match self {
            Scheme::BytePairs { cut, digits } => [0, cut.code() | u32::from(digits) << 8, 0, 0],
            Scheme::WordPiece {
                unknown,
                longest_word,
            } => [1, 0, unknown, longest_word],
        }
    }

    fn decode([kind, cut, unknown, longest_word]: [u32; 4]) -> Option<Scheme> {
        match kind {
            0 => Some(Scheme::BytePairs {
                cut: Cut::of(cut & 0xFF)?,
                digits: cut >> 8 == 1,
            }),
            1 => Some(Scheme::WordPiece {
                unknown,
                longest_word,
            }),
            _ => None,
        }
    }
}

/// How many there are of what a tokenizer's section holds, in the order in which it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TokenizerCounts {
    /// How a text becomes tokens.
    pub scheme: Scheme,
    /// Tokens: where the bytes of each end, as u32.
    pub tokens: u32,
    /// Merges of byte-pair encoding, in the order of `left id << 16 | right id`; the tokens of bytes follow them.
    pub merges: u32,
    /// WordPiece: tokens in the order of their bytes, as u16.
    pub sorted: u32,
    /// Runs of characters that become other ones, in order.
    pub rules: u32,
    /// Characters that become several or none, in order.
    pub expansions: u32,
    /// Where a class of characters begins, in order.
    pub classes: u32,
    /// Special tokens that count as such when a text spells them out, as u32.
    pub added: u32,
    /// Tokens before every text, as u32.
    pub before: u32,
    /// Tokens after every text, as u32.
    pub after: u32,
    /// Bytes of text before every prompt.
    pub prefix: u32,
    /// Bytes of text after every prompt.
    pub suffix: u32,
    /// Bytes of all tokens.
    pub pieces: u32,
}

impl TokenizerCounts {
    /// The header of the section.
    pub fn encode(&self) -> [u8; TOKENIZER_HEADER_BYTES] {
        let writer = self
            .scheme
            .encode()
            .into_iter()
            .fold(Writer::new(), Writer::u32);
        let counts = [
            self.tokens,
            self.merges,
            self.sorted,
            self.rules,
            self.expansions,
            self.classes,
            self.added,
            self.before,
            self.after,
            self.prefix,
            self.suffix,
            self.pieces,
        ];
        counts.into_iter().fold(writer, Writer::u32).finish()
    }

    pub(super) fn decode(section: &[u8]) -> Option<TokenizerCounts> {
        let mut reader = Reader::new(section);
        let scheme = Scheme::decode([(); 4].map(|()| reader.u32()))?;
        let mut next = || reader.u32();
        Some(TokenizerCounts {
            scheme,
            tokens: next(),
            merges: next(),
            sorted: next(),
            rules: next(),
            expansions: next(),
            classes: next(),
            added: next(),
            before: next(),
            after: next(),
            prefix: next(),
            suffix: next(),
            pieces: next(),
        })
    }
}
