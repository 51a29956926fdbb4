//! Which tensors an architecture has: Hugging Face names and shapes. A checkpoint is checked against this list.

use super::{Architecture, DecoderConfig, DecoderFamily, EncoderConfig, Positions};

/// One tensor that a checkpoint must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Hugging Face name, with the prefix of the full model (`model.` for Llama, `transformer.` for GPT-2, none for BERT).
    pub name: String,
    /// Shape as Hugging Face stores it.
    pub shape: Vec<usize>,
}

impl Architecture {
    /// All tensors, in the order of the model: embeddings, blocks, final norm, head.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = List(Vec::new());
        match self {
            Architecture::Decoder(config) => match config.family {
                DecoderFamily::Llama => llama(config, &mut list),
                DecoderFamily::Gpt2 => gpt2(config, &mut list),
            },
            Architecture::Encoder(config) => bert(config, &mut list),
        }
        list.0
    }
}

struct List(Vec<TensorSpec>);

impl List {
    fn add(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.0.push(TensorSpec {
            name: name.into(),
            shape: shape.to_vec(),
        });
    }

    /// A weight `[out, in]` and, where `bias`, its bias `[out]`.
    fn linear(&mut self, name: String, out: usize, input: usize, bias: bool) {
        self.add(format!("{name}.weight"), &[out, input]);
        if bias {
            self.add(format!("{name}.bias"), &[out]);
        }
    }

    /// A weight `[in, out]` and its bias `[out]`.
    fn conv1d(&mut self, name: String, input: usize, out: usize) {
        self.add(format!("{name}.weight"), &[input, out]);
        self.add(format!("{name}.bias"), &[out]);
    }

    /// LayerNorm's weight and bias.
    fn layer_norm(&mut self, name: String, width: usize) {
        self.add(format!("{name}.weight"), &[width]);
        self.add(format!("{name}.bias"), &[width]);
    }
}

fn llama(config: &DecoderConfig, list: &mut List) {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let (query, kv, biases) = (config.query_width(), config.kv_width(), config.biases);
    list.add("model.embed_tokens.weight", &[config.vocab_size, hidden]);
    for layer in 0..config.layers {
        let block = format!("model.layers.{layer}");
        list.add(format!("{block}.input_layernorm.weight"), &[hidden]);
        list.linear(
            format!("{block}.self_attn.q_proj"),
            query,
            hidden,
            biases.qkv,
        );
        list.linear(format!("{block}.self_attn.k_proj"), kv, hidden, biases.qkv);
        list.linear(format!("{block}.self_attn.v_proj"), kv, hidden, biases.qkv);
        if config.qk_norm {
            list.add(
                format!("{block}.self_attn.q_norm.weight"),
                &[config.head_dim],
            );
            list.add(
                format!("{block}.self_attn.k_norm.weight"),
                &[config.head_dim],
            );
        }
        list.linear(
            format!("{block}.self_attn.o_proj"),
            hidden,
            query,
            biases.attention_output,
        );
        list.add(
            format!("{block}.post_attention_layernorm.weight"),
            &[hidden],
        );
        list.linear(format!("{block}.mlp.gate_proj"), inner, hidden, biases.mlp);
        list.linear(format!("{block}.mlp.up_proj"), inner, hidden, biases.mlp);
        list.linear(format!("{block}.mlp.down_proj"), hidden, inner, biases.mlp);
    }
    list.add("model.norm.weight", &[hidden]);
    if !config.tied_embeddings {
        list.add("lm_head.weight", &[config.vocab_size, hidden]);
    }
}

fn gpt2(config: &DecoderConfig, list: &mut List) {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    list.add("transformer.wte.weight", &[config.vocab_size, hidden]);
    if config.positions == Positions::Learned {
        list.add("transformer.wpe.weight", &[config.context_length, hidden]);
    }
    for layer in 0..config.layers {
        let block = format!("transformer.h.{layer}");
        list.layer_norm(format!("{block}.ln_1"), hidden);
        list.conv1d(
            format!("{block}.attn.c_attn"),
            hidden,
            hidden.saturating_mul(3),
        );
        list.conv1d(format!("{block}.attn.c_proj"), hidden, hidden);
        list.layer_norm(format!("{block}.ln_2"), hidden);
        list.conv1d(format!("{block}.mlp.c_fc"), hidden, inner);
        list.conv1d(format!("{block}.mlp.c_proj"), inner, hidden);
    }
    list.layer_norm("transformer.ln_f".to_owned(), hidden);
    if !config.tied_embeddings {
        list.add("lm_head.weight", &[config.vocab_size, hidden]);
    }
}

fn bert(config: &EncoderConfig, list: &mut List) {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    list.add(
        "embeddings.word_embeddings.weight",
        &[config.vocab_size, hidden],
    );
    if config.positions == Positions::Learned {
        list.add(
            "embeddings.position_embeddings.weight",
            &[config.context_length, hidden],
        );
    }
    if config.token_types > 0 {
        list.add(
            "embeddings.token_type_embeddings.weight",
            &[config.token_types, hidden],
        );
    }
    list.layer_norm("embeddings.LayerNorm".to_owned(), hidden);
    for layer in 0..config.layers {
        let block = format!("encoder.layer.{layer}");
        for part in ["query", "key", "value"] {
            list.linear(
                format!("{block}.attention.self.{part}"),
                hidden,
                hidden,
                true,
            );
        }
        list.linear(
            format!("{block}.attention.output.dense"),
            hidden,
            hidden,
            true,
        );
        list.layer_norm(format!("{block}.attention.output.LayerNorm"), hidden);
        list.linear(format!("{block}.intermediate.dense"), inner, hidden, true);
        list.linear(format!("{block}.output.dense"), hidden, inner, true);
        list.layer_norm(format!("{block}.output.LayerNorm"), hidden);
    }
    if !config.labels.is_empty() {
        list.linear("pooler.dense".to_owned(), hidden, hidden, true);
        list.linear("classifier".to_owned(), config.labels.len(), hidden, true);
    }
}
