//! Training: a batch goes in, a loss and gradients come out.
//!
//! From the top down:
//!
//! - [`model`] is what a training loop talks to. A [`Model`](model::Model) is read from a checkpoint or starts at random; its
//!   [`backward`](model::Model::backward) adds a batch's gradients to [`Gradients`](model::Gradients), and an optimiser changes
//!   its [`Parameters`](model::Parameters) with them.
//! - [`adapter`] says which layers get a low-rank adapter, and writes and reads the folders of PEFT.
//! - [`layers`] are the differentiable pieces: each has a forward that says what it keeps, and a backward that uses it.
//!
//! Gradients are written by hand rather than recorded on a tape. A frozen weight then costs no gradient product, what is kept
//! for the way back is chosen and not accidental, and a piece can have a fused kernel where the CPU needs one. burn's tensors
//! carry the numbers on every device; PyTorch's gradients are the judge (`tests/golden/training`).

pub mod adapter;
pub mod data;
pub mod layers;
pub mod model;
pub mod optimise;
pub mod run;
