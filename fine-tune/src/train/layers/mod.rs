//! The differentiable pieces of a transformer. Activations are matrices `[rows, width]`, one row for each token of the batch.
//!
//! A layer's `forward` borrows what it needs and returns its result, with whatever only it knows and needs again; its
//! `backward` takes the gradient of the result and returns that of the input, adding those of its trainable parameters to
//! [`Gradients`](super::model::Gradients). The caller keeps inputs that several layers share.

pub mod activation;
pub mod attention;
pub mod dropout;
pub mod embedding;
pub mod host;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod pooling;
pub mod rotary;

pub use activation::Mlp;
pub use attention::{AttentionShape, Visible};
pub use dropout::{Dropout, Site};
pub use linear::{Context, Linear, LowRank, WeightLayout};
pub use norm::Norm;
pub use rotary::Rotation;
