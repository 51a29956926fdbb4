//! From gradients to better parameters.
//!
//! 1. [`norm`], [`clip_norm`] and [`clip_value`] look at the gradients of all parameters at once.
//! 2. A [`Schedule`] gives the learning rate of each step.
//! 3. The [`Optimiser`] moves each parameter by a rule that its role chooses: AdamW, or Muon for the matrices inside the model and
//!    the factors of an adapter.

mod adamw;
mod clip;
mod muon;
mod optimiser;
mod schedule;
#[cfg(test)]
mod tests;

pub use adamw::AdamW;
pub use clip::{clip_norm, clip_value, norm};
pub use muon::Muon;
pub use optimiser::{Optimiser, OptimiserKind, Rules};
pub use schedule::{Plateau, Schedule, ScheduleKind};
