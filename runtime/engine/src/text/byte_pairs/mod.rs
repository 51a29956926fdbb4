//! Byte-pair encoding in a third of the memory that the `tokenizers` crate's own model takes: tokens lie in one string instead of two
//! hash tables of strings. It takes the crate's model's place under the crate's tokenizer, which does everything around it.
//!
//! R. Sennrich and others, «Neural Machine Translation of Rare Words with Subword Units», 2016, arXiv 1508.07909. It knows what
//! byte-level vocabularies have (GPT-2, Llama 3, Qwen2, SmolLM2): no token for what is unknown, no marks within or at the end of
//! words, ids without gaps. Files of other kinds are refused, and left to the crate.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::path::{Path, PathBuf};

use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{Model, Token};

mod read;
#[cfg(test)]
mod tests;

/// Marks a free place of [`Vocabulary::places`]: no id, because a file has fewer bytes than that.
const FREE: u32 = u32::MAX;

/// The model of a tokenizer: a vocabulary, and which two tokens make which.
#[derive(Debug)]
pub(super) struct BytePairs {
    vocabulary: Vocabulary,
    /// The rank of a merge, the lowest being first, and what it makes.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// Whether a piece of text that is a token is not put together from smaller ones.
    ignore_merges: bool,
}

/// All tokens, by id and by spelling.
#[derive(Debug, Default)]
struct Vocabulary {
    /// Their spellings, one after the other in the order of their ids.
    spellings: String,
    /// Where each ends.
    ends: Vec<u32>,
    /// Ids by the hashes of spellings, in the next free place where two want the same; a power of two of them, half of them free.
    places: Vec<u32>,
    hasher: RandomState,
}

impl Vocabulary {
    /// Takes tokens with their ids, in any order. `None` when two have one id or one spelling, or an id is missing.
    fn new(spellings: &str, mut tokens: Vec<(u32, Range<usize>)>) -> Option<Vocabulary> {
        tokens.sort_unstable_by_key(|&(id, _)| id);
        let mut new = Vocabulary {
            spellings: String::with_capacity(spellings.len()),
            ends: Vec::with_capacity(tokens.len()),
            places: vec![FREE; tokens.len().checked_mul(2)?.checked_next_power_of_two()?],
            hasher: RandomState::new(),
        };
        for (next, (id, range)) in (0..FREE).zip(tokens) {
            let spelling = spellings.get(range)?;
            let place = new.place(spelling)?;
            if id != next || new.places.get(place) != Some(&FREE) {
                return None;
            }
            *new.places.get_mut(place)? = id;
            new.spellings.push_str(spelling);
            new.ends.push(u32::try_from(new.spellings.len()).ok()?);
        }
        Some(new)
    }

    fn spelling(&self, id: u32) -> Option<&str> {
        let id = usize::try_from(id).ok()?;
        let start = match id.checked_sub(1) {
            None => 0,
            Some(before) => *self.ends.get(before)?,
        };
        self.spellings
            .get(start as usize..*self.ends.get(id)? as usize)
    }

    fn id(&self, spelling: &str) -> Option<u32> {
        let id = self.places.get(self.place(spelling)?);
        id.copied().filter(|&id| id != FREE)
    }

    /// Where the id of this spelling is, or would be.
    fn place(&self, spelling: &str) -> Option<usize> {
        let mask = self.places.len().checked_sub(1)?;
        let first = self.hasher.hash_one(spelling) as usize;
        let mut all = (0..self.places.len()).map(|step| first.wrapping_add(step) & mask);
        all.find(|&place| match self.places.get(place) {
            Some(&FREE) | None => true,
            Some(&id) => self.spelling(id) == Some(spelling),
        })
    }
}

/// A piece of a word: its token, and how many bytes of text it stands for; none once it has become part of the one before it.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    id: u32,
    bytes: usize,
    before: Option<usize>,
    after: Option<usize>,
}

/// A merge that may be done: the lowest rank first, then the leftmost; and the token that it makes.
type Candidate = Reverse<(u32, usize, u32)>;

impl BytePairs {
    /// Merges the characters of a word until nothing is left to merge.
    fn merged(&self, word: &str) -> Vec<Symbol> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(word.len());
        let mut buffer = [0; 4];
        for character in word.chars() {
            // What no token is spelled with vanishes, as there is no token for what is unknown.
            if let Some(id) = self.vocabulary.id(character.encode_utf8(&mut buffer)) {
                symbols.push(Symbol {
                    id,
                    bytes: character.len_utf8(),
                    before: symbols.len().checked_sub(1),
                    after: Some(symbols.len() + 1),
                });
            }
        }
        if let Some(last) = symbols.last_mut() {
            last.after = None;
        }
        let pairs = 0..symbols.len().saturating_sub(1);
        let mut candidates: BinaryHeap<Candidate> = pairs
            .filter_map(|left| self.candidate(&symbols, left))
            .collect();
        while let Some(Reverse((_, left, made))) = candidates.pop() {
            // Either may have become part of another in the meantime.
            let valid = self.candidate(&symbols, left);
            let valid = valid.is_some_and(|Reverse((.., makes))| makes == made);
            let (Some(&first), true) = (symbols.get(left), valid) else {
                continue;
            };
            let Some(right) = first.after else { continue };
            let Some(second) = symbols.get_mut(right) else {
                continue;
            };
            let (bytes, after) = (second.bytes, second.after);
            second.bytes = 0;
            if let Some(first) = symbols.get_mut(left) {
                first.id = made;
                first.bytes += bytes;
                first.after = after;
            }
            if let Some(next) = after.and_then(|after| symbols.get_mut(after)) {
                next.before = Some(left);
            }
            let lefts = first.before.into_iter().chain([left]);
            candidates.extend(lefts.filter_map(|left| self.candidate(&symbols, left)));
        }
        symbols.retain(|symbol| symbol.bytes > 0);
        symbols
    }

    /// The merge of a symbol and the one after it.
    fn candidate(&self, symbols: &[Symbol], left: usize) -> Option<Candidate> {
        let first = symbols.get(left).filter(|symbol| symbol.bytes > 0)?;
        let second = symbols.get(first.after?)?;
        let &(rank, makes) = self.merges.get(&(first.id, second.id))?;
        Some(Reverse((rank, left, makes)))
    }
}

impl Model for BytePairs {
    type Trainer = BpeTrainer;

    fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        if self.ignore_merges
            && let Some(id) = self.vocabulary.id(text)
        {
            return Ok(vec![Token::new(id, text.to_owned(), (0, text.len()))]);
        }
        let mut at = 0;
        let tokens = self.merged(text).into_iter().map(|symbol| {
            let from = at;
            at += symbol.bytes;
            let spelling = self.vocabulary.spelling(symbol.id).unwrap_or_default();
            Token::new(symbol.id, spelling.to_owned(), (from, at))
        });
        Ok(tokens.collect())
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.vocabulary.id(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.vocabulary.spelling(id).map(str::to_owned)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        let ids = 0..self.vocabulary.ends.len() as u32;
        ids.filter_map(|id| Some((self.id_to_token(id)?, id)))
            .collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.vocabulary.ends.len()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("a tokenizer that was read to be used can't be saved".into())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}
