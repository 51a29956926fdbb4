//! Checkpoints, whatever they are stored as, under one naming: Hugging Face's.

mod tensor;

pub use tensor::Tensor;
