//! `cargo xtask demo`: from nothing to an answer.

use crate::board::Builder;
use crate::models::{self, Base};
use crate::shell::{self, say};
use crate::{build, packages};
use anyhow::Result;
use std::process::Command;

/// Fetches SmolLM2, exports it with 4-bit weights and lets it answer `prompt`.
///
/// # Errors
/// When one of those steps fails.
pub fn run(prompt: &str) -> Result<()> {
    packages::ensure(&[packages::PYTHON])?;
    Base::SmolLm2.checkpoint()?;
    say("demo: building fine-tune and furlong (the first time takes some minutes)");
    let exporter = models::exporter(&Builder::Host)?;
    let program = build::furlong(&Builder::Host)?;
    let model = models::export(&exporter, Base::SmolLm2, "q4")?;
    let mut command = Command::new(program);
    command
        .arg("run")
        .arg("--model")
        .arg(model)
        .args(["--max-tokens", "96", prompt]);
    say(format!("demo: {}", shell::show(&command)));
    shell::run(&mut command)
}
