//! `cargo xtask home-model`: makes the model that is built into `furlong`, from nothing but this repository.

use crate::shell::{self, say};
use crate::{models, workspace};
use anyhow::{Context, Result};
use std::fs;
use std::path::Path;
use std::process::Command;

/// What to make.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Commands to learn from; the built-in model has seen the default
    #[arg(long, default_value_t = 120_000)]
    commands: u32,
    /// Threads that train [default: one for each core]
    #[arg(long)]
    threads: Option<u32>,
    /// Where the exported model goes [default: into the source tree, where the program embeds it]
    #[arg(long)]
    out: Option<std::path::PathBuf>,
}

/// Commands of the other splits.
const VALID: u32 = 1000;
const TEST: u32 = 2000;

/// Generates the data, learns the tokenizer, trains, exports, and measures on the test split and the list written by hand.
///
/// # Errors
/// When one of those steps fails.
pub fn run(options: &Options) -> Result<()> {
    let root = workspace::root()?;
    let recipe = root.join("fine-tune/recipes/home-commands");
    let work = workspace::target()?.join("home-model");
    fs::create_dir_all(&work).with_context(|| format!("creating {}", work.display()))?;
    let out = match &options.out {
        Some(out) => out.clone(),
        None => root.join("targets/linux/models/home-commands"),
    };
    say("home-model: building fine-tune (the first time takes some minutes)");
    let program = models::exporter()?;
    let fine_tune = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments);
        command
    };
    let step = |command: &mut Command| {
        say(format!("home-model: {}", shell::show(command)));
        shell::run(command)
    };

    let file = |split: &str| work.join(format!("{split}.jsonl"));
    let splits = [
        ("train", options.commands, "1"),
        ("valid", VALID, "2"),
        ("test", TEST, "3"),
    ];
    for (split, count, seed) in splits {
        let count = count.to_string();
        step(
            fine_tune(&["data", "home-commands", "--split", split, "--count", &count])
                .args(["--seed", seed])
                .arg("--out")
                .arg(file(split)),
        )?;
    }
    let tokenizer = work.join("tokenizer");
    step(
        fine_tune(&["data", "home-tokenizer"])
            .arg("--out")
            .arg(&tokenizer),
    )?;

    let checkpoint = work.join("home-commands");
    let mut train = fine_tune(&["train", "--config"]);
    train
        .arg(recipe.join("train.toml"))
        .arg("--architecture")
        .arg(recipe.join("config.json"))
        .arg("--tokenizer")
        .arg(tokenizer.join("tokenizer.json"))
        .arg("--data")
        .arg(file("train"))
        .arg("--eval")
        .arg(file("valid"))
        .arg("--out")
        .arg(&checkpoint);
    if let Some(threads) = options.threads {
        train.args(["--threads", &threads.to_string()]);
    }
    // A run that was broken off goes on.
    if checkpoint.join("training").is_dir() {
        train = fine_tune(&["train", "--resume", "--out"]);
        train.arg(&checkpoint);
    }
    step(&mut train)?;
    copy(&recipe.join("README.md"), &checkpoint.join("README.md"))?;

    step(
        fine_tune(&["export", "--weights", "q8", "--block", "128", "--force"])
            .arg("--base")
            .arg(&checkpoint)
            .arg("--out")
            .arg(&out),
    )?;
    let evaluate = |data: &Path, more: &[&str]| {
        step(
            fine_tune(&["evaluate", "--metrics", "exact-match,json-valid"])
                .args(more)
                .arg("--model")
                .arg(&out)
                .arg("--data")
                .arg(data),
        )
    };
    evaluate(
        &root.join("fine-tune/src/home_commands/hand-written.jsonl"),
        &[],
    )?;
    evaluate(&file("test"), &["--record"])?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}
