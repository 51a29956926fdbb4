//! peers
use anyhow::Result;
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Part {
    Perplexity,
    Speed,
}
pub fn run(_: Option<Part>) -> Result<()> {
    Ok(())
}
