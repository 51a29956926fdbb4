//! Names and layouts of GGUF tensors, as llama.cpp's converter gives them, and back.

use super::super::stored::Layout;

/// The Hugging Face name and layout of the GGUF tensor `name` in a model of `architecture`; `None` for a tensor that the model
/// doesn't have there. `heads` and `kv_heads` are needed because the `llama` converter reorders q and k by head.
pub fn hugging_face(
    architecture: &str,
    name: &str,
    heads: usize,
    kv_heads: usize,
) -> Option<(String, Layout)> {
    let (stem, end) = name.rsplit_once('.')?;
    let (block, part) = match stem.strip_prefix("blk.") {
        Some(rest) => {
            let (block, part) = rest.split_once('.')?;
            (Some(block), part)
        }
        None => (None, stem),
    };
    let plain = |name: &str| Some((name.to_owned(), Layout::Same));
    let (name, layout) = match (architecture, block) {
        ("gpt2", block) => gpt2(block, part, end)?,
        ("bert", block) => bert(block, part).and_then(|name| plain(&name))?,
        (_, None) => plain(match part {
            "token_embd" => "model.embed_tokens",
            "output_norm" => "model.norm",
            "output" => "lm_head",
            _ => return None,
        })?,
        (_, Some(block)) => {
            let layout = match (architecture, part) {
                ("llama", "attn_q") => Layout::Interleaved { heads },
                ("llama", "attn_k") => Layout::Interleaved { heads: kv_heads },
                _ => Layout::Same,
            };
            (format!("model.layers.{block}.{}", llama(part)?), layout)
        }
    };
    Some((format!("{name}.{end}"), layout))
}

fn llama(part: &str) -> Option<&'static str> {
    Some(match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    })
}

fn gpt2(block: Option<&str>, part: &str, end: &str) -> Option<(String, Layout)> {
    let Some(block) = block else {
        let name = match part {
            "token_embd" => "transformer.wte",
            "position_embd" => "transformer.wpe",
            "output_norm" => "transformer.ln_f",
            "output" => "lm_head",
            _ => return None,
        };
        return Some((name.to_owned(), Layout::Same));
    };
    let (name, linear) = match part {
        "attn_norm" => ("ln_1", false),
        "attn_qkv" => ("attn.c_attn", true),
        "attn_output" => ("attn.c_proj", true),
        "ffn_norm" => ("ln_2", false),
        "ffn_up" => ("mlp.c_fc", true),
        "ffn_down" => ("mlp.c_proj", true),
        _ => return None,
    };
    let layout = if linear && end == "weight" {
        Layout::Transposed
    } else {
        Layout::Same
    };
    Some((format!("transformer.h.{block}.{name}"), layout))
}

fn bert(block: Option<&str>, part: &str) -> Option<String> {
    let Some(block) = block else {
        let name = match part {
            "token_embd" => "word_embeddings",
            "position_embd" => "position_embeddings",
            "token_types" => "token_type_embeddings",
            "token_embd_norm" => "LayerNorm",
            _ => return None,
        };
        return Some(format!("embeddings.{name}"));
    };
    let name = match part {
        "attn_q" => "attention.self.query",
        "attn_k" => "attention.self.key",
        "attn_v" => "attention.self.value",
        "attn_output" => "attention.output.dense",
        "attn_output_norm" => "attention.output.LayerNorm",
        "ffn_up" => "intermediate.dense",
        "ffn_down" => "output.dense",
        "layer_output_norm" => "output.LayerNorm",
        _ => return None,
    };
    Some(format!("encoder.layer.{block}.{name}"))
}
