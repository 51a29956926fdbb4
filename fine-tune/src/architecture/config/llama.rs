//! Configs of the Llama family: `llama`, `mistral`, `qwen2`, `qwen3`.

use serde_json::Value;

use super::{Fields, MAX_CONTEXT, MAX_LAYERS, MAX_VOCAB, MAX_WIDTH, check_class};
use crate::architecture::{
    Activation, Biases, DecoderConfig, DecoderFamily, Llama3Scaling, Positions, RopeScaling,
    Rotary, YarnScaling,
};
use crate::error::Result;

const CLASSES: &[&str] = &[
    "LlamaForCausalLM",
    "LlamaModel",
    "MistralForCausalLM",
    "MistralModel",
    "Qwen2ForCausalLM",
    "Qwen2Model",
    "Qwen3ForCausalLM",
    "Qwen3Model",
];

pub fn parse(fields: &Fields, model_type: &str) -> Result<DecoderConfig> {
    check_class(fields, CLASSES)?;
    let hidden_size = fields.size("hidden_size", MAX_WIDTH)?;
    let layers = fields.size("num_hidden_layers", MAX_LAYERS)?;
    let heads = fields.size("num_attention_heads", MAX_WIDTH)?;
    let kv_heads = fields
        .optional_size("num_key_value_heads", MAX_WIDTH)?
        .unwrap_or(heads);
    if heads % kv_heads != 0 {
        return Err(fields.unsupported(
            "num_key_value_heads",
            kv_heads,
            &format!("a divisor of num_attention_heads, {heads}"),
        ));
    }
    let head_dim = match fields.optional_size("head_dim", MAX_WIDTH)? {
        Some(head_dim) => head_dim,
        None if model_type == "qwen3" => 128,
        None if hidden_size % heads == 0 => hidden_size / heads,
        None => {
            return Err(fields.unsupported(
                "num_attention_heads",
                heads,
                &format!("a divisor of hidden_size, {hidden_size}, or a config with head_dim"),
            ));
        }
    };
    let name = fields.text("hidden_act")?.unwrap_or("silu");
    let activation = Activation::from_name(name)
        .filter(|activation| *activation == Activation::Silu)
        .ok_or_else(|| fields.unsupported("hidden_act", name, "silu"))?;
    let context_length = fields.size("max_position_embeddings", MAX_CONTEXT)?;
    refuse_windows(fields, model_type, context_length)?;
    let (qkv, attention_output) = match model_type {
        "qwen2" => (true, false),
        "mistral" => (false, false),
        _ => {
            let flag = fields.flag_or("attention_bias", false)?;
            (flag, flag)
        }
    };
    Ok(DecoderConfig {
        family: DecoderFamily::Llama,
        model_type: model_type.to_owned(),
        vocab_size: fields.size("vocab_size", MAX_VOCAB)?,
        hidden_size,
        layers,
        heads,
        kv_heads,
        head_dim,
        intermediate_size: fields.size("intermediate_size", MAX_WIDTH)?,
        context_length,
        norm_eps: fields.epsilon_or("rms_norm_eps", 1e-6)?,
        positions: Positions::Rotary(rotary(fields, head_dim, context_length)?),
        activation,
        biases: Biases {
            qkv,
            attention_output,
            mlp: model_type == "llama" && fields.flag_or("mlp_bias", false)?,
        },
        qk_norm: model_type == "qwen3",
        tied_embeddings: fields.flag_or("tie_word_embeddings", false)?,
        attention_scale: (head_dim as f64).powf(-0.5) as f32,
        embedding_scale: 1.0,
    })
}

/// Refuses attention that sees less than the whole context.
fn refuse_windows(fields: &Fields, model_type: &str, context: usize) -> Result<()> {
    let full = "full attention: a sliding window must be off, or no shorter than the context";
    if let Some(Value::Array(types)) = fields.get("layer_types")
        && let Some(other) = types.iter().find(|t| t.as_str() != Some("full_attention"))
    {
        return Err(fields.unsupported("layer_types", other, full));
    }
    // Llama has no window; Qwen's is off unless switched on; Mistral's is on where there is a width.
    let on = match model_type {
        "llama" => false,
        "mistral" => true,
        _ => fields.flag_or("use_sliding_window", false)?,
    };
    match fields.optional_size("sliding_window", MAX_CONTEXT)? {
        Some(window) if on && window < context => {
            Err(fields.unsupported("sliding_window", window, full))
        }
        _ => Ok(()),
    }
}

fn rotary(fields: &Fields, head_dim: usize, context: usize) -> Result<Rotary> {
    let parameters = match fields.object("rope_parameters")? {
        Some(parameters) => Some(parameters),
        None => fields.object("rope_scaling")?,
    };
    let number = |name: &str| -> Result<Option<f64>> {
        match parameters.map(|p| p.positive(name)).transpose()?.flatten() {
            Some(n) => Ok(Some(n)),
            None => fields.positive(name),
        }
    };
    let theta = number("rope_theta")?.unwrap_or(10_000.0);
    if theta <= 1.0 {
        return Err(fields.unsupported("rope_theta", theta, "a number above 1"));
    }
    let share = number("partial_rotary_factor")?.unwrap_or(1.0);
    // A share that was divided before must not come out just below a whole number.
    let dims = (head_dim as f64 * share + 1e-6) as usize;
    if dims == 0 || !dims.is_multiple_of(2) || dims > head_dim {
        return Err(fields.unsupported(
            "partial_rotary_factor",
            format!("{share}, so that {dims} of {head_dim} elements of a head rotate"),
            "an even number of elements, at most a head's width",
        ));
    }
    let scaling = match parameters {
        Some(parameters) => scaling(&parameters, dims, context)?,
        None => RopeScaling::None,
    };
    Ok(Rotary {
        theta,
        dims,
        scaling,
    })
}

fn scaling(fields: &Fields, dims: usize, context: usize) -> Result<RopeScaling> {
    let kind = match fields.text("rope_type")? {
        Some(kind) => kind,
        None => fields.text("type")?.unwrap_or("default"),
    };
    let required = |name: &str| -> Result<f64> {
        fields.positive(name)?.ok_or_else(|| {
            fields.unsupported(
                name,
                "missing",
                &format!("a number above zero, which {kind} needs"),
            )
        })
    };
    let original_context = || -> Result<usize> {
        Ok(fields
            .optional_size("original_max_position_embeddings", MAX_CONTEXT)?
            .unwrap_or(context))
    };
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear {
            factor: required("factor")?,
        }),
        "divisors" => divisors(fields, dims),
        "llama3" => {
            let scaling = Llama3Scaling {
                factor: required("factor")?,
                low_freq_factor: required("low_freq_factor")?,
                high_freq_factor: required("high_freq_factor")?,
                original_context: original_context()?,
            };
            if scaling.high_freq_factor <= scaling.low_freq_factor {
                return Err(fields.unsupported(
                    "high_freq_factor",
                    scaling.high_freq_factor,
                    "a number above low_freq_factor",
                ));
            }
            Ok(RopeScaling::Llama3(scaling))
        }
        "yarn" => {
            let original_context = original_context()?;
            let factor = fields
                .positive("factor")?
                .unwrap_or(context as f64 / original_context as f64);
            let mscale = fields
                .positive("mscale")?
                .zip(fields.positive("mscale_all_dim")?);
            let beta_fast = fields.positive("beta_fast")?.unwrap_or(32.0);
            let beta_slow = fields.positive("beta_slow")?.unwrap_or(1.0);
            if beta_fast < beta_slow {
                return Err(fields.unsupported("beta_fast", beta_fast, "at least beta_slow"));
            }
            Ok(RopeScaling::Yarn(YarnScaling {
                factor,
                original_context,
                beta_fast,
                beta_slow,
                truncate: fields.flag_or("truncate", true)?,
                attention_factor: fields
                    .positive("attention_factor")?
                    .unwrap_or_else(|| YarnScaling::suggested_attention_factor(factor, mscale)),
            }))
        }
        other => Err(fields.unsupported(
            "rope_type",
            other,
            "default, linear, llama3, yarn, divisors",
        )),
    }
}

/// Divisors that are listed one by one; this `rope_type` is ours, for GGUF files that have nothing else.
fn divisors(fields: &Fields, dims: usize) -> Result<RopeScaling> {
    let list = match fields.get("divisors") {
        Some(Value::Array(list)) => list.as_slice(),
        _ => &[],
    };
    let divisors: Vec<f32> = list
        .iter()
        .filter_map(Value::as_f64)
        .map(|divisor| divisor as f32)
        .filter(|divisor| divisor.is_finite() && *divisor > 0.0)
        .collect();
    if divisors.len() != dims / 2 || divisors.len() != list.len() {
        let supported = format!("{} numbers above zero", dims / 2);
        return Err(fields.unsupported(
            "divisors",
            format!("a list of {}", list.len()),
            &supported,
        ));
    }
    Ok(RopeScaling::Divisors(divisors))
}
