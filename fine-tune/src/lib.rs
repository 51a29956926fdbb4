//! Checkpoint in, ONNX out.

pub mod architecture;
pub mod checkpoint;
pub mod error;
