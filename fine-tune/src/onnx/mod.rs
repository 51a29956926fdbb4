//! Writing ONNX files: the schema's messages, a graph under construction, and the data file beside it.

mod builder;
mod external;
pub mod proto;

pub use builder::{Attribute, Dim, Element, GraphBuilder, Value, dims};
pub use external::{Extent, ExternalData, WriteError};

/// Version of the ONNX file format that is written.
pub const IR_VERSION: i64 = 10;
/// Version of ONNX's own operators: the first with RMSNormalization, RotaryEmbedding and Attention.
pub const OPSET: i64 = 23;
/// Domain of the block-quantised operators.
pub const MICROSOFT: &str = "com.microsoft";

#[cfg(target_endian = "big")]
compile_error!(
    "ONNX stores little-endian tensors; exporting on a big-endian machine isn't supported"
);
