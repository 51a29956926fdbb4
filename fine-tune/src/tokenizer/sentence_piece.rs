//! SentencePiece BPE (`tokenizer.ggml.model` = `llama`): tokens with scores, spaces as `▁`, bytes for what has no token.
//!
//! `tokenizer.json` has no scores but merges in order. Each way to cut a token into two tokens is a merge, and a better score
//! comes first, as in Hugging Face's own conversion.

use serde_json::{Value as Json, json};

use super::special::Special;
use super::vocabulary::{TokenKind, Vocabulary};
use super::{Keys, frame};
use crate::checkpoint::gguf::Value;
use crate::error::Fault;

const SPACE: &str = "▁";
/// The longest token that is cut in all ways, in bytes; SentencePiece's own limit is 16 characters.
const MAX_PIECE: usize = 512;

/// `tokenizer.json` but for the added tokens.
pub fn build(keys: &Keys, vocabulary: &Vocabulary, special: &Special) -> Result<Json, Fault> {
    let prefix = keys.flag("ggml.add_space_prefix")?.unwrap_or(true);
    let spaces = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
    let normalizers = if prefix {
        vec![json!({ "type": "Prepend", "prepend": SPACE }), spaces]
    } else {
        vec![spaces]
    };
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": special.unknown.and_then(|id| vocabulary.token(id)),
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": true,
        "ignore_merges": false,
        "vocab": vocabulary.table(|token, _| token.to_owned()),
        "merges": merges(keys, vocabulary)?,
    });
    Ok(frame(
        json!({ "type": "Sequence", "normalizers": normalizers }),
        Json::Null,
        special.decoder_template(vocabulary),
        json!({ "type": "Sequence", "decoders": decoders }),
        model,
    ))
}

fn merges(keys: &Keys, vocabulary: &Vocabulary) -> Result<Vec<Json>, Fault> {
    let key = "tokenizer.ggml.scores";
    let scores: Vec<f32> = keys
        .get("ggml.scores")
        .and_then(Value::as_array)
        .and_then(|array| array.scalars())
        .ok_or_else(|| Fault::new(key, "there is no such list of numbers"))?
        .map(|score| score.as_f64().unwrap_or(0.0) as f32)
        .collect();
    if scores.len() != vocabulary.len() {
        let reason = format!("{} scores for {} tokens", scores.len(), vocabulary.len());
        return Err(Fault::new(key, reason));
    }
    let part = |token: &str| {
        vocabulary
            .is(token, TokenKind::Normal)
            .then(|| vocabulary.id(token))
            .flatten()
    };
    let mut cuts = Vec::new();
    for ((_, token, kind), score) in vocabulary.iter().zip(&scores) {
        if kind != TokenKind::Normal {
            continue;
        }
        if token.len() > MAX_PIECE {
            let reason = format!(
                "a token of {} bytes is above the limit of {MAX_PIECE}",
                token.len()
            );
            return Err(Fault::new("tokenizer.ggml.tokens", reason));
        }
        let mut ways: Vec<_> = token
            .char_indices()
            .skip(1)
            .map(|(at, _)| token.split_at(at))
            .filter_map(|(left, right)| Some((part(left)?, part(right)?, left, right)))
            .collect();
        ways.sort_unstable_by_key(|(left, right, ..)| (*left, *right));
        cuts.extend(
            ways.into_iter()
                .map(|(_, _, left, right)| (*score, left, right)),
        );
    }
    let length = |piece: &str| piece.chars().count();
    cuts.sort_by(|(a, a_left, a_right), (b, b_left, b_right)| {
        let by_length = |a: &str, b: &str| length(b).cmp(&length(a));
        b.total_cmp(a)
            .then_with(|| by_length(a_left, b_left))
            .then_with(|| by_length(a_right, b_right))
    });
    Ok(cuts
        .into_iter()
        .map(|(_, left, right)| json!(format!("{left} {right}")))
        .collect())
}
