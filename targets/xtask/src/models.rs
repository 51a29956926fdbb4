//! Exported model folders that tests, benches and the demo share: made once for each exporter, kept under the build folder.

use crate::board::Builder;
use crate::shell::{self, say};
use crate::{fetch, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A real model we can fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The decoder.
    SmolLm2,
    /// The encoder.
    MiniLm,
}

impl Base {
    /// How its folders' names start.
    pub fn name(self) -> &'static str {
        match self {
            Self::SmolLm2 => "smollm2",
            Self::MiniLm => "minilm",
        }
    }

    /// The checkpoint, fetched when it isn't there yet.
    ///
    /// # Errors
    /// When it can't be fetched.
    pub fn checkpoint(self) -> Result<PathBuf> {
        match self {
            Self::SmolLm2 => fetch::smollm2(),
            Self::MiniLm => fetch::minilm(),
        }
    }
}

/// The folder that holds the exports, named as [`Base::name`], `-` and the weights: `smollm2-q4`.
///
/// # Errors
/// When run outside the repository.
pub fn folder() -> Result<PathBuf> {
    Ok(workspace::target()?.join("models"))
}

/// 4-bit weights with packed zero points: less exact than `q4`, and what other runtimes are fastest with.
pub const PACKED: &str = "q4-packed";

/// As [`PACKED`], the embedding in 4 bits too: the only quantised weights that stock tract reads.
pub const FOUR_BITS: &str = "q4-all";

/// The options that make an export of that name.
fn recipe(weights: &str) -> Vec<&str> {
    match weights {
        PACKED => vec!["--weights", "q4", "--zero-points", "packed"],
        FOUR_BITS => [&recipe(PACKED)[..], &["--embedding-weights", "q4"]].concat(),
        _ => vec!["--weights", weights],
    }
}

/// Builds `fine-tune`; gives the file.
///
/// # Errors
/// When the build fails.
pub fn exporter(builder: &Builder) -> Result<PathBuf> {
    let programs = builder.programs("build", &["--bin", "fine-tune"])?;
    let program = programs
        .into_iter()
        .find(|program| program.name == "fine-tune");
    Ok(program
        .context("the build gave no program called fine-tune")?
        .path)
}

/// A model's export with `weights` (f32, f16, q8, q4, [`PACKED`] or [`FOUR_BITS`]); made anew only when the exporter has changed.
///
/// # Errors
/// When the checkpoint can't be fetched or the export fails.
pub fn export(exporter: &Path, base: Base, weights: &str) -> Result<PathBuf> {
    let folder = folder()?.join(format!("{}-{weights}", base.name()));
    let stamp = stamp_file(&folder);
    let checkpoint = base.checkpoint()?;
    let made_by = format!("{} {}\n", fetch::digest(exporter)?, checkpoint.display());
    if folder.join("model.onnx").is_file()
        && fs::read_to_string(&stamp).is_ok_and(|text| text == made_by)
    {
        say(format!("export: reusing {}", folder.display()));
        return Ok(folder);
    }
    say(format!(
        "export: {} with {weights} weights into {}",
        base.name(),
        folder.display()
    ));
    let _ = fs::remove_file(&stamp);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(self::folder()?)?;
    shell::run(
        Command::new(exporter)
            .arg("export")
            .args(recipe(weights))
            .arg("--base")
            .arg(&checkpoint)
            .arg("--out")
            .arg(&folder),
    )?;
    fs::write(&stamp, made_by).with_context(|| format!("writing {}", stamp.display()))?;
    Ok(folder)
}

/// What says which exporter made a model folder, and from what.
///
/// # Errors
/// When the folder wasn't made by [`export`].
pub fn stamp(folder: &Path) -> Result<String> {
    let file = stamp_file(folder);
    fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
}

fn stamp_file(folder: &Path) -> PathBuf {
    folder.with_extension("made-by.txt")
}
