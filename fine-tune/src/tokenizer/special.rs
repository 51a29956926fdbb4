//! Tokens with a role: which begin, end and pad a text, and which of them the tokenizer adds by itself.

use serde_json::{Map, Value as Json, json};

use super::Keys;
use super::vocabulary::{TokenKind, Vocabulary};
use crate::error::Fault;

/// Tokens that end a turn of a chat. A template that writes one makes it an end of generation too, whatever `eos_token_id` says.
const TURN_ENDS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
];

/// Ids of tokens with a role.
#[derive(Debug, Default)]
pub struct Special {
    /// Begins a text.
    pub bos: Option<usize>,
    /// Ends a text; the first one is the tokenizer's own, the others end a turn.
    pub eos: Vec<usize>,
    /// Stands for what has no token.
    pub unknown: Option<usize>,
    /// Fills a batch.
    pub padding: Option<usize>,
    /// Ends a sentence of an encoder.
    pub separator: Option<usize>,
    /// Begins a sentence of an encoder.
    pub class: Option<usize>,
    /// Hides a token of an encoder.
    pub mask: Option<usize>,
    /// Whether [`bos`](Special::bos) is put before each text.
    pub add_bos: bool,
    /// Whether the first of [`eos`](Special::eos) is put after each text.
    pub add_eos: bool,
}

impl Special {
    /// Reads the roles; where the file says nothing, the kind of tokenizer decides, as it does in llama.cpp.
    pub fn read(keys: &Keys, vocabulary: &Vocabulary, kind: &str) -> Result<Special, Fault> {
        let id = |name: &str, default: Option<usize>| -> Result<Option<usize>, Fault> {
            let key = format!("ggml.{name}_token_id");
            // 2^32 - 1 is how converters write "none".
            match keys.number(&key)?.filter(|id| *id != u64::from(u32::MAX)) {
                None => Ok(default.filter(|id| *id < vocabulary.len())),
                Some(id) => usize::try_from(id)
                    .ok()
                    .filter(|id| *id < vocabulary.len())
                    .map(Some)
                    .ok_or_else(|| {
                        let reason = format!(
                            "{id} is not below {}, the number of tokens",
                            vocabulary.len()
                        );
                        Fault::new(format!("tokenizer.{key}"), reason)
                    }),
            }
        };
        let (spm, bert) = (kind == "llama", kind == "bert");
        let mut special = Special {
            bos: id("bos", spm.then_some(1))?,
            eos: id("eos", spm.then_some(2))?.into_iter().collect(),
            unknown: id("unknown", if spm { Some(0) } else { bert.then_some(100) })?,
            padding: id("padding", bert.then_some(0))?,
            separator: id("seperator", bert.then_some(102))?,
            class: id("cls", bert.then_some(101))?,
            mask: id("mask", bert.then_some(103))?,
            add_bos: false,
            add_eos: false,
        };
        for name in ["eot", "eom"] {
            special.eos.extend(id(name, None)?);
        }
        let template = keys.text("chat_template")?.unwrap_or("");
        let ends = TURN_ENDS
            .iter()
            .filter(|end| template.contains(**end) && vocabulary.is(end, TokenKind::Control))
            .filter_map(|end| vocabulary.id(end));
        special.eos.extend(ends);
        let mut seen = Vec::new();
        special.eos.retain(|id| {
            !seen.contains(id) && {
                seen.push(*id);
                true
            }
        });
        let pre = keys.text("ggml.pre")?.unwrap_or("");
        let usual = spm || super::byte_level::begins_by_default(pre);
        special.add_bos =
            keys.flag("ggml.add_bos_token")?.unwrap_or(usual) && special.bos.is_some();
        special.add_eos =
            keys.flag("ggml.add_eos_token")?.unwrap_or(false) && !special.eos.is_empty();
        Ok(special)
    }

    /// A template that puts `before` and `after` around a text, where they are tokens; null where neither is.
    pub fn template(vocabulary: &Vocabulary, before: Option<usize>, after: Option<usize>) -> Json {
        let token = |id: Option<usize>| id.and_then(|id| Some((id, vocabulary.token(id)?)));
        let (before, after) = (token(before), token(after));
        if before.is_none() && after.is_none() {
            return Json::Null;
        }
        let special = |token: Option<(usize, &str)>, kind: u8| {
            token.map(|(_, token)| json!({ "SpecialToken": { "id": token, "type_id": kind } }))
        };
        let text = |id: &str, kind: u8| json!({ "Sequence": { "id": id, "type_id": kind } });
        let part = |id: &str, kind: u8| -> Vec<Json> {
            special(before, kind)
                .into_iter()
                .chain([text(id, kind)])
                .chain(special(after, kind))
                .collect()
        };
        let tokens: Map<String, Json> = before
            .into_iter()
            .chain(after)
            .map(|(id, token)| {
                (
                    token.to_owned(),
                    json!({ "id": token, "ids": [id], "tokens": [token] }),
                )
            })
            .collect();
        json!({
            "type": "TemplateProcessing",
            "single": part("A", 0),
            "pair": part("A", 0).into_iter().chain(part("B", 1)).collect::<Vec<_>>(),
            "special_tokens": tokens,
        })
    }

    /// The template for a decoder: what begins and ends a text, as far as the tokenizer adds it.
    pub fn decoder_template(&self, vocabulary: &Vocabulary) -> Json {
        let before = self.bos.filter(|_| self.add_bos);
        let after = self.eos.first().copied().filter(|_| self.add_eos);
        Special::template(vocabulary, before, after)
    }

    /// The ids for `generation_config.json`.
    pub fn ids(&self) -> Map<String, Json> {
        let eos = match self.eos[..] {
            [] => None,
            [id] => Some(json!(id)),
            _ => Some(json!(self.eos)),
        };
        [
            ("bos_token_id", self.bos.map(|id| json!(id))),
            ("eos_token_id", eos),
            ("pad_token_id", self.padding.map(|id| json!(id))),
        ]
        .into_iter()
        .filter_map(|(name, id)| Some((name.to_owned(), id?)))
        .collect()
    }

    /// `tokenizer_config.json`.
    pub fn config(&self, keys: &Keys, vocabulary: &Vocabulary, kind: &str) -> Result<Json, Fault> {
        let mut config = Map::new();
        let class = if kind == "bert" {
            "BertTokenizer"
        } else {
            "PreTrainedTokenizerFast"
        };
        config.insert("tokenizer_class".to_owned(), json!(class));
        config.insert(
            "clean_up_tokenization_spaces".to_owned(),
            json!(kind == "bert"),
        );
        if kind != "bert" {
            config.insert("add_bos_token".to_owned(), json!(self.add_bos));
            config.insert("add_eos_token".to_owned(), json!(self.add_eos));
        }
        for (name, id) in [
            ("bos_token", self.bos),
            ("eos_token", self.eos.first().copied()),
            ("unk_token", self.unknown),
            ("pad_token", self.padding),
            ("sep_token", self.separator),
            ("cls_token", self.class),
            ("mask_token", self.mask),
        ] {
            if let Some(token) = id.and_then(|id| vocabulary.token(id)) {
                config.insert(name.to_owned(), json!(token));
            }
        }
        let architecture = keys.architecture();
        let context = keys
            .gguf
            .metadata
            .get(format!("{architecture}.context_length").as_str());
        if let Some(length) = context.and_then(|length| length.as_u64()) {
            config.insert("model_max_length".to_owned(), json!(length));
        }
        if let Some(template) = keys.text("chat_template")? {
            config.insert("chat_template".to_owned(), json!(template));
        }
        Ok(Json::Object(config))
    }
}
