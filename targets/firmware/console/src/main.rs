//! The host's end of the firmware: `cargo xtask flash` and the tests run it, so that nobody else has to build a decoder of logs.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

mod contents;
mod image;
mod line;
mod watch;

#[derive(Parser)]
#[command(name = "furlong-console", about = "The host's end of the firmware")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Show what a board says: answers on standard output, logs on standard error
    ///
    /// Example: furlong-console watch --program furlong.elf -- qemu-system-arm …
    Watch(watch::Options),
    /// Write a program as a file for a boot loader
    Image {
        /// The program
        #[arg(long)]
        program: PathBuf,
        /// Blocks for a UF2 boot loader of this family, not plain bytes
        #[arg(long)]
        uf2_family: Option<u32>,
        /// Where to write it
        #[arg(long)]
        out: PathBuf,
    },
    /// Say as JSON how much of each memory a program takes, and which symbols it has
    Contents {
        /// The program
        #[arg(long)]
        program: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("console: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Watch(options) => return watch::run(&options),
        Task::Image {
            program,
            uf2_family,
            out,
        } => image::write(&program, uf2_family, &out)?,
        Task::Contents { program } => contents::show(&program)?,
    }
    Ok(ExitCode::SUCCESS)
}
