//! The Llama family: Llama, SmolLM2, Mistral, Qwen2, Qwen3.

use super::Exporter;
use super::attention::Cache;
use super::positions::RotaryTables;
use crate::architecture::{DecoderConfig, Positions};
use crate::error::Result;
use crate::onnx::Value;

impl Exporter<'_> {
    /// From token ids to logits, and the grown caches.
    pub(super) fn llama(
        &mut self,
        config: &DecoderConfig,
        ids: &Value,
        positions: &Value,
        caches: &[Cache],
    ) -> Result<(Value, Vec<Cache>)> {
        let (mut x, embedding) = self.embed("model.embed_tokens.weight", ids)?;
        x = self.scale_embedding(config, x);
        x = self.add_positions(config, x, positions, "model.embed_positions.weight")?;
        let rotary = match &config.positions {
            Positions::Rotary(rotary) => Some(self.rotary_tables(rotary, config.context_length)?),
            Positions::Learned | Positions::Sinusoidal => None,
        };
        let mut grown = Vec::with_capacity(caches.len());
        for (layer, cache) in caches.iter().enumerate() {
            let rotary = rotary.as_ref().map(|tables| (tables, positions));
            let (next, cache) = self.llama_block(config, layer, x, rotary, cache)?;
            x = next;
            grown.push(cache);
        }
        let x = self.rms_norm("model.norm", &x, config.norm_eps)?;
        Ok((self.head(&x, &embedding, config.tied_embeddings)?, grown))
    }

    /// One block: attention, then the gated feed-forward, each added to the residual stream.
    fn llama_block(
        &mut self,
        config: &DecoderConfig,
        layer: usize,
        x: Value,
        rotary: Option<(&RotaryTables, &Value)>,
        past: &Cache,
    ) -> Result<(Value, Cache)> {
        let block = format!("model.layers.{layer}");
        let attention = format!("{block}.self_attn");
        let normed = self.rms_norm(&format!("{block}.input_layernorm"), &x, config.norm_eps)?;
        let mut query = self.linear(&format!("{attention}.q_proj"), &normed, config.biases.qkv)?;
        let mut key = self.linear(&format!("{attention}.k_proj"), &normed, config.biases.qkv)?;
        let value = self.linear(&format!("{attention}.v_proj"), &normed, config.biases.qkv)?;
        if config.qk_norm {
            query = self.head_norm(&format!("{attention}.q_norm"), &query, config.heads, config)?;
            key = self.head_norm(
                &format!("{attention}.k_norm"),
                &key,
                config.kv_heads,
                config,
            )?;
        }
        if let Some((tables, positions)) = rotary {
            let (heads, kv_heads, width) = (config.heads, config.kv_heads, config.head_dim);
            let name = format!("{attention}.q_rotary");
            query = self.rotate(&name, &query, positions, tables, heads, width);
            let name = format!("{attention}.k_rotary");
            key = self.rotate(&name, &key, positions, tables, kv_heads, width);
        }
        let inputs = [&query, &key, &value];
        let (mixed, cache) = self.cached_attention(config, layer, &attention, inputs, past);
        let out = self.linear(
            &format!("{attention}.o_proj"),
            &mixed,
            config.biases.attention_output,
        )?;
        let x = self.add(&format!("{block}.attention_residual"), &x, &out);

        let mlp = format!("{block}.mlp");
        let norm = format!("{block}.post_attention_layernorm");
        let normed = self.rms_norm(&norm, &x, config.norm_eps)?;
        let gate = self.linear(&format!("{mlp}.gate_proj"), &normed, config.biases.mlp)?;
        let up = self.linear(&format!("{mlp}.up_proj"), &normed, config.biases.mlp)?;
        let gate = self.activation(&format!("{mlp}.act_fn"), &gate, config.activation);
        let gated = self
            .graph
            .op("Mul", &format!("{mlp}.gated"), &[&gate, &up], &[]);
        let out = self.linear(&format!("{mlp}.down_proj"), &gated, config.biases.mlp)?;
        Ok((self.add(&format!("{block}.mlp_residual"), &x, &out), cache))
    }

    /// Qwen3's norm over each head of a projection `[batch, sequence, heads * head_dim]`.
    fn head_norm(
        &mut self,
        module: &str,
        x: &Value,
        heads: usize,
        config: &DecoderConfig,
    ) -> Result<Value> {
        let split = [0, 0, heads as i64, config.head_dim as i64];
        let split = self.graph.integers(&[4], &split);
        let x = self
            .graph
            .op("Reshape", &format!("{module}.split"), &[x, &split], &[]);
        let x = self.rms_norm(module, &x, config.norm_eps)?;
        let joined = self
            .graph
            .integers(&[3], &[0, 0, (heads * config.head_dim) as i64]);
        Ok(self
            .graph
            .op("Reshape", &format!("{module}.join"), &[&x, &joined], &[]))
    }

    /// Multiplies embedded tokens where the config asks for it.
    pub(super) fn scale_embedding(&mut self, config: &DecoderConfig, x: Value) -> Value {
        if config.embedding_scale == 1.0 {
            return x;
        }
        let scale = self.graph.scalar(config.embedding_scale);
        self.graph.op("Mul", "embedding.scaled", &[&x, &scale], &[])
    }
}
