//! The tables of a GGUF tokenizer: tokens with their kinds, scores and merges.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::Keys;
use crate::checkpoint::gguf::Value;
use crate::error::Fault;

/// What a token is for; GGUF's `token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Made from text by the model's algorithm.
    Normal,
    /// Stands for what has no token.
    Unknown,
    /// Controls the model; never made from text by the algorithm.
    Control,
    /// Matched in the text as a whole, before the algorithm.
    UserDefined,
    /// Fills a gap in the ids.
    Unused,
    /// Stands for one byte.
    Byte,
}

impl TokenKind {
    fn from_code(code: u64) -> TokenKind {
        match code {
            2 => TokenKind::Unknown,
            3 => TokenKind::Control,
            4 => TokenKind::UserDefined,
            5 => TokenKind::Unused,
            6 => TokenKind::Byte,
            _ => TokenKind::Normal,
        }
    }
}

/// Tokens by id.
pub struct Vocabulary<'a> {
    tokens: Vec<&'a str>,
    kinds: Vec<TokenKind>,
    ids: HashMap<&'a str, usize>,
}

impl<'a> Vocabulary<'a> {
    /// Reads tokens and their kinds.
    pub fn read(keys: &Keys<'a>) -> Result<Vocabulary<'a>, Fault> {
        let key = "tokenizer.ggml.tokens";
        let tokens: Vec<&str> = keys
            .get("ggml.tokens")
            .and_then(Value::as_array)
            .and_then(|array| array.strings())
            .ok_or_else(|| Fault::new(key, "there is no such list of texts"))?
            .collect();
        if tokens.is_empty() {
            return Err(Fault::new(key, "the list is empty"));
        }
        let kinds = match keys.get("ggml.token_type") {
            None => vec![TokenKind::Normal; tokens.len()],
            Some(value) => value
                .as_array()
                .and_then(|array| array.scalars())
                .map(|codes| {
                    codes
                        .map(|code| TokenKind::from_code(code.as_u64().unwrap_or(1)))
                        .collect()
                })
                .unwrap_or_default(),
        };
        if kinds.len() != tokens.len() {
            let reason = format!("{} kinds for {} tokens", kinds.len(), tokens.len());
            return Err(Fault::new("tokenizer.ggml.token_type", reason));
        }
        let ids = tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (*token, id))
            .collect();
        Ok(Vocabulary { tokens, kinds, ids })
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The token with this id.
    pub fn token(&self, id: usize) -> Option<&'a str> {
        self.tokens.get(id).copied()
    }

    /// The id of this token.
    pub fn id(&self, token: &str) -> Option<usize> {
        self.ids.get(token).copied()
    }

    /// Whether there is such a token and it is of this kind.
    pub fn is(&self, token: &str, kind: TokenKind) -> bool {
        self.id(token).and_then(|id| self.kinds.get(id)) == Some(&kind)
    }

    /// Id, text and kind of every token.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a str, TokenKind)> {
        self.tokens
            .iter()
            .zip(&self.kinds)
            .enumerate()
            .map(|(id, (token, kind))| (id, *token, *kind))
    }

    /// Ids by token, each token as `spell` writes it, as `tokenizer.json` has them.
    pub fn table(&self, spell: impl Fn(&str, TokenKind) -> String) -> Json {
        let table: Map<String, Json> = self
            .iter()
            .map(|(id, token, kind)| (spell(token, kind), json!(id)))
            .collect();
        Json::Object(table)
    }

    /// The tokens that are matched in the text as a whole, as `tokenizer.json` lists them.
    pub fn added_tokens(&self) -> Json {
        self.iter()
            .filter(|(_, token, kind)| {
                !token.is_empty()
                    && matches!(
                        kind,
                        TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown
                    )
            })
            .map(|(id, token, kind)| {
                json!({
                    "id": id,
                    "content": token,
                    "single_word": false,
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": kind != TokenKind::UserDefined,
                })
            })
            .collect()
    }
}
