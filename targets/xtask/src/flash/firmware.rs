//! Builds the programs of targets/firmware.

use crate::board::Board;
use crate::shell::{self, say};
use crate::{build, toolchain, workspace};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const FIRMWARE: &str = "targets/firmware/Cargo.toml";
const CONSOLE: &str = "targets/firmware/console/Cargo.toml";

/// What is linked into a program.
#[derive(Debug, Clone, Copy)]
pub struct Build<'b> {
    /// The plan of a model.
    pub plan: Option<&'b Path>,
    /// What of `furlong-core` is built in; all unless this says what the plan needs.
    pub features: Option<&'b [String]>,
    /// A prompt to answer at start, for boards that can't be asked by a script.
    pub prompt: Option<&'b str>,
    /// The lowest level of logs that is built in, unless `DEFMT_LOG` says otherwise.
    pub log: &'b str,
}

impl Default for Build<'_> {
    fn default() -> Self {
        Self {
            plan: None,
            features: None,
            prompt: None,
            log: "info",
        }
    }
}

/// Builds one of the firmware's programs, or its example, for a board; gives the file.
///
/// # Errors
/// When the build fails; its output has been shown by then.
pub fn program(board: &Board, name: &str, build: &Build) -> Result<PathBuf> {
    say(format!("firmware: building {name} for {}", board.name));
    let mut command = cargo("build", board, build)?;
    let example = workspace::root()?
        .join("targets/firmware/examples")
        .join(format!("{name}.rs"))
        .is_file();
    let kind = if example { "--example" } else { "--bin" };
    command.args([kind, name, "--quiet"]);
    shell::run(&mut command)?;
    match example {
        true => toolchain::keep(&board.id, &board.triple, &format!("examples/{name}")),
        false => toolchain::keep(&board.id, &board.triple, name),
    }
}

/// `cargo SUBCOMMAND` of the firmware's workspace for a board.
fn cargo(subcommand: &str, board: &Board, build: &Build) -> Result<Command> {
    let Some(bare_metal) = &board.bare_metal else {
        bail!("{}: has an operating system", board.id);
    };
    let mut command = toolchain::bare_metal(subcommand, &board.triple)?;
    command
        .args(["--manifest-path", FIRMWARE])
        .env("FURLONG_BOARD", &board.id)
        // Takes the place of what targets/firmware/.cargo/config.toml says for another core.
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            format!("-Ctarget-cpu={}", bare_metal.target_cpu),
        );
    if let Some(features) = build.features {
        command.args(["--no-default-features", "--features", &features.join(",")]);
    }
    match build.plan {
        Some(plan) => command.env("FURLONG_PLAN", absolute(plan)?),
        None => command.env_remove("FURLONG_PLAN"),
    };
    match build.prompt {
        Some(prompt) => command.env("FURLONG_PROMPT", prompt),
        None => command.env_remove("FURLONG_PROMPT"),
    };
    if std::env::var_os("DEFMT_LOG").is_none() {
        command.env("DEFMT_LOG", build.log);
    }
    Ok(command)
}

/// Formatting, warnings and the console's own tests.
///
/// # Errors
/// When something is found.
pub fn lint(board: &Board) -> Result<()> {
    for manifest in [FIRMWARE, CONSOLE] {
        let mut format = shell::command("cargo", ["fmt", "--check", "--manifest-path", manifest]);
        shell::quiet(format.current_dir(workspace::root()?))?;
    }
    shell::quiet(&mut console_cargo("test")?)?;
    let deny = ["--", "-Dwarnings"];
    let mut console = console_cargo("clippy")?;
    shell::quiet(console.arg("--all-targets").args(deny))?;
    // The fallback toolchain has no clippy.
    if toolchain::has_library(&board.triple) {
        let mut clippy = cargo("clippy", board, &Build::default())?;
        clippy.args(["--lib", "--bins", "--examples", "--quiet"]);
        shell::quiet(clippy.args(deny))?;
    }
    Ok(())
}

/// This machine's cargo, for the console.
fn console_cargo(subcommand: &str) -> Result<Command> {
    let mut command = shell::command("cargo", [subcommand, "--release", "--locked", "--quiet"]);
    command
        .args(["--manifest-path", CONSOLE])
        .current_dir(workspace::root()?)
        .env("CARGO_TARGET_DIR", workspace::bare_metal_target()?);
    Ok(command)
}

/// Builds the decoder of logs, once in a run of this program; gives the program.
///
/// # Errors
/// When the build fails; its output has been shown by then.
pub fn console() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    build::once(&BUILT, || {
        shell::run(&mut console_cargo("build")?)?;
        Ok(workspace::bare_metal_target()?.join("release/furlong-console"))
    })
}

/// What a program holds.
#[derive(Debug, Deserialize)]
pub struct Contents {
    /// Its parts that take memory.
    pub sections: Vec<Part>,
    /// Its functions.
    pub symbols: Vec<Part>,
}

/// A part of a program.
#[derive(Debug, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

impl Contents {
    /// Reads a program.
    ///
    /// # Errors
    /// When it isn't one.
    pub fn of(program: &Path) -> Result<Self> {
        let mut command = Command::new(console()?);
        command.arg("contents").arg("--program").arg(program);
        Ok(serde_json::from_str(&shell::capture(&mut command)?)?)
    }

    /// Whether a function with this in its name is there.
    pub fn has(&self, part: &str) -> bool {
        self.symbols.iter().any(|symbol| symbol.name.contains(part))
    }

    /// The size of a section; 0 if there is none.
    pub fn bytes(&self, section: &str) -> u64 {
        let found = self.sections.iter().find(|part| part.name == section);
        found.map_or(0, |part| part.bytes)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).with_context(|| format!("reading {}", path.display()))
}
