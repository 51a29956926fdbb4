//! The plan of a model for a board, and what of `furlong-core` its firmware needs.

use crate::board::Board;
use crate::shell::{self, say};
use crate::workspace;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a plan is made for: `furlong plan` has options of these names.
#[derive(Debug, Clone, Copy)]
pub struct Sizes<'s> {
    /// Tokens of prompt and answer together.
    pub context: usize,
    /// Format of the cache.
    pub kv: &'s str,
    /// Tokens of a prompt that are read at once.
    pub tile: usize,
}

/// A plan that fits its board.
#[derive(Debug)]
pub struct Planned {
    /// Where it is.
    pub file: PathBuf,
    /// The cargo features that executing it takes.
    pub features: Vec<String>,
    /// Bytes of its arena.
    pub arena_bytes: u64,
}

/// What `furlong plan --json` says of it.
#[derive(Deserialize)]
struct Certificate {
    features: Vec<String>,
    arena_bytes: u64,
    flash_bytes: u64,
}

/// Lets `furlong` plan a model, the built-in one unless another is named, into `target/firmware/NAME.plan`.
///
/// # Errors
/// When the model can't be planned or doesn't fit; what would make it fit has been shown by then.
pub fn make(
    furlong: &Path,
    board: &Board,
    model: Option<&Path>,
    sizes: Sizes<'_>,
    name: &str,
) -> Result<Planned> {
    let folder = workspace::target()?.join("firmware");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let file = folder.join(format!("{name}.plan"));
    let command = |extra: &[&str]| {
        let mut command = Command::new(furlong);
        command.arg("plan").args(model);
        command.args(["--board", &board.id, "--kv", sizes.kv]);
        command.args(["--context", &sizes.context.to_string()]);
        command.args(["--tile", &sizes.tile.to_string()]);
        command.arg("--out").arg(&file).args(extra);
        command
    };
    let output = command(&["--json"]).output();
    let output = output.with_context(|| format!("starting: {}", shell::show(&command(&[]))))?;
    if !output.status.success() {
        // For people it says what would help.
        shell::run(&mut command(&[]))?;
        bail!(
            "failed ({}): {}",
            output.status,
            shell::show(&command(&["--json"]))
        );
    }
    let certificate: Certificate =
        serde_json::from_slice(&output.stdout).context("reading what `furlong plan` says")?;
    say(format!(
        "flash: {}: {:.1} kB of flash, arena {:.1} kB; features {}",
        shell::show(&command(&[])),
        certificate.flash_bytes as f64 / 1e3,
        certificate.arena_bytes as f64 / 1e3,
        certificate.features.join(", ")
    ));
    Ok(Planned {
        file,
        features: certificate.features,
        arena_bytes: certificate.arena_bytes,
    })
}
