//! The `fine-tune` command: prepares models for Furlong's runtime, and measures them.

mod commands;
mod interrupt;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Prepare models for Furlong's runtime, and measure them.
#[derive(Parser)]
#[command(name = "fine-tune", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "train")]
    Train(Box<commands::train::TrainArguments>),
    Export(commands::export::ExportArguments),
    Evaluate(commands::evaluate::EvaluateArguments),
    Compare(commands::compare::CompareArguments),
    #[command(subcommand)]
    Data(commands::data::DataCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = interrupt::install().and_then(|()| match &arguments.command {
        #[cfg(feature = "train")]
        Command::Train(arguments) => commands::train::run(arguments),
        Command::Export(arguments) => commands::export::run(arguments),
        Command::Evaluate(arguments) => commands::evaluate::run(arguments),
        Command::Compare(arguments) => commands::compare::run(arguments),
        Command::Data(command) => commands::data::run(command),
    });
    match result {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes; a cause that an earlier one has said already is left out.
fn causes(error: &anyhow::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if !causes.last().is_some_and(|last| last.contains(&cause)) {
            causes.push(cause);
        }
    }
    causes.join(": ")
}

/// Whether whoever read the output has had enough of it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
