//! `cargo xtask`: what a developer or a fresh machine needs done. One file a command.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod bare_metal;
mod bench;
mod board;
mod board_model;
mod build;
mod compare;
mod demo;
mod fetch;
mod flash;
mod fuzz;
mod history;
mod home_model;
mod models;
mod packages;
mod peers;
mod plugin;
mod python;
mod setup;
mod shell;
mod test;
mod toolchain;
mod workspace;

/// Development tasks. Each can be run again at any time: what is there already is kept.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Fetch a small model, export it with 4-bit weights, and let it answer
    Demo {
        /// What to ask
        #[arg(default_value = "Why is the sky blue? Answer in two sentences.")]
        prompt: String,
    },
    /// Install what is missing, build everything, run every test on the host and on emulated boards
    Test {
        /// Run this step, and others that are named like it
        #[arg(long, value_name = "STEP")]
        only: Vec<String>,
        /// List the steps
        #[arg(long)]
        list: bool,
    },
    /// Install the cross toolchain, the emulators and the Python peers
    Setup,
    /// Fetch the models and the text that tests and benches use
    Fetch,
    /// Build the program `furlong` for a board
    Build {
        /// One of targets/boards
        #[arg(long)]
        board: String,
    },
    /// Put a model and the firmware onto a board without an operating system, and show what it says
    Flash(flash::Options),
    /// Run the benches on a board, keep the results and write docs/benchmarks.md
    Bench(bench::Options),
    /// Make the model that is built into `furlong`: data, tokenizer, training, export, evaluation
    HomeModel(home_model::Options),
    /// Build llama.cpp and compare perplexity, speed and memory with it, ONNX Runtime and stock tract
    Peers(peers::Options),
    /// Run the fuzz targets for longer than the tests do
    Fuzz {
        /// How long for each target
        #[arg(long, default_value_t = 120)]
        seconds: u64,
        /// Only targets whose name contains this
        target: Option<String>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Flash(options) => return flash::run(&options),
        Task::Demo { prompt } => demo::run(&prompt)?,
        Task::Test { list: true, .. } => test::list()?,
        Task::Test { only, .. } => test::run(&only)?,
        Task::Setup => setup::run()?,
        Task::Fetch => fetch::run()?,
        Task::Build { board } => build::run(&board)?,
        Task::Bench(options) => bench::run(&options)?,
        Task::HomeModel(options) => home_model::run(&options)?,
        Task::Peers(options) => peers::run(&options)?,
        Task::Fuzz { seconds, target } => fuzz::run(seconds, target.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}
