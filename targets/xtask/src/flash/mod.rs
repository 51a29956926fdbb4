//! `cargo xtask flash`: a model onto a board without an operating system, and what it says there.

mod deliver;
mod firmware;
mod hints;
mod plan;

pub use deliver::watch_emulated;
pub use firmware::{Build, Contents, lint, program};
pub use plan::{Planned, Sizes, make as plan};

use crate::board::{Board, Builder, Runner};
use crate::shell::say;
use crate::{build, packages};
use anyhow::{Result, bail};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

/// What to flash, and where.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask flash --board mps3-an547 --prompt \"turn the heating off in the study\"
  cargo xtask flash --board nrf52840-dk --model my-model-q4")]
pub struct Options {
    /// One of targets/boards that has no operating system
    #[arg(long)]
    board: String,
    /// The folder of the model; the built-in one unless given
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["plan", "program"])]
    model: Option<PathBuf>,
    /// How many tokens prompt and answer may have together
    #[arg(long, default_value_t = 64, conflicts_with_all = ["plan", "program"])]
    context: usize,
    /// Format of the cache of keys and values: f16, f32 or q8, which takes little more than half of f16
    #[arg(long, default_value = "f16", conflicts_with_all = ["plan", "program"])]
    kv: String,
    /// How many tokens of a prompt are read at once: fewer take less memory
    #[arg(long, default_value_t = 4, conflicts_with_all = ["plan", "program"])]
    tile: usize,
    /// A plan that `furlong plan` has made, in place of a model
    #[arg(long, value_name = "FILE", conflicts_with = "program")]
    plan: Option<PathBuf>,
    /// A firmware that is built already, in place of building one (what `cargo run` in targets/firmware does)
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Answer this and end with the program's status; without it, lines of standard input
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
}

/// Plans, builds, flashes, and shows answers and logs until Ctrl-C or the end of the program; gives its status.
///
/// # Errors
/// When the model doesn't fit the board, or the board isn't reached; with what to do next.
pub fn run(options: &Options) -> Result<ExitCode> {
    let board = Board::load(&options.board)?;
    if board.bare_metal.is_none() {
        bail!(
            "{}: there is an operating system; `cargo xtask build --board {}` builds the program for it",
            board.id,
            board.id
        );
    }
    if let Runner::EmulatedMachine { .. } = board.run {
        packages::ensure(&[packages::EMULATORS])?;
    }
    let program = match &options.program {
        Some(program) => program.clone(),
        None => {
            let (plan, features) = match &options.plan {
                Some(plan) => (plan.clone(), None),
                None => {
                    let planned = plan_of(&board, options)?;
                    (planned.file, Some(planned.features))
                }
            };
            // Standard input and serial lines can be typed into; a probe's buffers want a person at a terminal.
            let built_in = match board.run {
                Runner::Probe { .. } | Runner::Uf2 { .. } => options.prompt.as_deref(),
                _ => None,
            };
            let build = Build {
                plan: Some(&plan),
                features: features.as_deref(),
                prompt: built_in,
                ..Build::default()
            };
            program(&board, "furlong-firmware", &build)?
        }
    };
    deliver::run(&board, &program, options.prompt.as_deref())
}

/// The plan of a model for a board. Fails when it doesn't fit there, saying what would.
fn plan_of(board: &Board, options: &Options) -> Result<Planned> {
    if let Some(model) = &options.model
        && !model.join("model.onnx").is_file()
    {
        bail!(
            "{}: no model is there; name the folder of one with --model (`fine-tune export` makes it)",
            model.display()
        );
    }
    say("flash: building furlong, which plans (the first time takes some minutes)");
    let furlong = build::furlong(&Builder::Host)?;
    let sizes = Sizes {
        context: options.context,
        kv: &options.kv,
        tile: options.tile,
    };
    plan(&furlong, board, options.model.as_deref(), sizes, &board.id)
}
