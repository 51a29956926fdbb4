//! The parts of the program `furlong` that stand on their own: arrays in files, what the machine can do, and the model
//! that is part of the program.
//!
//! The commands themselves are in the program.

pub mod built_in;
pub mod machine;
pub mod npz;
