//! The parts of the program `furlong` that stand on their own: arrays in files, and what the machine can do.
//!
//! The commands themselves are in the program.

pub mod machine;
pub mod npz;
