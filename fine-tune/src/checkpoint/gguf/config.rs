//! A Hugging Face config from GGUF metadata, so that one parser decides what is supported.

use std::path::Path;

use serde_json::{Map, Value as Json, json};

use super::reader::Gguf;
use super::value::Value;
use crate::architecture::Pooling;
use crate::architecture::config::SentenceHead;
use crate::checkpoint::elements::Elements;
use crate::error::{Error, Result};

/// The metadata of one architecture.
pub struct Keys<'a> {
    pub(super) path: &'a Path,
    bytes: &'a [u8],
    gguf: &'a Gguf<'a>,
    /// `general.architecture`
    pub architecture: &'a str,
}

impl<'a> Keys<'a> {
    /// The metadata of `gguf`, which was read from `bytes` of `path`.
    pub fn new(path: &'a Path, bytes: &'a [u8], gguf: &'a Gguf<'a>) -> Result<Keys<'a>> {
        let split = gguf
            .metadata
            .get("split.count")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        if split > 1 {
            let supported = "one file: join the parts with llama-gguf-split --merge";
            return Err(Error::unsupported(path, "split.count", split, supported));
        }
        let architecture = gguf
            .metadata
            .get("general.architecture")
            .and_then(Value::as_str)
            .ok_or_else(|| {
                Error::malformed(path, "general.architecture", "there is no such text")
            })?;
        Ok(Keys {
            path,
            bytes,
            gguf,
            architecture,
        })
    }

    pub(super) fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.gguf.metadata.get(self.full(key).as_str())
    }

    /// A whole number, if the key is there.
    pub fn size(&self, key: &str) -> Result<Option<u64>> {
        self.get(key)
            .map(|value| {
                value
                    .as_u64()
                    .ok_or_else(|| self.wrong(key, "not a whole number (one for all layers)"))
            })
            .transpose()
    }

    fn required(&self, key: &str) -> Result<u64> {
        self.size(key)?
            .ok_or_else(|| self.wrong(key, "the key is missing"))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.get(key)
            .map(|value| {
                value
                    .as_f64()
                    .ok_or_else(|| self.wrong(key, "not a number"))
            })
            .transpose()
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.get(key)
            .map(|value| value.as_str().ok_or_else(|| self.wrong(key, "not a text")))
            .transpose()
    }

    fn wrong(&self, key: &str, reason: &str) -> Error {
        Error::malformed(self.path, self.full(key), reason)
    }

    pub(super) fn has_tensor(&self, name: &str) -> bool {
        self.gguf.tensors.contains_key(name)
    }

    /// Rows of the tensor `name`.
    fn rows(&self, name: &str) -> Option<usize> {
        self.gguf.tensors.get(name)?.shape.first().copied()
    }

    /// Whether the output head is the embedding: there is none, or it is the same bytes.
    fn tied(&self) -> bool {
        let stored = |name: &str| {
            let entry = self.gguf.tensors.get(name)?;
            Some((&entry.elements, self.bytes.get(entry.range.clone())?))
        };
        let head = stored("output.weight");
        head.is_none() || head == stored("token_embd.weight")
    }

    /// The values of a small f32 tensor.
    pub(super) fn f32_tensor(&self, name: &str) -> Result<Vec<f32>> {
        let wrong = || Error::malformed(self.path, format!("tensor {name}"), "not a tensor of F32");
        let entry = self.gguf.tensors.get(name).ok_or_else(wrong)?;
        match (&entry.elements, self.bytes.get(entry.range.clone())) {
            (Ok(elements @ Elements::F32), Some(bytes)) => Ok(elements.decode(bytes)),
            _ => Err(wrong()),
        }
    }

    /// The config in Hugging Face's fields. The ids in `ids` (`bos_token_id` and its like) are added to it.
    pub fn config(&self, ids: Map<String, Json>) -> Result<Json> {
        let mut config = match self.architecture {
            "llama" | "qwen2" | "qwen3" => self.llama()?,
            "gpt2" => self.gpt2()?,
            "bert" => self.bert()?,
            other => {
                let supported = "llama, qwen2, qwen3, gpt2, bert";
                return Err(Error::unsupported(
                    self.path,
                    "general.architecture",
                    other,
                    supported,
                ));
            }
        };
        let rows = self.rows("token_embd.weight");
        if let Some(map) = config.as_object_mut() {
            map.insert("vocab_size".to_owned(), json!(rows));
            map.extend(ids);
            map.retain(|_, value| !value.is_null());
        }
        Ok(config)
    }

    fn llama(&self) -> Result<Json> {
        let heads = self.required("attention.head_count")?;
        let hidden = self.required("embedding_length")?;
        let context = self.required("context_length")?;
        let head_dim = match self.size("attention.key_length")? {
            Some(length) => length,
            None => hidden.checked_div(heads).unwrap_or(0),
        };
        if let Some(value) = self
            .size("attention.value_length")?
            .filter(|value| *value != head_dim)
        {
            let supported = format!("the length of keys, {head_dim}");
            return Err(Error::unsupported(
                self.path,
                self.full("attention.value_length"),
                value,
                supported,
            ));
        }
        let window = self
            .size("attention.sliding_window")?
            .filter(|window| *window > 0);
        let (model_type, class) = match (self.architecture, window) {
            ("llama", None) => ("llama", "LlamaForCausalLM"),
            ("llama", Some(_)) => ("mistral", "MistralForCausalLM"),
            ("qwen2", _) => ("qwen2", "Qwen2ForCausalLM"),
            _ => ("qwen3", "Qwen3ForCausalLM"),
        };
        let rotated = self.size("rope.dimension_count")?.unwrap_or(head_dim);
        Ok(json!({
            "architectures": [class],
            "model_type": model_type,
            "hidden_size": hidden,
            "intermediate_size": self.required("feed_forward_length")?,
            "num_hidden_layers": self.required("block_count")?,
            "num_attention_heads": heads,
            "num_key_value_heads": self.size("attention.head_count_kv")?.unwrap_or(heads),
            "head_dim": head_dim,
            "max_position_embeddings": context,
            "hidden_act": "silu",
            "rms_norm_eps": self.number("attention.layer_norm_rms_epsilon")?,
            "attention_bias": self.has_tensor("blk.0.attn_q.bias") && self.architecture != "qwen2",
            "mlp_bias": self.has_tensor("blk.0.ffn_gate.bias"),
            "tie_word_embeddings": self.tied(),
            "sliding_window": window,
            "use_sliding_window": window.is_some(),
            "num_local_experts": self.size("expert_count")?,
            "rope_theta": self.number("rope.freq_base")?.unwrap_or(10_000.0),
            "partial_rotary_factor":
                (rotated != head_dim).then(|| rotated as f64 / head_dim as f64),
            "rope_scaling": self.rope_scaling(rotated, context)?,
        }))
    }

    fn gpt2(&self) -> Result<Json> {
        Ok(json!({
            "architectures": ["GPT2LMHeadModel"],
            "model_type": "gpt2",
            "n_embd": self.required("embedding_length")?,
            "n_inner": self.required("feed_forward_length")?,
            "n_layer": self.required("block_count")?,
            "n_head": self.required("attention.head_count")?,
            "n_positions": self.required("context_length")?,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": self.number("attention.layer_norm_epsilon")?,
            "tie_word_embeddings": self.tied(),
        }))
    }

    fn bert(&self) -> Result<Json> {
        Ok(json!({
            "architectures": ["BertModel"],
            "model_type": "bert",
            "hidden_size": self.required("embedding_length")?,
            "intermediate_size": self.required("feed_forward_length")?,
            "num_hidden_layers": self.required("block_count")?,
            "num_attention_heads": self.required("attention.head_count")?,
            "max_position_embeddings": self.required("context_length")?,
            "type_vocab_size": self.rows("token_types.weight").unwrap_or(0),
            "hidden_act": "gelu",
            "layer_norm_eps": self.number("attention.layer_norm_epsilon")?,
        }))
    }

    /// What follows an encoder's last block. GGUF doesn't say whether embeddings are normalised; llama.cpp does it by default.
    pub fn sentence_head(&self) -> Result<SentenceHead> {
        let pooling = match self.size("pooling_type")? {
            None | Some(0) => return Ok(SentenceHead::NONE),
            Some(1) => Pooling::Mean,
            Some(2) => Pooling::Cls,
            Some(other) => {
                let field = self.full("pooling_type");
                return Err(Error::unsupported(
                    self.path,
                    field,
                    other,
                    "0 (none), 1 (mean), 2 (first token)",
                ));
            }
        };
        Ok(SentenceHead {
            pooling,
            normalise: true,
        })
    }
}
