//! What bytes one token stands for.
//!
//! Streaming needs the bytes of each token on its own. The two families of decoders in use for generation allow
//! that: byte-level BPE writes each byte as one printable character, SentencePiece writes a space as `▁` and a byte
//! that has no token as `<0xE2>`. The decoder section of `tokenizer.json` says which one a tokenizer is.

use std::collections::HashMap;

use serde_json::Value;

/// How a tokenizer's tokens turn into bytes.
#[derive(Debug, Clone)]
pub(crate) enum Pieces {
    /// Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM2).
    ByteLevel(HashMap<char, u8>),
    /// SentencePiece (Llama 2, Gemma, Mistral).
    SentencePiece {
        /// The character that stands for a space, `▁`.
        space: String,
        /// Spaces taken away at the start of a text.
        strip: usize,
        /// Whether `<0xE2>` is a byte.
        byte_fallback: bool,
    },
    /// Anything else: only whole texts can be decoded.
    Whole,
}

impl Pieces {
    /// Reads the family out of the decoder section of a `tokenizer.json`.
    pub(crate) fn from_decoder(decoder: Option<&Value>) -> Pieces {
        let Some(decoder) = decoder else {
            return Pieces::Whole;
        };
        let steps: Vec<&Value> = match decoder.get("decoders").and_then(Value::as_array) {
            Some(steps) => steps.iter().collect(),
            None => vec![decoder],
        };
        let kind = |step: &Value| {
            step.get("type")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        if let [only] = steps.as_slice() {
            match kind(only).as_str() {
                "ByteLevel" => return Pieces::ByteLevel(byte_characters()),
                "Metaspace" => {
                    let strip = only.get("prepend_scheme").and_then(Value::as_str) != Some("never");
                    return Pieces::SentencePiece {
                        space: text(only.get("replacement")).unwrap_or_else(|| "▁".to_owned()),
                        strip: usize::from(strip),
                        byte_fallback: false,
                    };
                }
                _ => {}
            }
        }
        sentence_piece(&steps, kind).unwrap_or(Pieces::Whole)
    }

    /// Appends the bytes of `token` to `bytes`; false when the family doesn't allow it.
    pub(crate) fn append(&self, token: &str, bytes: &mut Vec<u8>) -> bool {
        match self {
            Pieces::ByteLevel(characters) => {
                let start = bytes.len();
                for character in token.chars() {
                    let Some(byte) = characters.get(&character) else {
                        // An added token is plain text.
                        bytes.truncate(start);
                        bytes.extend_from_slice(token.as_bytes());
                        break;
                    };
                    bytes.push(*byte);
                }
                true
            }
            Pieces::SentencePiece {
                space,
                byte_fallback,
                ..
            } => {
                match byte_fallback.then(|| fallback_byte(token)).flatten() {
                    Some(byte) => bytes.push(byte),
                    None => bytes.extend_from_slice(token.replace(space.as_str(), " ").as_bytes()),
                }
                true
            }
            Pieces::Whole => false,
        }
    }

    /// How many spaces the start of a text loses.
    pub(crate) fn leading_spaces(&self) -> usize {
        match self {
            Pieces::SentencePiece { strip, .. } => *strip,
            _ => 0,
        }
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    Some(value?.as_str()?.to_owned())
}

/// Reads the `Replace`, `ByteFallback`, `Fuse`, `Strip` chain that Hugging Face writes for SentencePiece.
fn sentence_piece(steps: &[&Value], kind: impl Fn(&Value) -> String) -> Option<Pieces> {
    let (mut space, mut strip, mut byte_fallback) = (None, 0, false);
    for step in steps {
        match kind(step).as_str() {
            "Replace" if space.is_none() => {
                if text(step.get("content"))? != " " {
                    return None;
                }
                space = Some(text(step.get("pattern")?.get("String"))?);
            }
            "ByteFallback" => byte_fallback = true,
            "Fuse" => {}
            "Strip" => {
                let stop = step.get("stop").and_then(Value::as_u64).unwrap_or(0);
                if text(step.get("content"))? != " " || stop != 0 {
                    return None;
                }
                strip = usize::try_from(step.get("start")?.as_u64()?).ok()?;
            }
            _ => return None,
        }
    }
    Some(Pieces::SentencePiece {
        space: space?,
        strip,
        byte_fallback,
    })
}

/// `<0xE2>` is the byte 0xE2.
fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() != 2 {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

/// GPT-2's table: printable bytes stand for themselves, the others for the characters from U+0100 on.
pub(super) fn byte_characters() -> HashMap<char, u8> {
    let mut next = 0x100;
    (0..=u8::MAX)
        .map(|byte| {
            let printable = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
            let character = if printable {
                char::from(byte)
            } else {
                next += 1;
                char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
            };
            (character, byte)
        })
        .collect()
}
