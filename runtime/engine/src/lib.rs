//! Furlong runtime: ONNX transformers on tract.
