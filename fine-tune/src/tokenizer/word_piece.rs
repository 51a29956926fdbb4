//! WordPiece (`tokenizer.ggml.model` = `bert`). GGUF marks the beginning of a word with `▁`; `tokenizer.json` marks the
//! continuation with `##`.

use serde_json::{Value as Json, json};

use super::special::Special;
use super::vocabulary::{TokenKind, Vocabulary};
use super::{Keys, frame};
use crate::error::Fault;

/// `tokenizer.json` but for the added tokens.
pub fn build(keys: &Keys, vocabulary: &Vocabulary, special: &Special) -> Result<Json, Fault> {
    let lowercase = keys.flag("ggml.normalizer.lowercase")?.unwrap_or(true);
    let spell = |token: &str, kind: TokenKind| match token.strip_prefix('▁') {
        _ if kind == TokenKind::Control => token.to_owned(),
        Some(word) => word.to_owned(),
        None => format!("##{token}"),
    };
    let role = |name: &str, id: Option<usize>| {
        id.and_then(|id| vocabulary.token(id)).ok_or_else(|| {
            Fault::new(
                format!("tokenizer.ggml.{name}_token_id"),
                "there is no such token",
            )
        })
    };
    let unknown = role("unknown", special.unknown)?;
    role("cls", special.class)?;
    role("seperator", special.separator)?;
    let normalizer = json!({
        "type": "BertNormalizer",
        "clean_text": true,
        "handle_chinese_chars": true,
        "strip_accents": keys.flag("ggml.normalizer.strip_accents")?,
        "lowercase": lowercase,
    });
    let model = json!({
        "type": "WordPiece",
        "unk_token": unknown,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocabulary.table(spell),
    });
    Ok(frame(
        normalizer,
        json!({ "type": "BertPreTokenizer" }),
        sentence_template(vocabulary, special),
        json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
        model,
    ))
}

/// `[CLS] A [SEP]`, and `[CLS] A [SEP] B [SEP]` for pairs.
fn sentence_template(vocabulary: &Vocabulary, special: &Special) -> Json {
    let mut template = Special::template(vocabulary, special.class, special.separator);
    // The second of a pair has no beginning of its own.
    if let Some(Json::Array(pair)) = template.get_mut("pair")
        && pair.len() == 6
    {
        pair.remove(3);
    }
    template
}
