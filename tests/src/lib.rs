//! What the tests that cross crates share. It ships nothing: see `tests/` beside it.

pub mod fuzz;
pub mod memory;
pub mod plan;
pub mod reference;
