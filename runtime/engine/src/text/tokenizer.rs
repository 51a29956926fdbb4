//! Text to token ids and back, by the model's own `tokenizer.json`.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::{
    DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerImpl,
};

use super::byte_pairs::BytePairs;
use super::pieces::Pieces;
use super::stream::StreamDecoder;
use super::template::token_text;
use crate::{Error, ModelFiles};

/// The file that a model keeps its tokenizer in.
pub(super) const TOKENIZER_FILE: &str = "tokenizer.json";
/// The largest `tokenizer.json` that is read, in bytes. The biggest in use today (262,144 tokens) has 34 MB.
pub(super) const TOKENIZER_LIMIT: u64 = 128 << 20;

/// A model's tokenizer, with what its folder says about the tokens that begin and end a text.
#[derive(Debug)]
pub struct Tokenizer {
    path: PathBuf,
    inner: Inner,
    pieces: Pieces,
    special: BTreeSet<u32>,
    bos: Option<u32>,
    eos: BTreeSet<u32>,
}

/// The sections of a `tokenizer.json` that we read ourselves; its vocabulary is not among them.
#[derive(serde::Deserialize)]
struct Ends {
    decoder: Option<Value>,
    post_processor: Option<Value>,
}

/// The crate's tokenizer around a model of one kind.
type Around<M> =
    TokenizerImpl<M, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

/// The crate's tokenizer around our model, where that knows all the file asks for, or around the crate's own.
#[derive(Debug)]
pub(super) enum Inner {
    Lean(Box<Around<BytePairs>>),
    Any(Box<tokenizers::Tokenizer>),
}

/// Calls a method of either.
macro_rules! inner {
    ($tokenizer:expr, $inner:ident => $call:expr) => {
        match $tokenizer {
            Inner::Lean($inner) => $call,
            Inner::Any($inner) => $call,
        }
    };
}

impl Inner {
    /// Reads a `tokenizer.json`.
    pub(super) fn from_bytes(bytes: &[u8]) -> tokenizers::Result<Inner> {
        if let Ok(lean) = serde_json::from_slice(bytes) {
            return Ok(Inner::Lean(Box::new(lean)));
        }
        // A vocabulary whose kind isn't known yet is read by way of two trees of JSON.
        Ok(Inner::Any(Box::new(
            match serde_json::from_slice::<Around<BPE>>(bytes) {
                Ok(pairs) => pairs.into(),
                Err(_) => tokenizers::Tokenizer::from_bytes(bytes)?,
            },
        )))
    }
}

impl Tokenizer {
    /// Loads `tokenizer.json` from a model folder, and the ids that end a text from `generation_config.json`,
    /// `config.json` and `tokenizer_config.json`, all of them where they differ.
    ///
    /// # Errors
    /// A file that is missing, too large or malformed.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        Self::load_files(&folder.into())
    }

    /// As [`Tokenizer::load`], from the files of a model wherever they are.
    ///
    /// # Errors
    /// As [`Tokenizer::load`].
    pub fn load_files(files: &ModelFiles) -> Result<Self, Error> {
        let path = files.path(TOKENIZER_FILE);
        let Some(bytes) = files.read(TOKENIZER_FILE, TOKENIZER_LIMIT)? else {
            return Err(Error::invalid(
                &path,
                "file",
                "is missing; a model folder needs it to turn text into tokens",
            ));
        };
        let mut tokenizer = Self::from_bytes(&path, &bytes)?;
        for name in ["generation_config.json", "config.json"] {
            if let Some(config) = files.read_json(name)? {
                tokenizer.eos.extend(ids(config.get("eos_token_id")));
                if tokenizer.bos.is_none() {
                    tokenizer.bos = ids(config.get("bos_token_id")).next();
                }
            }
        }
        if let Some(config) = files.read_json("tokenizer_config.json")? {
            let id = |key| tokenizer.token_id(token_text(&config, key)?);
            let (bos, eos) = (id("bos_token"), id("eos_token"));
            tokenizer.bos = bos.or(tokenizer.bos);
            tokenizer.eos.extend(eos);
        }
        Ok(tokenizer)
    }

    /// Reads the contents of a `tokenizer.json`; `path` only names it in errors.
    ///
    /// # Errors
    /// Contents that are not a tokenizer.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let ends: Ends = serde_json::from_slice(bytes)
            .map_err(|error| Error::invalid(path, "JSON", error.to_string()))?;
        let pieces = Pieces::from_decoder(ends.decoder.as_ref());
        if let Some(processor) = &ends.post_processor {
            check_template(processor)
                .map_err(|reason| Error::invalid(path, "post_processor", reason))?;
        }
        let inner = guarded(path, "tokenizer", || {
            let mut inner = Inner::from_bytes(bytes)?;
            // Both are for batches of training data, and a stranger's file may ask for any length.
            inner!(&mut inner, inner => {
                inner.with_padding(None);
                inner.with_truncation(None)?;
            });
            Ok(inner)
        })?;
        let added = inner!(&inner, inner => inner.get_added_tokens_decoder());
        let special = added
            .iter()
            .filter(|(_, token)| token.special)
            .map(|(&id, _)| id)
            .collect();
        Ok(Self {
            path: path.to_owned(),
            inner,
            pieces,
            special,
            bos: None,
            eos: BTreeSet::new(),
        })
    }

    /// Turns text into token ids. Special tokens written out in the text (`<|im_end|>`) count as such; with
    /// `add_special` the tokenizer also puts its own around the text, `<s>` or `[CLS]` say.
    ///
    /// # Errors
    /// A tokenizer that can't represent the text.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, Error> {
        guarded(&self.path, "encoding a text", || {
            let encoding = inner!(&self.inner, inner => inner.encode_fast(text, add_special)?);
            Ok(encoding.get_ids().to_vec())
        })
    }

    /// Turns token ids into text, leaving out special tokens if `skip_special`. Ids that are in no vocabulary are
    /// left out too.
    ///
    /// # Errors
    /// A tokenizer whose decoder fails on these ids.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        guarded(
            &self.path,
            "decoding tokens",
            || inner!(&self.inner, inner => inner.decode(ids, skip_special)),
        )
    }

    /// A decoder for a text that arrives one token at a time, without its special tokens.
    ///
    /// `continues` says that the text goes on from earlier text, so that a leading space is part of it.
    pub fn stream(&self, continues: bool) -> StreamDecoder<'_> {
        StreamDecoder::new(self, continues)
    }

    /// The id of a token, special ones included.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        inner!(&self.inner, inner => inner.token_to_id(token))
    }

    /// The token with this id, as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        inner!(&self.inner, inner => inner.id_to_token(id))
    }

    /// How many tokens the vocabulary has, added ones included.
    pub fn vocab_size(&self) -> usize {
        inner!(&self.inner, inner => inner.get_vocab_size(true))
    }

    /// Whether this token is a marker rather than text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The ids that end a text, ascending; empty when the folder names none.
    pub fn eos_ids(&self) -> Vec<u32> {
        self.eos.iter().copied().collect()
    }

    /// The id that begins a text, if the folder names one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// Whether [`encode`](Self::encode) with `add_special` begins a text with [`bos_id`](Self::bos_id).
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn adds_bos(&self) -> Result<bool, Error> {
        let first = self.encode("a", true)?.first().copied();
        Ok(self.bos.is_some() && first == self.bos)
    }

    pub(super) fn pieces(&self) -> &Pieces {
        &self.pieces
    }
}

/// The ids in a configuration value: one number, or a list of them.
fn ids(value: Option<&Value>) -> impl Iterator<Item = u32> + '_ {
    let one = value.and_then(Value::as_u64);
    let many = value.and_then(Value::as_array).into_iter().flatten();
    one.into_iter()
        .chain(many.filter_map(Value::as_u64))
        .filter_map(|id| u32::try_from(id).ok())
}

/// Refuses a template of special tokens that names what isn't there: the `tokenizers` crate panics on it.
fn check_template(processor: &Value) -> Result<(), String> {
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    for inner in list(processor.get("processors")) {
        check_template(&inner)?;
    }
    if processor.get("type").and_then(Value::as_str) != Some("TemplateProcessing") {
        return Ok(());
    }
    let known = processor.get("special_tokens");
    for piece in list(processor.get("single")) {
        let id = |kind: &str| piece.get(kind)?.get("id")?.as_str().map(str::to_owned);
        if let Some(token) = id("SpecialToken")
            && known.and_then(|known| known.get(&token)).is_none()
        {
            return Err(format!("the special token `{token}` is not described"));
        }
        if id("Sequence").is_some_and(|sequence| sequence != "A") {
            return Err("a single text has no second sequence".to_owned());
        }
    }
    Ok(())
}

/// Runs a call into the `tokenizers` crate, which panics on some malformed files.
fn guarded<T>(
    path: &Path,
    place: &str,
    call: impl FnOnce() -> Result<T, tokenizers::Error>,
) -> Result<T, Error> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::invalid(path, place, error.to_string())),
        Err(panic) => {
            let reason = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown reason");
            let reason = format!("the file is malformed: {reason}");
            Err(Error::invalid(path, place, reason))
        }
    }
}
