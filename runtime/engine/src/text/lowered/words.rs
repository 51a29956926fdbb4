//! WordPiece as a plan has it.

use std::collections::HashSet;

use furlong_core::plan::{CharacterClass, Scheme};
use serde_json::Value;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
};

use super::{Parts, characters, check_added, kind};
use crate::text::Tokenizer;

/// What tokens begin with that go on within a word; a board knows no other.
const CONTINUES: &str = "##";

/// A letter that nothing becomes and that becomes nothing else; marks don't move past it.
const BETWEEN: char = '\u{A000}';
/// Characters that are normalised at once.
const CHUNK: usize = 1 << 14;

/// What a plan's tokenizer is made of, or why a board can't do the same.
pub(super) fn parts(json: &Value, tokenizer: &Tokenizer) -> Result<Parts, String> {
    let model = &json["model"];
    if model["continuing_subword_prefix"] != CONTINUES {
        return Err(format!(
            "its tokens within a word begin with {}, not {CONTINUES:?}",
            model["continuing_subword_prefix"]
        ));
    }
    for (part, wanted) in [
        ("normalizer", "BertNormalizer"),
        ("pre_tokenizer", "BertPreTokenizer"),
    ] {
        if kind(&json[part]) != wanted {
            return Err(format!("its {part} is {}, not {wanted}", kind(&json[part])));
        }
    }
    check_added(json, true)?;
    let listed = model["vocab"].as_object().ok_or("it has no vocabulary")?;
    let unknown = model["unk_token"]
        .as_str()
        .and_then(|token| listed.get(token));
    let unknown = unknown
        .and_then(Value::as_u64)
        .and_then(|id| u32::try_from(id).ok());
    let longest = model["max_input_chars_per_word"].as_u64();
    let mut sorted: Vec<(&str, u16)> = Vec::with_capacity(listed.len());
    for (token, id) in listed {
        let id = id.as_u64().and_then(|id| u16::try_from(id).ok());
        let id = id.ok_or_else(|| format!("{token:?} has no id that a plan can hold"))?;
        if tokenizer.token(id.into()).as_deref() != Some(token) {
            return Err(format!("{token:?} is not the token of its id"));
        }
        sorted.push((token, id));
    }
    sorted.sort_unstable();
    Ok(Parts {
        scheme: Scheme::WordPiece {
            unknown: unknown.ok_or("it has no token for what it can't spell")?,
            longest_word: longest.and_then(|n| u32::try_from(n).ok()).unwrap_or(100),
        },
        piece: |_, token, pieces| pieces.extend_from_slice(token.as_bytes()),
        merges: Vec::new(),
        bytes: Vec::new(),
        characters: tables(&json["normalizer"], &sorted)?,
        sorted: sorted.into_iter().map(|(_, id)| id).collect(),
    })
}

/// What the normaliser and the cutter make of each character, as far as the vocabulary can tell.
fn tables(normaliser: &Value, tokens: &[(&str, u16)]) -> Result<characters::Tables, String> {
    let normaliser: BertNormalizer = serde_json::from_value(normaliser.clone())
        .map_err(|error| format!("its normaliser can't be read: {error}"))?;
    let alphabet: HashSet<char> = tokens.iter().flat_map(|(token, _)| token.chars()).collect();
    let mut folds = Vec::new();
    let mut classes = Vec::new();
    let all: Vec<char> = ('\0'..=char::MAX).collect();
    for (character, text) in all.iter().copied().zip(normalised(&normaliser, &all)?) {
        let folded: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let class = class(character, &text, &folded)?;
        classes.push(class);
        // A word with a character of no token can't be spelled, whatever that character becomes.
        let matters = alphabet.contains(&character) || folded.iter().any(|c| alphabet.contains(c));
        let changed = matters && !folded.is_empty() && folded != [character];
        folds.push(changed.then_some(folded));
    }
    let mut tables = characters::Tables::default();
    tables.fold(
        |character| match folds.get(characters::number_of(character)) {
            Some(Some(folded)) => folded.clone(),
            _ => vec![character],
        },
    )?;
    tables.classify(|character| {
        let class = classes.get(characters::number_of(character));
        class.copied().unwrap_or(CharacterClass::Other)
    });
    Ok(tables)
}

/// What each character becomes by itself. Normalising them one by one would take seconds.
fn normalised(normaliser: &BertNormalizer, all: &[char]) -> Result<Vec<String>, String> {
    let mut found = Vec::with_capacity(all.len());
    for some in all.chunks(CHUNK) {
        let others = |&&c: &&char| c != BETWEEN;
        let mut joined = String::from(BETWEEN);
        for &character in some.iter().filter(others) {
            joined.extend([character, BETWEEN]);
        }
        let mut text = NormalizedString::from(joined);
        let done = normaliser.normalize(&mut text);
        done.map_err(|error| format!("its normaliser fails: {error}"))?;
        let mut parts = text.get().split(BETWEEN).skip(1);
        for &character in some {
            found.push(match character {
                BETWEEN => character.to_string(),
                _ => parts.next().unwrap_or_default().to_owned(),
            });
        }
        if parts.next() != Some("") || parts.next().is_some() {
            return Err("its normaliser joins characters".to_owned());
        }
    }
    Ok(found)
}

/// The class of a character that becomes `text`, by how a word with it in the middle is cut.
fn class(character: char, text: &str, folded: &[char]) -> Result<CharacterClass, String> {
    match text {
        "" => return Ok(CharacterClass::Removed),
        // Punctuation is no letter and no number.
        _ if text.chars().all(char::is_alphanumeric) => return Ok(CharacterClass::Other),
        _ => {}
    }
    let mut word = PreTokenizedString::from(format!("a{text}a"));
    let cut = BertPreTokenizer.pre_tokenize(&mut word);
    cut.map_err(|error| error.to_string())?;
    let pieces = word.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    match (pieces.len(), folded.len()) {
        (1, _) => Ok(CharacterClass::Other),
        (2, 0) => Ok(CharacterClass::Space),
        (3, 1) => Ok(CharacterClass::Alone),
        _ => Err(format!("{character:?} becomes {text:?}, which is cut")),
    }
}
