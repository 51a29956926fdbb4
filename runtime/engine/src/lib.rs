//! Furlong runtime: ONNX transformers on tract.
//!
//! A model's road through this crate, one module a step:
//!
//! 1. `import` decodes and checks the ONNX file; its big weights stay in mapped files.
//! 2. `rewrite` puts our ops where standard patterns stand (linear layers, attention with a cache, norms)
//!    and takes their weights out of the graph.
//! 3. `weights` packs these once for the kernels of furlong-core, into a file that is mapped from then on.
//! 4. tract reads the rest, and runs the whole; `ops` are our ops in it.
//! 5. `Session` holds what one conversation needs: the cache of keys and values, and its length; an `Adapter`, if it
//!    is to answer with one.

mod adapter;
mod array;
mod classify;
mod compile;
#[cfg(test)]
mod decoder_tests;
mod encode;
mod error;
mod files;
mod fixes;
mod graph;
mod import;
mod lower;
mod model;
mod ops;
mod options;
mod pack;
mod plan;
mod pool;
mod profile;
mod report;
mod rewrite;
mod session;
pub mod text;
mod weights;

pub use adapter::{Adapter, PeftFault, PeftSettings};
pub use array::{Array, ArrayData};
pub use error::Error;
pub use files::{EmbeddedModel, ModelFiles};
pub use graph::{Graph, GraphOptions, GraphValue};
pub use import::{ElementType, OnnxModel, TensorBytes, TensorData, UnsupportedOp, UnsupportedOps};
pub use lower::{
    BufferRow, Certificate, FinishedPlan, LoweredModel, OpRow, PlanOptions, TensorRow,
};
pub use model::{Model, ModelKind};
pub use options::{KvFormat, LoadOptions, WeightsCache};
pub use pack::{PackReport, pack_weights};
pub use profile::{PhaseProfile, Profile, ProfileRow};
pub use report::{LinearReport, Report, TableReport};
pub use session::Session;
