//! Kernels on emulated microcontrollers, against their scalar twins.

use super::report::Outcome;
use crate::bare_metal;
use crate::board::Board;
use anyhow::Result;

/// No DSP instructions, no FPU: the scalar kernels against what every machine computes.
pub fn cortex_m0() -> Result<Outcome> {
    on(&["microbit"])
}

/// DSP instructions; the same program on an M7.
pub fn cortex_m4() -> Result<Outcome> {
    on(&["mps2-an386", "mps2-an500"])
}

/// DSP instructions of Armv8-M.
pub fn cortex_m33() -> Result<Outcome> {
    on(&["mps2-an505"])
}

/// Helium.
pub fn cortex_m55() -> Result<Outcome> {
    on(&["mps3-an547"])
}

/// Builds for the first board and runs that on all: they have the same memory map.
fn on(boards: &[&str]) -> Result<Outcome> {
    let mut all = Outcome::default();
    let mut program = None;
    for id in boards {
        let board = Board::load(id)?;
        let program = match &program {
            Some(program) => program,
            None => program.insert(bare_metal::build(&board)?),
        };
        for _ in bare_metal::check(&board, program)? {
            all.add(Outcome::passed());
        }
    }
    Ok(all)
}
