//! Checkpoint in, ONNX out, and figures of how good it is.

pub mod architecture;
pub mod calibrate;
pub mod card;
pub mod checkpoint;
pub mod comparison;
pub mod data;
pub mod error;
pub mod evaluation;
pub mod export;
pub mod graph;
pub mod home_commands;
pub mod hygiene;
pub mod metrics;
pub mod onnx;
pub mod quantise;
pub mod tokenizer;
#[cfg(feature = "train")]
pub mod train;
