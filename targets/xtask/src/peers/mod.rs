//! `cargo xtask peers`: the same work done by Furlong, llama.cpp, ONNX Runtime and stock tract, side by side.

mod llama;
mod perplexity;
mod speed;

use anyhow::Result;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Only build llama.cpp
    Build,
    /// Perplexity of every weight format on one text
    Perplexity,
    /// CPU time a token, reading a prompt and decoding
    Speed,
}

/// Builds llama.cpp and compares, everything or one part.
///
/// # Errors
/// When a peer can't be had, built or run.
pub fn run(only: Option<Part>) -> Result<()> {
    let wanted = |part| only.is_none_or(|only| only == part);
    llama::build()?;
    if wanted(Part::Perplexity) {
        perplexity::compare()?;
    }
    if wanted(Part::Speed) {
        speed::compare()?;
    }
    Ok(())
}
