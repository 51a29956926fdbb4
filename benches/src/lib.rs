//! What the benches share: the clock they measure with, and the inputs they measure on.
//!
//! The same bench programs run on this machine, on boards and in an emulator. Only the [`Clock`] differs: time means
//! nothing in an emulator, so instructions are counted there.
//!
//! `cargo bench -p furlong-benches` runs them here; `cargo xtask bench --board B` runs them on a board, keeps the results in
//! `history/B.json` and writes them into docs/benchmarks.md.

mod clock;
mod counter;
pub mod inputs;

pub use clock::{Bencher, Clock, Meter, Suite};
pub use counter::Counter;
