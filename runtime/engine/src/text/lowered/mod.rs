//! What of a model's texts goes into a plan: the tokenizer's tables, what stands around a prompt, the tokens that end an answer.
//!
//! A board's tokenizer is byte-level byte-pair encoding, whole or in the pieces of one of three known patterns, or WordPiece (see
//! `furlong_core::plan::Tokenizer`). Other tokenizers are left out, with the reason: such a plan reads and writes tokens.

mod characters;
mod pairs;
mod words;

use std::time::SystemTime;

use furlong_core::plan::{
    CLASS_BYTES, EXPANSION_BYTES, MERGE_BYTES, NO_TOKEN, RULE_BYTES, Scheme, TokenizerCounts,
};
use serde_json::Value;

use super::tokenizer::{TOKENIZER_FILE, TOKENIZER_LIMIT};
use super::{ChatTemplate, Message, Tokenizer};
use crate::{Error, ModelFiles};

/// Stands for the prompt while the template is looked at.
const PROMPT: &str = "furlongpromptfurlong";

/// What a plan has of a model's texts: its tokenizer as a board reads it, and the tokens that end an answer.
#[derive(Debug, Clone)]
pub struct LoweredText {
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
    pub fn of(files: &ModelFiles, vocabulary: usize) -> Result<LoweredText, Error> {
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

/// What differs from one kind of tokenizer to another.
struct Parts {
    scheme: Scheme,
    /// The bytes of a token with this spelling.
    piece: fn(&Tokenizer, &str, &mut Vec<u8>),
    merges: Vec<u8>,
    /// The tokens of all bytes, for byte-pair encoding.
    bytes: Vec<u16>,
    /// Tokens in the order of their spelling, for WordPiece.
    sorted: Vec<u16>,
    characters: characters::Tables,
}

/// The bytes of the section, or why it can't be written.
fn section(
    json: &Value,
    tokenizer: &Tokenizer,
    frame: &Frame,
    vocabulary: usize,
) -> Result<Vec<u8>, String> {
    let tokens = tokenizer.vocab_size();
    if tokens > vocabulary || tokens >= usize::from(u16::MAX) {
        return Err(format!(
            "it has {tokens} tokens, more than the model or a plan can hold"
        ));
    }
    let model = &json["model"];
    let parts = match kind(model) {
        "WordPiece" => words::parts(json, tokenizer)?,
        "BPE" => pairs::parts(json, tokenizer)?,
        _ if model.get("merges").is_some() => pairs::parts(json, tokenizer)?,
        other => {
            return Err(format!(
                "its model is {other}, neither byte-pair encoding nor WordPiece"
            ));
        }
    };
    let mut ends = Vec::new();
    let mut pieces = Vec::new();
    for id in 0..tokens as u32 {
        if let Some(token) = tokenizer.token(id) {
            (parts.piece)(tokenizer, &token, &mut pieces);
        }
        ends.extend((pieces.len() as u32).to_le_bytes());
    }
    let added: Vec<u32> = special_ids(json);
    let characters::Tables {
        rules,
        expansions,
        classes,
    } = parts.characters;
    let counts = TokenizerCounts {
        scheme: parts.scheme,
        tokens: tokens as u32,
        merges: (parts.merges.len() / MERGE_BYTES) as u32,
        sorted: parts.sorted.len() as u32,
        rules: (rules.len() / RULE_BYTES) as u32,
        expansions: (expansions.len() / EXPANSION_BYTES) as u32,
        classes: (classes.len() / CLASS_BYTES) as u32,
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
    let halves = |ids: &[u16]| {
        ids.iter()
            .flat_map(|id| id.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let mut section = counts.encode().to_vec();
    section.extend(ends);
    section.extend(parts.merges);
    section.extend(halves(&parts.bytes));
    section.extend(halves(&parts.sorted));
    section.extend(rules);
    section.extend(expansions);
    section.extend(classes);
    section.extend(words(&added));
    section.extend(words(&frame.before));
    section.extend(words(&frame.after));
    section.extend(frame.prefix.bytes());
    section.extend(frame.suffix.bytes());
    section.extend(pieces);
    Ok(section)
}

/// The type that a part of a tokenizer's file names.
fn kind(value: &Value) -> &str {
    value["type"].as_str().unwrap_or("nothing")
}

/// Whether an option is off.
fn is_off(value: &Value) -> bool {
    value.is_null() || value.as_bool() == Some(false)
}

/// Checks that special tokens are found as a board finds them: spelled out, before anything else is done to a text. `changes`
/// says whether the normaliser changes texts.
fn check_added(json: &Value, changes: bool) -> Result<(), String> {
    let added = json["added_tokens"].as_array().into_iter().flatten();
    for token in added {
        let options = ["single_word", "lstrip", "rstrip"];
        let turned = changes && token["normalized"] != false;
        if turned || !options.iter().all(|option| is_off(&token[option])) {
            return Err(format!(
                "its added token {} is matched in a way of its own",
                token["content"]
            ));
        }
    }
    Ok(())
}

fn special_ids(json: &Value) -> Vec<u32> {
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let ids = added.filter_map(|token| token["id"].as_u64());
    ids.filter_map(|id| u32::try_from(id).ok()).collect()
}
