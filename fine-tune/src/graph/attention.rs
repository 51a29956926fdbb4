//! Attention: causal over a growing cache in decoders, masked in both directions in encoders.

use super::Exporter;
use crate::architecture::DecoderConfig;
use crate::onnx::{Attribute, Dim, Element, Value, dims};

/// One layer's keys and values, each `[batch, kv_heads, positions, head_dim]`.
pub(super) struct Cache {
    key: Value,
    value: Value,
}

impl Exporter<'_> {
    /// Declares the cache of every layer as inputs.
    pub(super) fn cache_inputs(&mut self, config: &DecoderConfig) -> Vec<Cache> {
        let shape = cache_shape(config, dims::PAST);
        let mut input = |name: String| self.graph.input(&name, Element::F32, &shape);
        (0..config.layers)
            .map(|layer| Cache {
                key: input(format!("past_key_values.{layer}.key")),
                value: input(format!("past_key_values.{layer}.value")),
            })
            .collect()
    }

    /// Declares the grown cache of every layer as outputs.
    pub(super) fn cache_outputs(&mut self, config: &DecoderConfig, caches: &[Cache]) {
        let shape = cache_shape(config, dims::TOTAL);
        for cache in caches {
            self.graph.output(&cache.key, Element::F32, &shape);
            self.graph.output(&cache.value, Element::F32, &shape);
        }
    }

    /// Causal attention of layer `layer` over the cache and the new keys and values, all `[batch, sequence, heads * head_dim]`.
    /// The mask is aligned to the end of the cache: a chunk of tokens may follow any number of earlier ones.
    pub(super) fn cached_attention(
        &mut self,
        config: &DecoderConfig,
        layer: usize,
        name: &str,
        [query, key, value]: [&Value; 3],
        past: &Cache,
    ) -> (Value, Cache) {
        let present_key = format!("present.{layer}.key");
        let present_value = format!("present.{layer}.value");
        let inputs = [
            Some(query),
            Some(key),
            Some(value),
            None,
            Some(&past.key),
            Some(&past.value),
        ];
        let attributes = [
            Attribute::int("is_causal", 1),
            Attribute::int("q_num_heads", config.heads as i64),
            Attribute::int("kv_num_heads", config.kv_heads as i64),
            Attribute::float("scale", config.attention_scale),
        ];
        let outputs = [name, &present_key, &present_value];
        let mut made = self
            .graph
            .node("", "Attention", name, &inputs, &outputs, &attributes)
            .into_iter();
        // Three names were given, so three values come back; the fallbacks are the same names.
        let mut next = |fallback: &Value| made.next().unwrap_or_else(|| fallback.clone());
        let result = next(query);
        let cache = Cache {
            key: next(key),
            value: next(value),
        };
        (result, cache)
    }

    /// Attention in both directions among the tokens that `mask` keeps.
    pub(super) fn masked_attention(
        &mut self,
        name: &str,
        [query, key, value]: [&Value; 3],
        mask: &Value,
        heads: usize,
        head_dim: usize,
    ) -> Value {
        let attributes = [
            Attribute::int("q_num_heads", heads as i64),
            Attribute::int("kv_num_heads", heads as i64),
            Attribute::float("scale", 1.0 / (head_dim as f32).sqrt()),
        ];
        self.graph
            .op("Attention", name, &[query, key, value, mask], &attributes)
    }
}

fn cache_shape(config: &DecoderConfig, positions: Dim) -> [Dim; 4] {
    [
        dims::BATCH,
        Dim::Size(config.kv_heads),
        positions,
        Dim::Size(config.head_dim),
    ]
}
