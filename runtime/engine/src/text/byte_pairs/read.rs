//! Reads the `model` of a `tokenizer.json`, a token after the other: what the file holds is in memory once.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{BytePairs, Vocabulary};

impl<'de> Deserialize<'de> for BytePairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BytePairs, D::Error> {
        deserializer.deserialize_map(ModelVisitor)
    }
}

/// Reads the `model` of a `tokenizer.json`.
struct ModelVisitor;

impl<'de> Visitor<'de> for ModelVisitor {
    type Value = BytePairs;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("byte-pair encoding of a byte-level vocabulary")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<BytePairs, M::Error> {
        let mut vocabulary = None;
        let mut merges = None;
        let mut ignore_merges = None;
        let other = |option: &str| M::Error::custom(format!("`{option}` is set"));
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" if map.next_value::<String>()? != "BPE" => return Err(other(&key)),
                "type" => {}
                "dropout" if map.next_value::<Option<f32>>()?.is_some_and(|p| p != 0.0) => {
                    return Err(other(&key));
                }
                "dropout" => {}
                "unk_token" if map.next_value::<Option<String>>()?.is_some() => {
                    return Err(other(&key));
                }
                "continuing_subword_prefix" | "end_of_word_suffix"
                    if map
                        .next_value::<Option<String>>()?
                        .is_some_and(|mark| !mark.is_empty()) =>
                {
                    return Err(other(&key));
                }
                "unk_token" | "continuing_subword_prefix" | "end_of_word_suffix" => {}
                "byte_fallback" if map.next_value::<Option<bool>>()? == Some(true) => {
                    return Err(other(&key));
                }
                "byte_fallback" => {}
                "ignore_merges" => ignore_merges = map.next_value::<Option<bool>>()?,
                "vocab" => vocabulary = Some(map.next_value_seed(VocabularySeed)?),
                "merges" => {
                    let known = vocabulary.as_ref();
                    let known = known.ok_or_else(|| M::Error::missing_field("vocab"))?;
                    merges = Some(map.next_value_seed(MergesSeed(known))?);
                }
                // `fuse_unk`, which only matters where there is a token for the unknown.
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(BytePairs {
            vocabulary: vocabulary.ok_or_else(|| M::Error::missing_field("vocab"))?,
            merges: merges.ok_or_else(|| M::Error::missing_field("merges"))?,
            ignore_merges: ignore_merges.unwrap_or(false),
        })
    }
}

struct VocabularySeed;

impl<'de> DeserializeSeed<'de> for VocabularySeed {
    type Value = Vocabulary;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vocabulary, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for VocabularySeed {
    type Value = Vocabulary;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("tokens and their ids")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Vocabulary, M::Error> {
        let mut spellings = String::new();
        let mut tokens = Vec::new();
        while map.next_key_seed(Appended(&mut spellings))?.is_some() {
            let start = tokens
                .last()
                .map_or(0, |(_, last): &(u32, Range<usize>)| last.end);
            tokens.push((map.next_value()?, start..spellings.len()));
        }
        let vocabulary = Vocabulary::new(&spellings, tokens);
        vocabulary.ok_or_else(|| M::Error::custom("ids are not one for each token, without gaps"))
    }
}

/// Reads a string behind another.
struct Appended<'s>(&'s mut String);

impl<'de> DeserializeSeed<'de> for Appended<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Appended<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a token")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.push_str(text);
        Ok(())
    }
}

struct MergesSeed<'v>(&'v Vocabulary);

impl<'de> DeserializeSeed<'de> for MergesSeed<'_> {
    type Value = HashMap<(u32, u32), (u32, u32)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for MergesSeed<'_> {
    type Value = HashMap<(u32, u32), (u32, u32)>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a list of merges")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
        // Most merges make a token each, and no more than there are.
        let mut merges = HashMap::with_capacity(self.0.ends.len());
        let mut both = String::new();
        for rank in 0.. {
            both.clear();
            let Some(middle) = list.next_element_seed(Merge(&mut both))? else {
                break;
            };
            let (left, right) = both.split_at_checked(middle).unwrap_or_default();
            let ids = [left, right, &both].map(|spelling| self.0.id(spelling));
            let [Some(left), Some(right), Some(makes)] = ids else {
                return Err(S::Error::custom(format!("{both:?} is made of no tokens")));
            };
            // Of a pair that is listed twice the last counts, as in the crate.
            merges.insert((left, right), (rank, makes));
        }
        Ok(merges)
    }
}

/// Reads the two parts of a merge one behind the other; gives where the second begins.
struct Merge<'s>(&'s mut String);

impl<'de> DeserializeSeed<'de> for Merge<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Merge<'_> {
    type Value = usize;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("two tokens")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<usize, E> {
        let parts = text.split_once(' ');
        let (left, right) = parts
            .filter(|(left, right)| !left.starts_with("#version") && !right.contains(' '))
            .ok_or_else(|| E::custom(format!("{text:?} is no merge")))?;
        self.0.push_str(left);
        self.0.push_str(right);
        Ok(left.len())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<usize, S::Error> {
        let mut middle = 0;
        for length in 0..2 {
            middle = self.0.len();
            let part = list.next_element_seed(Appended(self.0))?;
            part.ok_or_else(|| S::Error::invalid_length(length, &"two tokens"))?;
        }
        match list.next_element::<IgnoredAny>()? {
            None => Ok(middle),
            Some(_) => Err(S::Error::invalid_length(3, &"two tokens")),
        }
    }
}
