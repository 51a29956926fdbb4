//! What of a model's texts goes into a plan: the tokenizer's tables, what stands around a prompt, the tokens that end an answer.
//!
//! A board's tokenizer is byte-level byte-pair encoding over the whole text (see `furlong_core::plan::Tokenizer`). Other
//! tokenizers are left out, with the reason: such a plan reads and writes tokens.

use std::collections::HashMap;
use std::time::SystemTime;

use furlong_core::plan::{LOWER_BYTES, MERGE_BYTES, NO_TOKEN, TokenizerCounts};
use serde_json::Value;

use super::pieces::{Pieces, byte_characters};
use super::tokenizer::{TOKENIZER_FILE, TOKENIZER_LIMIT};
use super::{ChatTemplate, Message, Tokenizer};
use crate::{Error, ModelFiles};

/// Stands for the prompt while the template is looked at.
const PROMPT: &str = "furlongpromptfurlong";

/// The texts of a plan.
#[derive(Debug, Clone)]
pub(crate) struct LoweredText {
    /// The tokenizer's section, or why there is none.
    pub section: Result<Vec<u8>, String>,
    /// Tokens that end an answer.
    pub ends: [u32; 4],
}

impl LoweredText {
    /// The texts of the model of these files, whose logits are of `vocabulary` tokens.
    ///
    /// # Errors
    /// Files that are there but can't be read.
    pub(crate) fn of(files: &ModelFiles, vocabulary: usize) -> Result<LoweredText, Error> {
        let path = files.path(TOKENIZER_FILE);
        let Some(bytes) = files.read(TOKENIZER_FILE, TOKENIZER_LIMIT)? else {
            return Ok(LoweredText::without(
                "the model's folder has no tokenizer.json",
            ));
        };
        let tokenizer = Tokenizer::load_files(files)?;
        let template = ChatTemplate::load_files(files)?;
        let json: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(&path, "JSON", error.to_string()))?;
        let mut ends = [NO_TOKEN; 4];
        let ids = tokenizer.eos_ids();
        ends.iter_mut().zip(&ids).for_each(|(to, &id)| *to = id);
        if ids.len() > ends.len() {
            log::warn!(
                "{}: only the first {} of the tokens that end a text are in the plan",
                path.display(),
                ends.len()
            );
        }
        let frame = Frame::of(&tokenizer, template.as_ref())?;
        let section = frame.and_then(|frame| section(&json, &tokenizer, &frame, vocabulary));
        Ok(LoweredText { section, ends })
    }

    /// No tokenizer, for a reason.
    pub(crate) fn without(reason: &str) -> LoweredText {
        LoweredText {
            section: Err(reason.to_owned()),
            ends: [NO_TOKEN; 4],
        }
    }
}

/// What stands around a prompt.
#[derive(Debug, Default)]
struct Frame {
    before: Vec<u32>,
    after: Vec<u32>,
    prefix: String,
    suffix: String,
}

impl Frame {
    /// What the template says, or the tokenizer where there is none. The inner error is why it can't be told.
    fn of(
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
    ) -> Result<Result<Frame, String>, Error> {
        if let Some(template) = template {
            let text = template.render(&[Message::new("user", PROMPT)], true, SystemTime::now())?;
            let parts: Vec<&str> = text.split(PROMPT).collect();
            let &[prefix, suffix] = parts.as_slice() else {
                return Ok(Err(
                    "the chat template does not write the prompt once, as it is".to_owned(),
                ));
            };
            return Ok(Ok(Frame {
                prefix: prefix.to_owned(),
                suffix: suffix.to_owned(),
                ..Frame::default()
            }));
        }
        let (bare, whole) = (
            tokenizer.encode(PROMPT, false)?,
            tokenizer.encode(PROMPT, true)?,
        );
        let at = whole
            .windows(bare.len().max(1))
            .position(|window| window == bare);
        let Some(at) = at else {
            return Ok(Err(
                "the tokenizer changes a text when it adds special tokens".to_owned(),
            ));
        };
        Ok(Ok(Frame {
            before: whole.get(..at).unwrap_or_default().to_vec(),
            after: whole.get(at + bare.len()..).unwrap_or_default().to_vec(),
            ..Frame::default()
        }))
    }
}

/// The bytes of the section, or why it can't be written.
fn section(
    json: &Value,
    tokenizer: &Tokenizer,
    frame: &Frame,
    vocabulary: usize,
) -> Result<Vec<u8>, String> {
    let lowers = check(json)?;
    let tokens = tokenizer.vocab_size();
    if tokens > vocabulary || tokens >= usize::from(u16::MAX) {
        return Err(format!(
            "it has {tokens} tokens, more than the model or a plan can hold"
        ));
    }
    let Pieces::ByteLevel(_) = tokenizer.pieces() else {
        return Err("its decoder is not byte-level".to_owned());
    };
    let mut ends = Vec::new();
    let mut pieces = Vec::new();
    for id in 0..tokens as u32 {
        if let Some(token) = tokenizer.token(id) {
            tokenizer.pieces().append(&token, &mut pieces);
        }
        ends.extend((pieces.len() as u32).to_le_bytes());
    }
    let id = |token: &str| -> Result<u16, String> {
        let id = tokenizer
            .token_id(token)
            .and_then(|id| u16::try_from(id).ok());
        id.ok_or_else(|| format!("{token:?} is not in its vocabulary"))
    };
    let mut bytes = [0u16; 256];
    for (character, byte) in byte_characters() {
        if let Some(place) = bytes.get_mut(usize::from(byte)) {
            *place = id(&character.to_string())?;
        }
    }
    let merges = merges(json, id)?;
    let lower = if lowers { lower_rules()? } else { Vec::new() };
    let added: Vec<u32> = special_ids(json);
    let counts = TokenizerCounts {
        tokens: tokens as u32,
        merges: (merges.len() / MERGE_BYTES) as u32,
        lower: (lower.len() / LOWER_BYTES) as u32,
        added: added.len() as u32,
        before: frame.before.len() as u32,
        after: frame.after.len() as u32,
        prefix: frame.prefix.len() as u32,
        suffix: frame.suffix.len() as u32,
        pieces: pieces.len() as u32,
    };
    let words = |ids: &[u32]| {
        ids.iter()
            .flat_map(|id| id.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let mut section = counts.encode().to_vec();
    section.extend(ends);
    section.extend(merges);
    section.extend(bytes.iter().flat_map(|id| id.to_le_bytes()));
    section.extend(lower);
    section.extend(words(&added));
    section.extend(words(&frame.before));
    section.extend(words(&frame.after));
    section.extend(frame.prefix.bytes());
    section.extend(frame.suffix.bytes());
    section.extend(pieces);
    Ok(section)
}

/// Checks that a board's tokenizer does the same; says whether it makes texts lower-case.
fn check(json: &Value) -> Result<bool, String> {
    let kind = |value: &Value| value["type"].as_str().unwrap_or("nothing").to_owned();
    let model = &json["model"];
    if kind(model) != "BPE" && model.get("merges").is_none() {
        return Err(format!(
            "its model is {}, not byte-pair encoding",
            kind(model)
        ));
    }
    let empty = |value: &Value| value.is_null() || value.as_str() == Some("");
    let off = |value: &Value| value.is_null() || value.as_bool() == Some(false);
    let plain = empty(&model["continuing_subword_prefix"])
        && empty(&model["end_of_word_suffix"])
        && off(&model["byte_fallback"])
        && off(&model["ignore_merges"])
        && model["dropout"].as_f64().unwrap_or(0.0) == 0.0;
    if !plain {
        return Err("its byte-pair encoding has options that a board does not know".to_owned());
    }
    let lowers = match &json["normalizer"] {
        Value::Null => false,
        normaliser if kind(normaliser) == "Lowercase" => true,
        other => return Err(format!("its normaliser is {}", kind(other))),
    };
    let cutter = &json["pre_tokenizer"];
    if kind(cutter) != "ByteLevel"
        || !off(&cutter["add_prefix_space"])
        || cutter["use_regex"] != false
    {
        return Err("it cuts texts by a regular expression before it encodes them".to_owned());
    }
    let added = json["added_tokens"].as_array().into_iter().flatten();
    for token in added {
        let turned = lowers && token["normalized"] != false;
        if turned || !off(&token["single_word"]) || !off(&token["lstrip"]) || !off(&token["rstrip"])
        {
            return Err(format!(
                "its added token {} is matched in a way of its own",
                token["content"]
            ));
        }
    }
    Ok(lowers)
}

fn special_ids(json: &Value) -> Vec<u32> {
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let ids = added.filter_map(|token| token["id"].as_u64());
    ids.filter_map(|id| u32::try_from(id).ok()).collect()
}

/// The merges in the order of their pairs.
fn merges(json: &Value, id: impl Fn(&str) -> Result<u16, String>) -> Result<Vec<u8>, String> {
    let listed = json["model"]["merges"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let mut merges: HashMap<(u16, u16), (u16, u16)> = HashMap::new();
    for (rank, merge) in listed.iter().enumerate() {
        let pair = match merge {
            Value::String(pair) => pair.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(left), Value::String(right)] => {
                    Some((left.as_str(), right.as_str()))
                }
                _ => None,
            },
            _ => None,
        };
        let (left, right) = pair.ok_or_else(|| format!("{merge} is no merge"))?;
        let rank = u16::try_from(rank).map_err(|_| "it has more than 65536 merges".to_owned())?;
        let merged = id(&format!("{left}{right}"))?;
        // Of a pair that is listed twice the last counts, as with the crate that reads the file.
        merges.insert((id(left)?, id(right)?), (rank, merged));
    }
    let mut merges: Vec<_> = merges.into_iter().collect();
    merges.sort_unstable();
    let record =
        |&((left, right), (rank, merged)): &_| [right, left, rank, merged].map(u16::to_le_bytes);
    Ok(merges.iter().flat_map(record).flatten().collect())
}

/// Which characters have another lower case, as runs of equal distance.
fn lower_rules() -> Result<Vec<u8>, String> {
    // First, last, step, what is added.
    let mut rules: Vec<[u32; 4]> = Vec::new();
    for character in '\0'..=char::MAX {
        let lower: Vec<char> = character.to_lowercase().collect();
        let code = u32::from(character);
        let add = match (lower.as_slice(), character) {
            (&[same], _) if same == character => continue,
            (&[other], _) => u32::from(other).wrapping_sub(code),
            // Known to the board.
            (_, '\u{130}') => 0,
            _ => {
                return Err(format!(
                    "the lower case of {character:?} is more than one character"
                ));
            }
        };
        match rules.last_mut() {
            Some([first, last, step, known])
                if *known == add
                    && code - *last <= 2
                    && (first == last || code - *last == *step) =>
            {
                *step = code - *last;
                *last = code;
            }
            _ => rules.push([code, code, 1, add]),
        }
    }
    Ok(rules
        .iter()
        .flatten()
        .flat_map(|number| number.to_le_bytes())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use furlong_core::plan::{Tokenizer as BoardTokenizer, WORDS_PER_BYTE};
    use std::path::PathBuf;
    use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
    use tokenizers::normalizers::utils::Lowercase;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;
    use tokenizers::{AddedToken, TokenizerBuilder};

    /// A tokenizer in the manner of small models, trained on this file.
    fn folder(lowers: bool) -> PathBuf {
        let byte_level = || ByteLevel::new(false, true, false);
        let mut tokenizer = TokenizerBuilder::default()
            .with_model(BPE::default())
            .with_normalizer(lowers.then_some(Lowercase))
            .with_pre_tokenizer(Some(byte_level()))
            .with_post_processor(Some(byte_level()))
            .with_decoder(Some(byte_level()))
            .build()
            .unwrap();
        let mut trainer = BpeTrainerBuilder::new()
            .show_progress(false)
            .vocab_size(700)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(
                ["<|end|>", "<|answer|>", "<|a"]
                    .map(|t| AddedToken::from(t, true))
                    .to_vec(),
            )
            .build();
        let lines = include_str!("lowered.rs").lines().map(str::to_owned);
        tokenizer.train(&mut trainer, lines).unwrap();
        let name = format!("furlong-lowered-{}-{lowers}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        tokenizer
            .save(folder.join("tokenizer.json"), false)
            .unwrap();
        folder
    }

    #[test]
    fn a_board_makes_the_tokens_that_the_crate_makes() {
        let mut seed = 3u32;
        let mut number = |below: usize| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as usize % below
        };
        let pieces = [
            "turn ",
            "THE",
            " heating",
            "  ",
            "\n",
            "off in the study",
            "Ä",
            "İ",
            "ΑΣ",
            "ß",
            "東京",
            "🙂",
            "e\u{301}",
            "<|answer|>",
            "<|a",
            "<|",
            "|>",
            "42",
            "let mut ",
            "tokens",
            "\u{0}",
            "DŽ",
            "\u{10FFFF}",
            "self.",
            "::",
        ];
        for lowers in [false, true] {
            let folder = folder(lowers);
            let tokenizer = Tokenizer::load(&folder).unwrap();
            let text = LoweredText::of(&folder.as_path().into(), tokenizer.vocab_size()).unwrap();
            std::fs::remove_dir_all(&folder).unwrap();
            let section = text.section.unwrap();
            let board = BoardTokenizer::of_section(&section, 700).unwrap();
            for _ in 0..2000 {
                let text: String = (0..number(12))
                    .map(|_| pieces[number(pieces.len())])
                    .collect();
                let mut work = vec![0; WORDS_PER_BYTE * 2 * (text.len() + 4)];
                let mut got = Vec::new();
                let taken = board.encode(&text, &mut work, |token| {
                    got.push(token);
                    Ok(())
                });
                taken.unwrap();
                assert_eq!(got, tokenizer.encode(&text, true).unwrap(), "{text:?}");
                let bytes: Vec<u8> = got
                    .iter()
                    .flat_map(|&token| board.piece(token).to_vec())
                    .collect();
                assert_eq!(
                    String::from_utf8(bytes).unwrap(),
                    tokenizer.decode(&got, false).unwrap()
                );
            }
        }
    }
}
