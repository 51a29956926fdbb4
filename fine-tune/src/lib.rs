//! Checkpoint in, ONNX out.
