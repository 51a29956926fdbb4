//! Furlong core: what every device runs, from a server to a Cortex-M0.
//!
//! Nothing here allocates, and nothing panics on its input. From the top down:
//!
//! - [`plan`] runs a whole model out of one flat image, in an arena that the caller lends.
//! - [`sampler`] turns logits into the next token; [`utf8`] turns token bytes into whole characters.
//! - [`attention`], [`norm`], [`activation`], [`softmax`], [`rope`], [`argmax`] are the steps of a
//!   transformer layer that are not a linear map.
//! - [`gradient`] has some of these steps backwards, for training on a host.
//! - [`linear`] multiplies activations by weights: block-quantised to 8 or 4 bits, f16 or f32. A
//!   [`LinearKernel`] is chosen once for a weight format and an instruction set, packs the weights
//!   for it, and multiplies ranges of rows; [`int8`] does the same with one scale a row, for encoders; [`gather`]
//!   looks up one row; [`low_rank`] adds what an adapter changes.
//! - [`weights`] describes weights as a model file holds them; [`matrix`] is the output view that
//!   several threads can share.
//! - [`isa`] names the instruction sets and proves that the CPU has one; [`feature`] says what a firmware can leave out.
//!
//! Every kernel has a scalar twin that defines its result bit for bit: a model gives the same
//! tokens on x86-64 and on AArch64. Threads are the caller's: the functions work on ranges.
#![no_std]

#[cfg(any(feature = "std", test))]
extern crate std;

// Files that tests share with programs outside of this crate call it by its name.
#[cfg(test)]
extern crate self as furlong_core;

pub mod activation;
pub mod argmax;
pub mod attention;
pub mod error;
pub mod feature;
pub mod gather;
pub mod gradient;
pub mod int8;
pub mod isa;
pub mod linear;
pub mod low_rank;
mod math;
pub mod matrix;
pub mod norm;
mod pieces;
pub mod plan;
pub mod rope;
pub mod sampler;
pub mod softmax;
pub mod utf8;
mod vector;
pub mod weights;

pub use error::{Error, Operand};
pub use feature::Feature;
pub use half::f16;
pub use int8::Int8Kernel;
pub use isa::{Isa, IsaKind};
pub use linear::{LinearKernel, PackedLayout};
pub use matrix::MatrixMut;
pub use weights::{BlockWeights, DenseWeights, Floats, WeightFormat, Weights, ZeroPoints};
