//! A Llama-like decoder in f32, one block at a time over a whole text, on the runtime's own kernels.

use furlong_core::attention::{AttentionShape, Visible, attend};
use furlong_core::rope::{RopePairs, rope};
use furlong_core::{Floats, Isa, MatrixMut, activation, norm};
use rayon::prelude::*;

use super::Windows;
use super::product::linear;
use crate::architecture::{Activation, DecoderConfig, Positions, sinusoidal_table};
use crate::checkpoint::Tensor;
use crate::error::{Error, Result};

/// Where the weights of a decoder come from.
pub(super) trait Layers {
    /// A norm's gain, a bias or a table, by its name.
    ///
    /// # Errors
    /// When there is none, or it can't be read.
    fn vector(&self, name: &str) -> Result<Tensor>;

    /// The matrices of layers that are about to read `inputs` `[tokens, cols]`, by the names of their weights.
    ///
    /// # Errors
    /// As [`Layers::vector`].
    fn matrices(&mut self, names: &[String], inputs: &[f32], cols: usize) -> Result<Vec<Tensor>>;
}

/// A text on its way through the blocks.
pub(super) struct Llama<'c> {
    config: &'c DecoderConfig,
    isa: Isa,
    /// Tokens of a window.
    length: usize,
    /// Cosines and sines, `[positions, dims / 2]`, where positions are rotary.
    rotary: Option<(Vec<f32>, Vec<f32>)>,
    /// Hidden states, `[tokens, hidden]`.
    pub(super) x: Vec<f32>,
}

/// An error of a kernel: shapes that a checked config can't have.
pub(super) fn kernel_error(error: furlong_core::Error) -> Error {
    Error::Export {
        path: std::path::PathBuf::from("calibration"),
        reason: format!("{error}; leave --calibrate out"),
    }
}

impl<'c> Llama<'c> {
    /// Looks the tokens of `windows` up.
    pub(super) fn read(
        config: &'c DecoderConfig,
        windows: &Windows,
        layers: &impl Layers,
    ) -> Result<Llama<'c>> {
        let (hidden, length) = (config.hidden_size, windows.length);
        let table = layers.vector("model.embed_tokens.weight")?;
        let mut x = Vec::with_capacity(windows.tokens.len() * hidden);
        for &token in &windows.tokens {
            let start = token as usize * hidden;
            let row = table.data.get(start..start + hidden).ok_or(Error::Runtime(
                furlong_runtime::Error::Token {
                    token,
                    vocab_size: config.vocab_size,
                },
            ))?;
            x.extend(row.iter().map(|value| value * config.embedding_scale));
        }
        let mut rotary = None;
        let added = match &config.positions {
            Positions::Rotary(tables) => {
                rotary = Some(tables.tables(length));
                None
            }
            Positions::Learned => Some(layers.vector("model.embed_positions.weight")?.data),
            Positions::Sinusoidal => Some(sinusoidal_table(length, hidden)),
        };
        if let Some(table) = added {
            for window in x.chunks_mut((length * hidden).max(1)) {
                window.iter_mut().zip(&table).for_each(|(x, p)| *x += p);
            }
        }
        Ok(Llama {
            config,
            isa: Isa::detect(),
            length,
            rotary,
            x,
        })
    }

    /// Takes the text through block `index`.
    pub(super) fn block(&mut self, index: usize, layers: &mut impl Layers) -> Result<()> {
        let (config, biases) = (self.config, self.config.biases);
        let block = format!("model.layers.{index}");
        let attention = format!("{block}.self_attn");

        let normed = self.normed(&format!("{block}.input_layernorm"), layers)?;
        let names = ["q_proj", "k_proj", "v_proj"];
        let parts = self.linears(
            &attention,
            &names,
            biases.qkv,
            &normed,
            config.hidden_size,
            layers,
        )?;
        let Ok([mut query, mut key, value]) = <[Vec<f32>; 3]>::try_from(parts) else {
            return Ok(());
        };
        for (name, heads) in [("q_norm", &mut query), ("k_norm", &mut key)] {
            let gain = match config.qk_norm {
                true => Some(layers.vector(&format!("{attention}.{name}.weight"))?),
                false => None,
            };
            self.place(heads, gain.as_ref())?;
        }
        let mixed = self.attend(&query, &key, &value)?;
        self.add_linear(
            &attention,
            "o_proj",
            biases.attention_output,
            &mixed,
            layers,
        )?;

        let mlp = format!("{block}.mlp");
        let normed = self.normed(&format!("{block}.post_attention_layernorm"), layers)?;
        let names = ["gate_proj", "up_proj"];
        let parts = self.linears(
            &mlp,
            &names,
            biases.mlp,
            &normed,
            config.hidden_size,
            layers,
        )?;
        let Ok([mut gate, up]) = <[Vec<f32>; 2]>::try_from(parts) else {
            return Ok(());
        };
        self.activate(&mut gate);
        gate.par_iter_mut()
            .zip(&up)
            .for_each(|(gate, up)| *gate *= up);
        self.add_linear(&mlp, "down_proj", biases.mlp, &gate, layers)
    }

    /// The hidden states, normalised.
    pub(super) fn normed(&self, module: &str, layers: &impl Layers) -> Result<Vec<f32>> {
        let gain = layers.vector(&format!("{module}.weight"))?.data;
        let mut out = vec![0.0; self.x.len()];
        let epsilon = self.config.norm_eps;
        norm::rms_norm(self.isa, &self.x, &gain, epsilon, &mut out).map_err(kernel_error)?;
        Ok(out)
    }

    /// Layers that read the same inputs `[tokens, cols]`.
    fn linears(
        &self,
        parent: &str,
        modules: &[&str],
        bias: bool,
        inputs: &[f32],
        cols: usize,
        layers: &mut impl Layers,
    ) -> Result<Vec<Vec<f32>>> {
        let names: Vec<String> = modules
            .iter()
            .map(|module| format!("{parent}.{module}.weight"))
            .collect();
        let weights = layers.matrices(&names, inputs, cols)?;
        let mut outputs = Vec::new();
        for (module, weight) in modules.iter().zip(&weights) {
            let bias = match bias {
                true => Some(layers.vector(&format!("{parent}.{module}.bias"))?),
                false => None,
            };
            outputs.push(linear(inputs, weight, bias.as_ref())?);
        }
        Ok(outputs)
    }

    /// A layer whose output is added to the hidden states.
    fn add_linear(
        &mut self,
        parent: &str,
        module: &str,
        bias: bool,
        inputs: &[f32],
        layers: &mut impl Layers,
    ) -> Result<()> {
        let tokens = self.x.len() / self.config.hidden_size.max(1);
        let cols = inputs.len() / tokens.max(1);
        for output in self.linears(parent, &[module], bias, inputs, cols, layers)? {
            norm::add(self.isa, &mut self.x, &output).map_err(kernel_error)?;
        }
        Ok(())
    }

    /// Normalises heads, where `gain` is given, and turns them to their positions.
    fn place(&self, heads: &mut [f32], gain: Option<&Tensor>) -> Result<()> {
        let (dim, epsilon) = (self.config.head_dim, self.config.norm_eps);
        let tokens = self.x.len() / self.config.hidden_size.max(1);
        let width = heads.len() / tokens.max(1);
        let rows = heads.par_chunks_mut(width.max(1)).enumerate();
        rows.try_for_each(|(token, row)| {
            for head in row.chunks_exact_mut(dim) {
                if let Some(gain) = gain {
                    let whole = head.to_vec();
                    norm::rms_norm(self.isa, &whole, &gain.data, epsilon, head)?;
                }
                if let Some((cos, sin)) = &self.rotary {
                    let half = cos.len() / self.length;
                    let at = token % self.length * half..(token % self.length + 1) * half;
                    let cos = cos.get(at.clone()).unwrap_or_default();
                    let sin = sin.get(at).unwrap_or_default();
                    rope(self.isa, RopePairs::Halves, head, cos, sin)?;
                }
            }
            Ok(())
        })
        .map_err(kernel_error)
    }

    /// Causal attention within each window: `[tokens, heads · head_dim]`.
    fn attend(&self, query: &[f32], key: &[f32], value: &[f32]) -> Result<Vec<f32>> {
        let config = self.config;
        let (dim, group) = (config.head_dim, config.heads / config.kv_heads.max(1));
        let (width, kv_width) = (config.query_width(), config.kv_width());
        let mut mixed = vec![0.0; query.len()];
        let windows = mixed
            .par_chunks_mut((self.length * width).max(1))
            .zip(query.par_chunks((self.length * width).max(1)))
            .zip(key.par_chunks((self.length * kv_width).max(1)))
            .zip(value.par_chunks((self.length * kv_width).max(1)));
        windows
            .try_for_each(|(((out, query), key), value)| {
                let shape = AttentionShape {
                    tokens: self.length,
                    group,
                    head_dim: dim,
                    value_dim: dim,
                    query_stride: width,
                    scale: config.attention_scale,
                    softcap: None,
                    visible: Visible::Causal {
                        first: 0,
                        window: None,
                    },
                };
                let mut rest = MatrixMut::new(out, self.length, width)?;
                for head in 0..config.kv_heads {
                    let column = |all: &[f32]| -> Vec<f32> {
                        let rows = all.chunks_exact(kv_width);
                        let parts = rows.filter_map(|row| row.get(head * dim..(head + 1) * dim));
                        parts.flatten().copied().collect()
                    };
                    let (keys, values) = (column(key), column(value));
                    let (own, after) = rest.split_at_column(group * dim);
                    rest = after;
                    let queries = query.get(head * group * dim..).unwrap_or_default();
                    let (keys, values) = (Floats::F32(&keys), Floats::F32(&values));
                    attend(self.isa, &shape, queries, keys, values, own)?;
                }
                Ok(())
            })
            .map_err(kernel_error)?;
        Ok(mixed)
    }

    fn activate(&self, values: &mut [f32]) {
        let isa = self.isa;
        values
            .par_chunks_mut(1 << 14)
            .for_each(|part| match self.config.activation {
                Activation::Silu => activation::silu(isa, part),
                Activation::GeluTanh => activation::gelu_tanh(isa, part),
                Activation::GeluErf => activation::gelu_erf(isa, part),
                Activation::Relu => part.iter_mut().for_each(|x| *x = x.max(0.0)),
            });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::SafeTensors;

    use super::*;
    use crate::architecture::Architecture;
    use crate::checkpoint::Checkpoint;

    /// Weights as they are.
    struct Plain<'a>(&'a Checkpoint);

    impl Layers for Plain<'_> {
        fn vector(&self, name: &str) -> Result<Tensor> {
            self.0.tensor(name)
        }

        fn matrices(&mut self, names: &[String], _: &[f32], _: usize) -> Result<Vec<Tensor>> {
            names.iter().map(|name| self.0.tensor(name)).collect()
        }
    }

    #[test]
    fn logits_are_those_of_the_reference_implementation() {
        for name in ["llama", "llama3-rope", "yarn-rope", "qwen2", "qwen3"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../tests/golden")
                .join(name);
            let checkpoint = Checkpoint::open(&folder).unwrap();
            let Architecture::Decoder(config) = checkpoint.architecture() else {
                panic!("{name} is a decoder");
            };
            let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
            let expected = SafeTensors::deserialize(&bytes).unwrap();
            let ids = expected.tensor("input_ids").unwrap();
            let ids = ids
                .data()
                .chunks(8)
                .map(|id| i64::from_le_bytes(id.try_into().unwrap()));
            let tokens: Vec<u32> = ids.map(|id| id as u32).collect();
            let windows = Windows {
                length: tokens.len(),
                tokens: [tokens.clone(), tokens].concat(),
            };
            let mut layers = Plain(&checkpoint);
            let mut llama = Llama::read(config, &windows, &layers).unwrap();
            for block in 0..config.layers {
                llama.block(block, &mut layers).unwrap();
            }
            let hidden = llama.normed("model.norm", &layers).unwrap();
            let head = match config.tied_embeddings {
                true => "model.embed_tokens.weight",
                false => "lm_head.weight",
            };
            let logits = linear(&hidden, &checkpoint.tensor(head).unwrap(), None).unwrap();
            let expected = expected.tensor("logits").unwrap();
            let expected = expected
                .data()
                .chunks(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
            // Both windows are the same text.
            let expected: Vec<f32> = expected.collect();
            for (found, expected) in logits.iter().zip(expected.iter().cycle()) {
                assert!(
                    (found - expected).abs() < 1e-3,
                    "{name}: {found} {expected}"
                );
            }
            assert_eq!(logits.len(), 2 * expected.len());
        }
    }
}
