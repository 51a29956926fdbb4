//! The tokenizer of a plan, out of the image and without a heap: text to token ids and back.
//!
//! A text is cut at special tokens; what is between them is byte-level byte-pair encoding (`pairs`), whole or in the pieces
//! of one of the known patterns (`cut`), or WordPiece (`words`). Tables of characters (`characters`) say what the patterns see.

mod characters;
mod cut;
mod pairs;
mod section;
mod words;

pub use characters::{CLASS_BYTES, CharacterClass, EXPANSION_BYTES, RULE_BYTES};
pub use cut::Cut;
pub use section::{Scheme, TOKENIZER_HEADER_BYTES, TokenizerCounts};

use super::header::Table;
use super::record::Reader;
use super::{Part, PlanError};
use crate::Feature;
use characters::Characters;
use cut::first;
use pairs::Run;
use words::Spelling;

/// Bytes of a merge: right id, left id, rank, id of the two together, 16 bits each.
pub const MERGE_BYTES: usize = 8;
/// Tokens that bytes have, in the order of the bytes, 16 bits each.
const BYTE_TOKENS: usize = 256;
/// Stands for the token of a byte that has none.
const NO_BYTE: u32 = 0xFFFF;

/// Words of working memory for each byte of the longest text: the text itself, and two for each symbol.
pub const WORDS_PER_BYTE: usize = 3;

/// What stands where no merge is.
const NONE: u32 = u32::MAX;

/// The tokenizer of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'p> {
    scheme: Scheme,
    ends: &'p [u8],
    merges: &'p [u8],
    bytes: &'p [u8],
    sorted: &'p [u8],
    characters: Characters<'p>,
    added: &'p [u8],
    before: &'p [u8],
    after: &'p [u8],
    prefix: &'p str,
    suffix: &'p str,
    pieces: &'p [u8],
}

impl<'p> Tokenizer<'p> {
    /// The tokenizer of a section by itself, for a model that knows `vocabulary` tokens.
    ///
    /// # Errors
    /// [`PlanError::Part`] for one that contradicts itself.
    pub fn of_section(section: &'p [u8], vocabulary: u32) -> Result<Tokenizer<'p>, PlanError> {
        let count = u32::try_from(section.len()).map_err(|_| REFUSED)?;
        Tokenizer::check(section, Table { at: 0, count }, vocabulary)
    }

    /// Reads a section and checks it: counts, the order of merges and rules, and that every id is below `vocabulary`.
    pub(super) fn check(
        image: &'p [u8],
        table: Table,
        vocabulary: u32,
    ) -> Result<Tokenizer<'p>, PlanError> {
        let tokenizer = Tokenizer::read(image, table).ok_or(REFUSED)?;
        let ids = [tokenizer.added, tokenizer.before, tokenizer.after];
        let mut ids = ids.into_iter().flat_map(words);
        let ends = || words(tokenizer.ends);
        let ascending = ends().zip(ends().skip(1)).all(|(a, b)| a <= b);
        let within = ends().all(|end| end as usize <= tokenizer.pieces.len());
        let merges = || {
            tokenizer
                .merges
                .as_chunks::<MERGE_BYTES>()
                .0
                .iter()
                .map(merge)
        };
        let sorted = merges().zip(merges().skip(1)).all(|((a, _), (b, _))| a < b);
        let known = merges().all(|(_, merged)| merged & 0xFFFF < vocabulary && merged != NONE);
        let listed = |ids: &'p [u8]| ids.as_chunks::<2>().0.iter().map(id_at);
        let mut bytes = listed(tokenizer.bytes);
        let unknown = match tokenizer.scheme {
            Scheme::BytePairs { .. } => 0,
            Scheme::WordPiece { unknown, .. } => unknown,
        };
        let holds = ids.all(|id| id < vocabulary)
            && unknown < vocabulary
            && ascending
            && within
            && sorted
            && known
            && bytes.all(|id| id < vocabulary || id == NO_BYTE)
            && listed(tokenizer.sorted).all(|id| id < vocabulary)
            && (!Feature::Words.is_built() || tokenizer.is_sorted())
            && tokenizer.characters.holds();
        match holds {
            true => Ok(tokenizer),
            false => Err(REFUSED),
        }
    }

    /// The parts of a section; `None` when they don't fill it.
    pub(super) fn read(image: &'p [u8], table: Table) -> Option<Tokenizer<'p>> {
        let section = image.get(table.range(1)?)?;
        let counts = TokenizerCounts::decode(section)?;
        let byte_tokens = match counts.scheme {
            Scheme::BytePairs { .. } => BYTE_TOKENS,
            Scheme::WordPiece { .. } => 0,
        };
        let mut rest = section.get(TOKENIZER_HEADER_BYTES..)?;
        let mut part = |count: u32, size: usize| {
            let bytes = usize::try_from(count).ok()?.checked_mul(size)?;
            let (first, others) = rest.split_at_checked(bytes)?;
            rest = others;
            Some(first)
        };
        Some(Tokenizer {
            scheme: counts.scheme,
            ends: part(counts.tokens, 4)?,
            merges: part(counts.merges, MERGE_BYTES)?,
            bytes: part(2, byte_tokens)?,
            sorted: part(counts.sorted, 2)?,
            characters: Characters {
                rules: part(counts.rules, RULE_BYTES)?,
                expansions: part(counts.expansions, EXPANSION_BYTES)?,
                classes: part(counts.classes, CLASS_BYTES)?,
            },
            added: part(counts.added, 4)?,
            before: part(counts.before, 4)?,
            after: part(counts.after, 4)?,
            prefix: core::str::from_utf8(part(counts.prefix, 1)?).ok()?,
            suffix: core::str::from_utf8(part(counts.suffix, 1)?).ok()?,
            pieces: part(counts.pieces, 1)?,
        })
    }

    /// The bytes that a token stands for; nothing for one past the vocabulary. They may end in the middle of a character:
    /// see [`Utf8Assembler`](crate::utf8::Utf8Assembler).
    pub fn piece(&self, token: u32) -> &'p [u8] {
        let end = |index: u32| word(self.ends, index).map(|end| end as usize);
        let start = match token.checked_sub(1) {
            None => Some(0),
            Some(before) => end(before),
        };
        let range = start.zip(end(token)).map(|(start, end)| start..end);
        range
            .and_then(|range| self.pieces.get(range))
            .unwrap_or_default()
    }

    /// Whether a token is a marker rather than text.
    pub fn is_special(&self, token: u32) -> bool {
        words(self.added).any(|added| added == token)
    }

    /// Turns a prompt into tokens, with what the model wants around it. `work` is working memory:
    /// [`WORDS_PER_BYTE`] for each byte of the prompt and what goes around it. `take` gets each token.
    ///
    /// # Errors
    /// [`PlanError::ContextFull`] for a text that is too long for `work`; what `take` refuses.
    pub fn encode(
        &self,
        prompt: &str,
        work: &mut [u32],
        mut take: impl FnMut(u32) -> Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        words(self.before).try_for_each(&mut take)?;
        let symbols = work.len() / WORDS_PER_BYTE;
        let (text, work) = work
            .split_at_mut_checked(symbols)
            .ok_or(PlanError::ContextFull)?;
        let (ids, ranks) = work
            .split_at_mut_checked(symbols)
            .ok_or(PlanError::ContextFull)?;
        let text = bytes_mut(text);
        let mut len = 0;
        let all = [self.prefix, prompt, self.suffix];
        for byte in all.into_iter().flat_map(str::bytes) {
            *text.get_mut(len).ok_or(PlanError::ContextFull)? = byte;
            len += 1;
        }
        let text: &[u8] = text.get(..len).unwrap_or_default();
        let (mut start, mut at) = (0, 0);
        while at < len {
            let Some((token, length)) = self.spelled_out(text.get(at..).unwrap_or_default()) else {
                at += 1;
                continue;
            };
            self.between(
                text.get(start..at).unwrap_or_default(),
                ids,
                ranks,
                &mut take,
            )?;
            take(token)?;
            at += length;
            start = at;
        }
        self.between(text.get(start..).unwrap_or_default(), ids, ranks, &mut take)?;
        words(self.after).try_for_each(&mut take)
    }

    /// Whether it cuts a text into words before it looks at their bytes.
    pub(super) fn cuts(&self) -> bool {
        let whole = Scheme::BytePairs {
            cut: Cut::Whole,
            digits: false,
        };
        self.scheme != whole
    }

    /// Encodes text between special tokens.
    fn between(
        &self,
        text: &[u8],
        ids: &mut [u32],
        ranks: &mut [u32],
        take: &mut impl FnMut(u32) -> Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        // Pieces of text are cut where special tokens begin and end, at whole characters.
        let text = core::str::from_utf8(text).map_err(|_| REFUSED)?;
        match self.scheme {
            // Refused by the check.
            _ if self.cuts() && !Feature::Words.is_built() => Err(REFUSED),
            Scheme::WordPiece { .. } | Scheme::BytePairs { .. } if !Feature::Words.is_built() => {
                Run::new(self, ids, ranks).encode(text, take)
            }
            Scheme::WordPiece {
                unknown,
                longest_word,
            } => {
                let spelling = Spelling {
                    unknown,
                    longest_word,
                };
                self.words(text, &spelling, bytes_mut(ids), ranks, take)
            }
            Scheme::BytePairs { cut, digits } => {
                let mut run = Run::new(self, ids, ranks);
                if !self.cuts() {
                    return run.encode(text, take);
                }
                let mut rest = text;
                while let Some((piece, after)) = first(cut, digits, &self.characters, rest) {
                    run.encode(piece, take)?;
                    rest = after;
                }
                Ok(())
            }
        }
    }

    /// The longest special token that `text` begins with, and its length.
    fn spelled_out(&self, text: &[u8]) -> Option<(u32, usize)> {
        let matching = words(self.added).filter_map(|token| {
            let piece = self.piece(token);
            (!piece.is_empty() && text.starts_with(piece)).then_some((token, piece.len()))
        });
        matching.max_by_key(|&(_, length)| length)
    }

    /// `rank << 16 | merged id` of two neighbours, or [`NONE`].
    fn merged(&self, left: u32, right: u32) -> u32 {
        let key = left << 16 | right & 0xFFFF;
        let merges = self.merges.as_chunks::<MERGE_BYTES>().0;
        match merges.binary_search_by_key(&key, |record| merge(record).0) {
            Ok(found) => merges.get(found).map_or(NONE, |record| merge(record).1),
            Err(_) => NONE,
        }
    }

    fn byte_token(&self, byte: u8) -> u32 {
        let at = usize::from(byte) * 2;
        let id = self.bytes.get(at..).and_then(|at| at.first_chunk());
        id.map_or(NO_BYTE, id_at)
    }
}

const REFUSED: PlanError = PlanError::Part(Part::Tokenizer);

/// The key of a merge, and `rank << 16 | merged id`.
fn merge(record: &[u8; MERGE_BYTES]) -> (u32, u32) {
    let mut reader = Reader::new(record);
    let key = reader.u32();
    let (rank, merged) = (u32::from(reader.u16()), u32::from(reader.u16()));
    (key, rank << 16 | merged)
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word))
}

fn word(bytes: &[u8], index: u32) -> Option<u32> {
    let words = bytes.as_chunks::<4>().0;
    words
        .get(index as usize)
        .map(|word| u32::from_le_bytes(*word))
}

fn id_at(bytes: &[u8; 2]) -> u32 {
    u32::from(u16::from_le_bytes(*bytes))
}

/// Words as bytes.
fn bytes_mut(words: &mut [u32]) -> &mut [u8] {
    // SAFETY: any bytes are a u32, a u32 is bytes, and bytes may lie anywhere.
    match unsafe { words.align_to_mut::<u8>() } {
        ([], bytes, []) => bytes,
        _ => &mut [],
    }
}
