//! Checkpoint in, ONNX out.

pub mod onnx;
pub mod quantise;
