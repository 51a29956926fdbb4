//! `furlong`: runs quantised transformers on ARM and x86-64 Linux.

mod adapters;
mod arrays;
mod cli;
mod commands;
mod failure;
mod interrupt;
mod model;
mod profile;
mod progress;
mod sentences;
mod text;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = interrupt::install().and_then(|()| dispatch(cli));
    match result {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Run(args) => commands::run::run(&args),
        Command::Chat(args) => commands::chat::run(&args),
        Command::Classify(args) => commands::classify::run(&args),
        Command::Embed(args) => commands::embed::run(&args),
        Command::Infer(args) => commands::infer::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Pack(args) => commands::pack::run(&args),
        Command::Plan(args) => commands::plan::run(&args),
        Command::Perplexity(args) => commands::perplexity::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
    }
}
