//! Byte-level byte-pair encoding as a plan has it.

use std::collections::HashMap;

use furlong_core::plan::{Cut, Scheme};
use serde_json::Value;

use super::{Parts, characters, check_added, is_off, kind};
use crate::text::Tokenizer;
use crate::text::pieces::{Pieces, byte_characters};

/// Llama 3's pattern, and the same with digits one by one, as Qwen2 has it.
const LLAMA3: [(&str, u8); 2] = [
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        3,
    ),
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        1,
    ),
];

/// What a plan's tokenizer is made of, or why a board can't do the same.
pub(super) fn parts(json: &Value, tokenizer: &Tokenizer) -> Result<Parts, String> {
    check_model(&json["model"])?;
    let lowers = match &json["normalizer"] {
        Value::Null => false,
        normaliser if kind(normaliser) == "Lowercase" => true,
        other => return Err(format!("its normaliser is {}", kind(other))),
    };
    check_added(json, lowers)?;
    let (cut, digits) = cut(&json["pre_tokenizer"])?;
    let cuts = cut != Cut::Whole || digits;
    if lowers && cuts {
        return Err("it makes texts lower-case and cuts them by a regular expression".to_owned());
    }
    let Pieces::ByteLevel(_) = tokenizer.pieces() else {
        return Err("its decoder is not byte-level".to_owned());
    };
    let id = |token: &str| -> Result<u16, String> {
        let id = tokenizer
            .token_id(token)
            .and_then(|id| u16::try_from(id).ok());
        id.ok_or_else(|| format!("{token:?} is not in its vocabulary"))
    };
    // Bytes of no UTF-8 are often missing. What is missing is left out of a text, unless a token stands for it.
    let mut bytes = vec![u16::MAX; 256];
    for (character, byte) in byte_characters() {
        let found = id(&character.to_string());
        if found.is_err() && !json["model"]["unk_token"].is_null() {
            return Err("its token for what is unknown stands for single bytes".to_owned());
        }
        if let Some(place) = bytes.get_mut(usize::from(byte)) {
            *place = found.unwrap_or(u16::MAX);
        }
    }
    Ok(Parts {
        scheme: Scheme::BytePairs { cut, digits },
        piece: |tokenizer, token, pieces| {
            tokenizer.pieces().append(token, pieces);
        },
        merges: merges(json, id)?,
        bytes,
        sorted: Vec::new(),
        characters: match (lowers, cuts) {
            (true, _) => characters::lower_case()?,
            (false, true) => characters::letters_and_numbers(digits)?,
            (false, false) => characters::Tables::default(),
        },
    })
}

fn check_model(model: &Value) -> Result<(), String> {
    let empty = |value: &Value| value.is_null() || value.as_str() == Some("");
    let plain = empty(&model["continuing_subword_prefix"])
        && empty(&model["end_of_word_suffix"])
        && is_off(&model["byte_fallback"])
        && is_off(&model["ignore_merges"])
        && model["dropout"].as_f64().unwrap_or(0.0) == 0.0;
    match plain {
        true => Ok(()),
        false => Err("its byte-pair encoding has options that a board does not know".to_owned()),
    }
}

/// How a tokenizer cuts texts, and whether it cuts digits off one by one before that.
fn cut(cutter: &Value) -> Result<(Cut, bool), String> {
    let steps = match kind(cutter) {
        "Sequence" => cutter["pretokenizers"].as_array().cloned(),
        _ => Some(vec![cutter.clone()]),
    };
    let unknown = || "it cuts texts by a pattern that a board does not know".to_owned();
    let steps = steps.ok_or_else(unknown)?;
    let (last, first) = steps.split_last().ok_or_else(unknown)?;
    if kind(last) != "ByteLevel" || !is_off(&last["add_prefix_space"]) {
        return Err("it does not cut texts into bytes".to_owned());
    }
    // Absent, it is on.
    let gpt2 = last["use_regex"] != false;
    match first {
        [] => Ok((if gpt2 { Cut::Gpt2 } else { Cut::Whole }, false)),
        [digits] if kind(digits) == "Digits" && digits["individual_digits"] == true => {
            Ok((if gpt2 { Cut::Gpt2 } else { Cut::Whole }, true))
        }
        [split]
            if kind(split) == "Split"
                && !gpt2
                && split["behavior"] == "Isolated"
                && is_off(&split["invert"]) =>
        {
            let pattern = split["pattern"]["Regex"].as_str().unwrap_or_default();
            let known = LLAMA3.iter().find(|(known, _)| *known == pattern);
            let &(_, digits) = known.ok_or_else(unknown)?;
            Ok((Cut::Llama3 { digits }, false))
        }
        _ => Err(unknown()),
    }
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
