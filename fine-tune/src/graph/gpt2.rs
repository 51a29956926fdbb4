//! The GPT-2 family: LayerNorm, positions added to the embedding, a two-layer feed-forward.

use super::Exporter;
use super::attention::Cache;
use crate::architecture::DecoderConfig;
use crate::checkpoint::Tensor;
use crate::error::Result;
use crate::onnx::Value;

impl Exporter<'_> {
    /// From token ids to logits, and the grown caches.
    pub(super) fn gpt2(
        &mut self,
        config: &DecoderConfig,
        ids: &Value,
        positions: &Value,
        caches: &[Cache],
    ) -> Result<(Value, Vec<Cache>)> {
        let (mut x, embedding) = self.embed("transformer.wte.weight", ids)?;
        x = self.scale_embedding(config, x);
        x = self.add_positions(config, x, positions, "transformer.wpe.weight")?;
        let mut grown = Vec::with_capacity(caches.len());
        for (layer, cache) in caches.iter().enumerate() {
            let (next, cache) = self.gpt2_block(config, layer, x, cache)?;
            x = next;
            grown.push(cache);
        }
        let x = self.layer_norm("transformer.ln_f", &x, config.norm_eps)?;
        Ok((self.head(&x, &embedding, config.tied_embeddings)?, grown))
    }

    /// One block: attention, then the feed-forward, each added to the residual stream.
    fn gpt2_block(
        &mut self,
        config: &DecoderConfig,
        layer: usize,
        x: Value,
        past: &Cache,
    ) -> Result<(Value, Cache)> {
        let block = format!("transformer.h.{layer}");
        let attention = format!("{block}.attn");
        let normed = self.layer_norm(&format!("{block}.ln_1"), &x, config.norm_eps)?;
        let [query, key, value] = self.fused_attention_inputs(&attention, &normed, config)?;
        let inputs = [&query, &key, &value];
        let (mixed, cache) = self.cached_attention(config, layer, &attention, inputs, past);
        let out = self.conv1d(&format!("{attention}.c_proj"), &mixed)?;
        let x = self.add(&format!("{block}.attention_residual"), &x, &out);

        let mlp = format!("{block}.mlp");
        let normed = self.layer_norm(&format!("{block}.ln_2"), &x, config.norm_eps)?;
        let inner = self.conv1d(&format!("{mlp}.c_fc"), &normed)?;
        let inner = self.activation(&format!("{mlp}.act"), &inner, config.activation);
        let out = self.conv1d(&format!("{mlp}.c_proj"), &inner)?;
        Ok((self.add(&format!("{block}.mlp_residual"), &x, &out), cache))
    }

    /// GPT-2's linear layer, whose weight is `[in, out]`.
    fn conv1d(&mut self, module: &str, x: &Value) -> Result<Value> {
        let weight = self.tensor(&format!("{module}.weight"))?.transposed();
        let bias = self.tensor(&format!("{module}.bias"))?;
        self.linear_of(module, x, weight, Some(bias))
    }

    /// Query, key and value out of `c_attn`, which holds their weights side by side: split here, once, and not in the graph.
    fn fused_attention_inputs(
        &mut self,
        attention: &str,
        x: &Value,
        config: &DecoderConfig,
    ) -> Result<[Value; 3]> {
        let fused = format!("{attention}.c_attn");
        let weight = self.tensor(&format!("{fused}.weight"))?.transposed();
        let bias = self.tensor(&format!("{fused}.bias"))?;
        let width = config.hidden_size;
        let mut part = |index: usize, name: &str| {
            let (start, end) = (index * width, (index + 1) * width);
            let rows = slice(&weight.data, start * width, end * width);
            let weight = Tensor {
                shape: vec![width, width],
                data: rows,
            };
            let bias = Tensor {
                shape: vec![width],
                data: slice(&bias.data, start, end),
            };
            self.linear_of(&format!("{fused}.{name}"), x, weight, Some(bias))
        };
        let parts = [part(0, "q")?, part(1, "k")?, part(2, "v")?];
        self.adapted_parts(&fused, x, parts)
    }
}

fn slice(values: &[f32], start: usize, end: usize) -> Vec<f32> {
    values
        .get(start..end)
        .map(<[f32]>::to_vec)
        .unwrap_or_default()
}
