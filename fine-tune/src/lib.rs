//! Checkpoint in, ONNX out.

pub mod architecture;
pub mod checkpoint;
pub mod error;
pub mod export;
pub mod graph;
pub mod metrics;
pub mod onnx;
pub mod quantise;
pub mod tokenizer;
