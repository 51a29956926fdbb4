//! `cargo xtask build`: the program `furlong` for a board.

use crate::board::{Board, Builder};
use crate::shell::say;
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::sync::OnceLock;

/// Builds the program for a board and says where it is.
///
/// # Errors
/// When the board is unknown or the build fails.
pub fn run(board: &str) -> Result<()> {
    let board = Board::load(board)?;
    let program = furlong(&board.builder()?)?;
    let size = std::fs::metadata(&program)
        .map(|data| data.len())
        .unwrap_or(0);
    say(format!(
        "build: {} ({:.1} MB) for {}",
        program.display(),
        size as f64 / 1e6,
        board.name
    ));
    Ok(())
}

/// Builds the program; gives the file.
///
/// # Errors
/// When the build fails.
pub fn furlong(builder: &Builder) -> Result<PathBuf> {
    let programs = builder.programs("build", &["--bin", "furlong"])?;
    let program = programs
        .into_iter()
        .find(|program| program.name == "furlong");
    Ok(program
        .context("the build gave no program called furlong")?
        .path)
}

/// What `build` gives, built once in a run of this program.
///
/// # Errors
/// As `build`, which is tried again the next time.
pub fn once(built: &OnceLock<PathBuf>, build: impl FnOnce() -> Result<PathBuf>) -> Result<PathBuf> {
    if let Some(program) = built.get() {
        return Ok(program.clone());
    }
    let program = build()?;
    Ok(built.get_or_init(|| program).clone())
}
