//! Byte-level byte-pair encoding out of the image, without a heap: text to token ids and back.
//!
//! R. Sennrich and others, «Neural Machine Translation of Rare Words with Subword Units», 2016, arXiv 1508.07909; over
//! bytes as GPT-2 has it. The pair with the lowest rank is merged first, the leftmost of equals, until none is left.
//! The text is one run between special tokens; tokenizers that cut it by a regular expression are not in plans.

use super::header::Table;
use super::record::{Reader, Writer};
use super::{NO_TOKEN, Part, PlanError};
use core::ops::Range;

/// Bytes of the tokenizer's own header.
pub const TOKENIZER_HEADER_BYTES: usize = 48;
/// Bytes of a merge: right id, left id, rank, id of the two together, 16 bits each.
pub const MERGE_BYTES: usize = 8;
/// Bytes of a run of lower-case rules: first and last character, step, and what is added to a character.
pub const LOWER_BYTES: usize = 16;

/// Words of working memory for each byte of the longest text: the text itself, and two for each symbol.
pub const WORDS_PER_BYTE: usize = 3;

/// What stands where no merge is.
const NONE: u32 = u32::MAX;

/// How many there are of what a tokenizer's section holds, in the order in which it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TokenizerCounts {
    /// Tokens: where the bytes of each end, as u32.
    pub tokens: u32,
    /// Merges, in the order of `left id << 16 | right id`.
    pub merges: u32,
    /// Runs of characters that are made lower-case, in order.
    pub lower: u32,
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
        let writer = self.all().into_iter().fold(Writer::new(), Writer::u32);
        writer.finish()
    }

    fn all(&self) -> [u32; 9] {
        [
            self.tokens,
            self.merges,
            self.lower,
            self.added,
            self.before,
            self.after,
            self.prefix,
            self.suffix,
            self.pieces,
        ]
    }

    fn decode(section: &[u8]) -> TokenizerCounts {
        let mut reader = Reader::new(section);
        let [
            tokens,
            merges,
            lower,
            added,
            before,
            after,
            prefix,
            suffix,
            pieces,
        ] = [(); 9].map(|()| reader.u32());
        TokenizerCounts {
            tokens,
            merges,
            lower,
            added,
            before,
            after,
            prefix,
            suffix,
            pieces,
        }
    }
}

/// The tokenizer of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Tokenizer<'p> {
    ends: &'p [u8],
    merges: &'p [u8],
    bytes: &'p [u8],
    lower: &'p [u8],
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
        let tokens = tokenizer.bytes.as_chunks::<2>().0.iter();
        let mut tokens = tokens.map(|id| u32::from(u16::from_le_bytes(*id)));
        let lower = || {
            tokenizer
                .lower
                .as_chunks::<LOWER_BYTES>()
                .0
                .iter()
                .map(rule)
        };
        let apart = lower().zip(lower().skip(1)).all(|(a, b)| a.last < b.first);
        let holds = ids.all(|id| id < vocabulary)
            && ascending
            && within
            && sorted
            && known
            && tokens.all(|id| id < vocabulary)
            && apart
            && lower().all(|rule| rule.first <= rule.last && rule.step > 0);
        match holds {
            true => Ok(tokenizer),
            false => Err(REFUSED),
        }
    }

    /// The parts of a section; `None` when they don't fill it.
    pub(super) fn read(image: &'p [u8], table: Table) -> Option<Tokenizer<'p>> {
        let section = image.get(table.range(1)?)?;
        let counts = TokenizerCounts::decode(section);
        let mut rest = section.get(TOKENIZER_HEADER_BYTES..)?;
        let mut part = |count: u32, size: usize| {
            let bytes = usize::try_from(count).ok()?.checked_mul(size)?;
            let (first, others) = rest.split_at_checked(bytes)?;
            rest = others;
            Some(first)
        };
        Some(Tokenizer {
            ends: part(counts.tokens, 4)?,
            merges: part(counts.merges, MERGE_BYTES)?,
            bytes: part(256, 2)?,
            lower: part(counts.lower, LOWER_BYTES)?,
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
        let mut run = Run {
            tokenizer: self,
            ids,
            ranks,
            len: 0,
        };
        let (mut start, mut at) = (0, 0);
        while at < len {
            let Some((token, length)) = self.spelled_out(text.get(at..).unwrap_or_default()) else {
                at += 1;
                continue;
            };
            run.encode(text.get(start..at).unwrap_or_default(), &mut take)?;
            take(token)?;
            at += length;
            start = at;
        }
        run.encode(text.get(start..).unwrap_or_default(), &mut take)?;
        words(self.after).try_for_each(&mut take)
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
        id.map_or(NO_TOKEN, |id| u32::from(u16::from_le_bytes(*id)))
    }

    /// A character in lower case, which may be two characters.
    fn lower_case(&self, character: u32) -> [Option<u32>; 2] {
        let rules = self.lower.as_chunks::<LOWER_BYTES>().0;
        let after = rules.partition_point(|record| rule(record).last < character);
        let found = rules.get(after).map(rule);
        let found = found.filter(|rule| {
            let from = character.checked_sub(rule.first);
            from.and_then(|from| from.checked_rem(rule.step)) == Some(0)
        });
        match found {
            None => [Some(character), None],
            // The one character whose lower case is two: İ is an i and a dot above.
            Some(_) if character == 0x130 => [Some(0x69), Some(0x307)],
            Some(rule) => [Some(character.wrapping_add(rule.add)), None],
        }
    }
}

const REFUSED: PlanError = PlanError::Part(Part::Tokenizer);

/// A run of characters, every `step`-th of which gets `add` added to become lower-case.
struct Rule {
    first: u32,
    last: u32,
    step: u32,
    add: u32,
}

fn rule(record: &[u8; LOWER_BYTES]) -> Rule {
    let mut reader = Reader::new(record);
    let [first, last, step, add] = [(); 4].map(|()| reader.u32());
    Rule {
        first,
        last,
        step,
        add,
    }
}

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

/// Words as bytes.
fn bytes_mut(words: &mut [u32]) -> &mut [u8] {
    // SAFETY: any bytes are a u32, a u32 is bytes, and bytes may lie anywhere.
    match unsafe { words.align_to_mut::<u8>() } {
        ([], bytes, []) => bytes,
        _ => &mut [],
    }
}

/// Symbols of a run of text while they are merged.
struct Run<'r, 'p> {
    tokenizer: &'r Tokenizer<'p>,
    /// Token ids.
    ids: &'r mut [u32],
    /// What [`Tokenizer::merged`] says of each symbol and the next one.
    ranks: &'r mut [u32],
    len: usize,
}

impl Run<'_, '_> {
    /// Encodes text without special tokens in it.
    fn encode(
        &mut self,
        text: &[u8],
        take: &mut impl FnMut(u32) -> Result<(), PlanError>,
    ) -> Result<(), PlanError> {
        self.len = 0;
        // Pieces of text are cut where special tokens begin and end, at whole characters.
        let text = core::str::from_utf8(text).map_err(|_| REFUSED)?;
        for character in text.chars() {
            if self.tokenizer.lower.is_empty() {
                self.push(u32::from(character))?;
                continue;
            }
            let lower = self.tokenizer.lower_case(u32::from(character));
            lower
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
            let place = self.ids.get_mut(self.len).ok_or(PlanError::ContextFull)?;
            *place = self.tokenizer.byte_token(byte);
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
fn utf8(character: u32) -> ([u8; 4], usize) {
    let low = |shift: u32| (character >> shift & 0x3F) as u8 | 0x80;
    let high = |shift: u32, mark: u8| (character >> shift) as u8 | mark;
    match character {
        0..0x80 => ([character as u8, 0, 0, 0], 1),
        0x80..0x800 => ([high(6, 0xC0), low(0), 0, 0], 2),
        0x800..0x1_0000 => ([high(12, 0xE0), low(6), low(0), 0], 3),
        _ => ([high(18, 0xF0), low(12), low(6), low(0)], 4),
    }
}
