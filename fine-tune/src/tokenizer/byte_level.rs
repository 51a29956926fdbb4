//! Byte-level BPE (`tokenizer.ggml.model` = `gpt2`): GPT-2's alphabet of bytes, merges in order, and one of several ways to cut
//! a text into words first.

use serde_json::{Value as Json, json};

use super::special::Special;
use super::vocabulary::Vocabulary;
use super::{Keys, frame};
use crate::checkpoint::gguf::Value;
use crate::error::Fault;

/// Llama 3's words: up to three digits together.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Qwen 2's words: each digit for itself.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// What llama.cpp does where a file doesn't say: one cut after the other.
const DEFAULT: &[&str] = &[
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
];

/// How a text is cut into words before merging.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    Gpt2,
    /// Each digit apart, then as GPT-2.
    Digits,
    Llama3,
    /// With the text in normal form C first, or as it is.
    Qwen2 {
        normalised: bool,
    },
    Default,
}

/// Whether a text begins with a token of its own where the file doesn't say.
pub fn begins_by_default(pre: &str) -> bool {
    words(pre, "").is_ok_and(|words| words == Words::Llama3)
}

/// The way of the pre-tokenizer that the file names.
fn words(pre: &str, architecture: &str) -> Result<Words, Fault> {
    match (pre, architecture) {
        ("gpt-2" | "phi-2" | "olmo" | "jais", _) | ("default" | "", "gpt2") => Ok(Words::Gpt2),
        ("smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone", _) => {
            Ok(Words::Digits)
        }
        ("llama-bpe" | "llama3" | "llama-v3" | "falcon3", _) => Ok(Words::Llama3),
        ("qwen2", _) => Ok(Words::Qwen2 { normalised: true }),
        ("deepseek-r1-qwen" | "stablelm2", _) => Ok(Words::Qwen2 { normalised: false }),
        ("default" | "", _) => Ok(Words::Default),
        (other, _) => Err(Fault::unsupported(
            "tokenizer.ggml.pre",
            other,
            "default, gpt-2, smollm, starcoder, llama-bpe, qwen2 and those that cut texts alike",
        )),
    }
}

/// `tokenizer.json` but for the added tokens.
pub fn build(keys: &Keys, vocabulary: &Vocabulary, special: &Special) -> Result<Json, Fault> {
    let words = words(keys.text("ggml.pre")?.unwrap_or(""), keys.architecture())?;
    let byte_level = |regex: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex });
    let split = |regex: &str| json!({ "type": "Split", "pattern": { "Regex": regex }, "behavior": "Isolated", "invert": false });
    let sequence = |parts: Vec<Json>| json!({ "type": "Sequence", "pretokenizers": parts });
    let pre_tokenizer = match words {
        Words::Gpt2 => byte_level(true),
        Words::Digits => sequence(vec![
            json!({ "type": "Digits", "individual_digits": true }),
            byte_level(true),
        ]),
        Words::Llama3 => sequence(vec![split(LLAMA3), byte_level(false)]),
        Words::Qwen2 { .. } => sequence(vec![split(QWEN2), byte_level(false)]),
        Words::Default => sequence(
            DEFAULT
                .iter()
                .map(|regex| split(regex))
                .chain([byte_level(false)])
                .collect(),
        ),
    };
    let normalizer = match words {
        Words::Qwen2 { normalised: true } => json!({ "type": "NFC" }),
        _ => Json::Null,
    };
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true });
    let post_processor = match special.decoder_template(vocabulary) {
        Json::Null => bytes.clone(),
        template => json!({ "type": "Sequence", "processors": [bytes.clone(), template] }),
    };
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": null,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": false,
        "byte_fallback": false,
        "ignore_merges": words == Words::Llama3,
        "vocab": vocabulary.table(|token, _| token.to_owned()),
        "merges": merges(keys, vocabulary)?,
    });
    Ok(frame(
        normalizer,
        pre_tokenizer,
        post_processor,
        bytes,
        model,
    ))
}

/// The merges as they are, once each is known to lead from tokens to a token.
fn merges(keys: &Keys, vocabulary: &Vocabulary) -> Result<Vec<Json>, Fault> {
    let key = "tokenizer.ggml.merges";
    let merges = keys
        .get("ggml.merges")
        .and_then(Value::as_array)
        .and_then(|array| array.strings())
        .ok_or_else(|| Fault::new(key, "there is no such list of texts"))?;
    merges
        .enumerate()
        .map(|(rank, merge)| {
            let (left, right) = merge
                .split_once(' ')
                .filter(|(left, right)| {
                    !left.is_empty() && !right.is_empty() && !right.contains(' ')
                })
                .ok_or_else(|| Fault::new(key, format!("merge {rank} is not two tokens")))?;
            let joined = format!("{left}{right}");
            match [left, right, &joined]
                .into_iter()
                .find(|token| vocabulary.id(token).is_none())
            {
                None => Ok(json!(merge)),
                Some(token) => {
                    let reason = format!("merge {rank} speaks of {token:?}, which is not a token");
                    Err(Fault::new(key, reason))
                }
            }
        })
        .collect()
}
