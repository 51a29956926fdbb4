//! Our ops in tract's graph, one a file, and how they get there.
//!
//! tract makes a graph from a proto by plain functions that capture nothing. So the rewritten proto holds
//! [`placeholder`] nodes that know only their output shapes; [`bind`] puts the real ops, with their
//! weights, in their places once tract has worked out all types.

mod activation;
mod gated_linear;
mod int8_linear;
mod kv_attention;
mod kv_cache;
mod norm;
mod pages;
mod placeholder;
mod quant_gather;
mod quant_linear;
mod scratch;
mod self_attention;

use std::sync::Arc;

use furlong_core::Isa;
use tract_core::internal::*;
use tract_onnx::model::OnnxOpRegister;

pub(crate) use gated_linear::GatedLinear;
pub(crate) use int8_linear::Int8Linear;
pub(crate) use kv_attention::{KvAttention, KvState};
pub(crate) use placeholder::spec_index;
pub(crate) use quant_gather::QuantGather;
pub(crate) use quant_linear::QuantLinear;
pub(crate) use scratch::{Scratch, SessionScratch};

use crate::KvFormat;
use crate::pool::Pool;
use crate::rewrite::OpSpec;
use crate::weights::{PackedInt8, PackedLinear, PackedModel};

/// What ops need from the machine and the caller.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// The kernels' instruction set.
    pub isa: Isa,
    /// The threads.
    pub pool: Arc<Pool>,
    /// How caches store keys and values.
    pub kv: KvFormat,
    /// Most tokens a cache may hold.
    pub context: usize,
}

/// Teaches tract's ONNX reader our ops.
pub(crate) fn register(ops: &mut OnnxOpRegister) {
    for op_type in OpSpec::OP_TYPES {
        ops.insert(op_type, placeholder::build);
    }
}

/// Puts the real ops in the places of their placeholders, with their packed weights.
pub(crate) fn bind(
    model: &mut TypedModel,
    specs: Vec<OpSpec>,
    mut packed: PackedModel,
    machine: &Machine,
) -> TractResult<()> {
    let mut specs: Vec<Option<OpSpec>> = specs.into_iter().map(Some).collect();
    for id in 0..model.nodes().len() {
        let node = model.node_mut(id);
        let Some(index) = placeholder::spec_index(node.op.as_ref()) else {
            continue;
        };
        let spec = specs
            .get_mut(index)
            .and_then(Option::take)
            .ok_or_else(|| format_err!("node {} has no description", node.name))?;
        node.op = make(spec, index, &mut packed, machine)
            .with_context(|| format!("preparing node {}", node.name))?;
    }
    Ok(())
}

/// The op that `spec`, the one at `index`, describes.
fn make(
    spec: OpSpec,
    index: usize,
    packed: &mut PackedModel,
    machine: &Machine,
) -> TractResult<Box<dyn TypedOp>> {
    let isa = machine.isa;
    Ok(match spec {
        OpSpec::Linear(_) => {
            let weights = PackedLinear::new(packed.take(index));
            Box::new(QuantLinear::new(weights, index, machine.pool.clone()))
        }
        OpSpec::Int8Linear(linear) => {
            let weights = PackedInt8::new(&linear, isa).map_err(core_error)?;
            Box::new(Int8Linear::new(weights, machine.pool.clone()))
        }
        OpSpec::Gated(_, activation) => {
            let matrices = packed.take(index);
            Box::new(GatedLinear::new(matrices, index, activation, machine)?)
        }
        OpSpec::Gather(source, _) => Box::new(QuantGather::new(packed.table(source))),
        OpSpec::Attention(attention) => Box::new(KvAttention::new(attention, machine)?),
        OpSpec::SelfAttention(attention) => {
            Box::new(self_attention::SelfAttention::new(attention, machine))
        }
        OpSpec::Norm(norm) => Box::new(norm::Norm::new(norm, machine)),
        OpSpec::Activation(activation) => Box::new(activation::Activate::new(activation, isa)),
        OpSpec::Taken => bail!("a description was used twice"),
    })
}

/// An error of a kernel as one of tract's.
pub(crate) fn core_error(error: furlong_core::Error) -> TractError {
    format_err!("{error}")
}

/// An op's input as numbers.
fn floats(value: &TValue) -> TractResult<&[f32]> {
    let view = value.try_as_plain_ram()?;
    view.as_slice::<f32>()
}

/// Ops with weights are equal only when they are the same.
macro_rules! equal_by_weights {
    ($op:ty, $field:ident) => {
        impl PartialEq for $op {
            fn eq(&self, other: &Self) -> bool {
                std::sync::Arc::ptr_eq(&self.$field, &other.$field)
            }
        }

        impl Eq for $op {}
    };
}
use equal_by_weights;
