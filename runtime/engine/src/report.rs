//! What a loaded model consists of, for people and programs that want to know.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use tract_core::internal::TypedOp;

use crate::KvFormat;
use crate::model::{Inner, Model, op};
use crate::ops::{GatedLinear, Int8Linear, QuantLinear};
use crate::rewrite::AttentionSpec;
use crate::weights::{PackedInt8, PackedMatrix};

/// A model by its parts.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The instruction set that kernels were chosen for.
    pub isa: &'static str,
    /// Threads that run the model.
    pub threads: usize,
    /// How many ops of each type the plan has.
    pub ops: BTreeMap<String, usize>,
    /// The linear layers, each with its kernel.
    pub linears: Vec<LinearReport>,
    /// The tables that rows are looked up in.
    pub tables: Vec<TableReport>,
    /// The cache file that packed weights are mapped from; none if they are in memory of their own.
    pub weights_file: Option<PathBuf>,
    /// How the cache stores keys and values.
    pub kv_format: KvFormat,
    /// Bytes of cache that a token takes.
    pub kv_bytes_per_token: usize,
    /// The most tokens a session can hold.
    pub context_length: usize,
}

/// One matrix that is multiplied.
#[derive(Debug, Clone, Serialize)]
pub struct LinearReport {
    /// Its name in the model; several that were joined have a `+` between.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Bytes in memory.
    pub bytes: usize,
    /// The kernel that multiplies it.
    pub kernel: &'static str,
}

/// One table that rows are looked up in.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    /// Its node in the model.
    pub name: String,
    /// Rows.
    pub rows: usize,
    /// Numbers a row.
    pub cols: usize,
    /// How they are stored.
    pub format: String,
    /// Bytes in the model's file, read from there; 0 if the output layer is the same matrix and serves the rows.
    pub bytes: usize,
}

impl Report {
    pub(crate) fn of(inner: &Inner) -> Report {
        let mut ops: BTreeMap<String, usize> = BTreeMap::new();
        let mut linears = Vec::new();
        for (_, node) in Model::nodes(inner) {
            *ops.entry(node.name().into_owned()).or_default() += 1;
            linears.extend(matrices(node).into_iter().map(LinearReport::of));
            if let Some(linear) = op::<Int8Linear>(node) {
                linears.push(LinearReport::of_int8(linear.weights()));
            }
        }
        if let Some(head) = &inner.head {
            linears.extend(head.matrices().iter().map(LinearReport::of));
        }
        let tables = inner.tables().map(|(name, gather)| {
            let table = gather.table();
            TableReport {
                name: name.to_owned(),
                rows: table.rows(),
                cols: table.cols(),
                format: table.format().to_owned(),
                bytes: table.bytes(),
            }
        });
        let kv = inner.machine.kv;
        let layer_bytes = |spec: &AttentionSpec| 2 * spec.kv_heads * kv.row_bytes(spec.head_dim);
        let kv_bytes_per_token = inner
            .attentions()
            .map(|attention| layer_bytes(attention.spec()))
            .sum();
        Report {
            isa: inner.machine.isa.name(),
            threads: inner.machine.pool.threads(),
            ops,
            linears,
            tables: tables.collect(),
            weights_file: inner.weights_file.clone(),
            kv_format: kv,
            kv_bytes_per_token,
            context_length: inner.machine.context,
        }
    }

    /// Bytes of weights that are read for one token: all linear layers, not the tables.
    pub fn weights_bytes(&self) -> usize {
        self.linears.iter().map(|linear| linear.bytes).sum()
    }

    /// Bytes of linear layers by the kernel that multiplies them.
    pub fn bytes_by_kernel(&self) -> BTreeMap<&'static str, usize> {
        let mut bytes = BTreeMap::new();
        for linear in &self.linears {
            *bytes.entry(linear.kernel).or_default() += linear.bytes;
        }
        bytes
    }

    /// Bytes of cache that a session of `tokens` tokens takes.
    pub fn kv_bytes(&self, tokens: usize) -> usize {
        self.kv_bytes_per_token.saturating_mul(tokens)
    }
}

/// Bytes of all matrices that an op of the plan multiplies by.
pub(crate) fn weight_bytes(node: &dyn TypedOp) -> usize {
    let by_blocks: usize = matrices(node).iter().map(|matrix| matrix.bytes()).sum();
    let by_rows = op::<Int8Linear>(node).map_or(0, |linear| linear.weights().bytes());
    by_blocks + by_rows
}

fn matrices(node: &dyn TypedOp) -> Vec<&PackedMatrix> {
    let linear = op::<QuantLinear>(node).map(|linear| linear.weights().matrices().iter().collect());
    let gated = || Some(op::<GatedLinear>(node)?.matrices().into());
    linear.or_else(gated).unwrap_or_default()
}

impl LinearReport {
    fn of_int8(layer: &PackedInt8) -> LinearReport {
        LinearReport {
            name: layer.name().to_owned(),
            rows: layer.rows(),
            cols: layer.cols(),
            bytes: layer.bytes(),
            kernel: layer.kernel().name(),
        }
    }

    fn of(matrix: &PackedMatrix) -> LinearReport {
        LinearReport {
            name: matrix.name().to_owned(),
            rows: matrix.rows(),
            cols: matrix.cols(),
            bytes: matrix.bytes(),
            kernel: matrix.kernel().name(),
        }
    }
}
