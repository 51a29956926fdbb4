//! BERT encoders.

use super::{Exporter, Storage};
use crate::architecture::EncoderConfig;
use crate::error::Result;
use crate::onnx::{Attribute, Dim, Element, Value, dims};

impl Exporter<'_> {
    /// Token ids, mask and token types in; the tokens' states and, where the model has one, the sentence embedding out. A classifier
    /// gives the logits of its classes instead.
    pub(super) fn encoder(&mut self, config: &EncoderConfig) -> Result<()> {
        let tokens = [dims::BATCH, dims::SEQUENCE];
        let ids = self.graph.input("input_ids", Element::I64, &tokens);
        let mask = self.graph.input("attention_mask", Element::I64, &tokens);
        let types = self.graph.input("token_type_ids", Element::I64, &tokens);
        let axis = [Attribute::int("start", 1), Attribute::int("end", 2)];
        let length = self.graph.op("Shape", "sequence_length", &[&ids], &axis);
        let mut x = self.bert_embedding(config, &ids, &types, &length)?;
        let attention_mask = self.attention_mask(&mask, &length);
        for layer in 0..config.layers {
            let last = layer + 1 == config.layers;
            let name = if last {
                "last_hidden_state".into()
            } else {
                format!("encoder.layer.{layer}")
            };
            x = self.bert_block(config, layer, x, &attention_mask, &name)?;
        }
        if !config.labels.is_empty() {
            let logits = self.classes(&x)?;
            let shape = [dims::BATCH, Dim::Size(config.labels.len())];
            self.graph.output(&logits, Element::F32, &shape);
            return Ok(());
        }
        let shape = [dims::BATCH, dims::SEQUENCE, Dim::Size(config.hidden_size)];
        self.graph.output(&x, Element::F32, &shape);
        if let Some(sentence) = self.sentence_embedding(config, &x, &mask) {
            let shape = [dims::BATCH, Dim::Size(config.hidden_size)];
            self.graph.output(&sentence, Element::F32, &shape);
        }
        Ok(())
    }

    /// The logits of the classes: the first token's state through the pooler, tanh and the classifier. The head is small, and stays in
    /// f32.
    fn classes(&mut self, states: &Value) -> Result<Value> {
        let first = self.graph.integers(&[], &[0]);
        let axis = [Attribute::int("axis", 1)];
        let first = self
            .graph
            .op("Gather", "pooler.first", &[states, &first], &axis);
        let pooled = self.head_layer("pooler.dense", "pooler.sum", &first)?;
        let pooled = self.graph.op("Tanh", "pooler", &[&pooled], &[]);
        self.head_layer("classifier", "logits", &pooled)
    }

    /// A linear layer of the head; its result is called `name`.
    fn head_layer(&mut self, module: &str, name: &str, x: &Value) -> Result<Value> {
        let weight = format!("{module}.weight");
        let tensor = self.tensor(&weight)?;
        let product = self.product(module, &weight, x, tensor, Storage::F32)?;
        let bias = self.stored(&format!("{module}.bias"))?;
        Ok(self.add(name, &product, &bias))
    }

    /// Words, token types and positions, added and normalised.
    fn bert_embedding(
        &mut self,
        config: &EncoderConfig,
        ids: &Value,
        types: &Value,
        length: &Value,
    ) -> Result<Value> {
        let (mut x, _) = self.embed("embeddings.word_embeddings.weight", ids)?;
        if config.token_types > 0 {
            let table = self.stored("embeddings.token_type_embeddings.weight")?;
            let node = "embeddings.token_type_embeddings";
            let rows = self.graph.op("Gather", node, &[&table, types], &[]);
            x = self.add("embeddings.with_types", &x, &rows);
        }
        let table = self.position_table(
            &config.positions,
            config.context_length,
            config.hidden_size,
            "embeddings.position_embeddings.weight",
        )?;
        if let Some(table) = table {
            // Positions count from the start of the row: the first rows of the table, as many as there are tokens.
            let zero = self.graph.integers(&[1], &[0]);
            let inputs = [&table, &zero, length, &zero];
            let rows = self
                .graph
                .op("Slice", "embeddings.position_embeddings", &inputs, &[]);
            x = self.add("embeddings.with_positions", &x, &rows);
        }
        self.layer_norm("embeddings.LayerNorm", &x, config.norm_eps)
    }

    /// The mask `[batch, sequence]` as truth values `[batch, 1, sequence, sequence]`: the same for every query. Attention may
    /// broadcast that dimension by its definition, but ONNX Runtime wants it written out.
    fn attention_mask(&mut self, mask: &Value, length: &Value) -> Value {
        let to = Attribute::int("to", i64::from(Element::Bool.code()));
        let keep = self.graph.op("Cast", "attention_mask.keep", &[mask], &[to]);
        let axes = self.graph.integers(&[2], &[1, 2]);
        let row = self
            .graph
            .op("Unsqueeze", "attention_mask.row", &[&keep, &axes], &[]);
        let one = self.graph.integers(&[1], &[1]);
        let parts = [&one, &one, length, &one];
        let shape = self.graph.op(
            "Concat",
            "attention_mask.shape",
            &parts,
            &[Attribute::int("axis", 0)],
        );
        self.graph
            .op("Expand", "attention_mask.rows", &[&row, &shape], &[])
    }

    /// One block: attention, then the feed-forward, each added and then normalised.
    fn bert_block(
        &mut self,
        config: &EncoderConfig,
        layer: usize,
        x: Value,
        mask: &Value,
        name: &str,
    ) -> Result<Value> {
        let block = format!("encoder.layer.{layer}");
        let attention = format!("{block}.attention");
        let query = self.linear(&format!("{attention}.self.query"), &x, true)?;
        let key = self.linear(&format!("{attention}.self.key"), &x, true)?;
        let value = self.linear(&format!("{attention}.self.value"), &x, true)?;
        let inputs = [&query, &key, &value];
        let node = format!("{attention}.self");
        let mixed = self.masked_attention(&node, inputs, mask, config.heads, config.head_dim());
        let out = self.linear(&format!("{attention}.output.dense"), &mixed, true)?;
        let sum = self.add(&format!("{attention}.residual"), &x, &out);
        let x = self.layer_norm(
            &format!("{attention}.output.LayerNorm"),
            &sum,
            config.norm_eps,
        )?;

        let inner = self.linear(&format!("{block}.intermediate.dense"), &x, true)?;
        let inner = self.activation(
            &format!("{block}.intermediate.act"),
            &inner,
            config.activation,
        );
        let out = self.linear(&format!("{block}.output.dense"), &inner, true)?;
        let sum = self.add(&format!("{block}.residual"), &x, &out);
        self.layer_norm_named(
            name,
            &format!("{block}.output.LayerNorm"),
            &sum,
            config.norm_eps,
        )
    }
}
