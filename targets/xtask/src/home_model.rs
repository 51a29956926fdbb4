//! `cargo xtask home-model`: makes the model that is built into `furlong`, from nothing but this repository.

use crate::board::Builder;
use crate::shell::{self, say};
use crate::{fetch, models, workspace};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to make.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask home-model                                     three quarters of an hour on two cores
  cargo xtask home-model --commands 20000 --out small        to see whether a change of the grammars works")]
pub struct Options {
    /// Commands to learn from [default: as many as the recipe's data.json says, which the built-in model has seen]
    #[arg(long, value_name = "N")]
    commands: Option<u32>,
    /// Threads that train [default: one for each core]
    #[arg(long)]
    threads: Option<u32>,
    /// Where the exported model goes [default: into the source tree, where the program embeds it]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// A data file of the recipe, as data.json has it.
#[derive(Debug, Deserialize)]
struct Split {
    name: String,
    /// Commands in it.
    count: u32,
    /// What `fine-tune data home-commands` starts from.
    seed: u64,
    /// Of the file that these make.
    sha256: String,
}

/// Generates the data, learns the tokenizer, trains, exports, and measures on the held-out splits and the list written by hand.
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
    let program = models::exporter(&Builder::Host)?;
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
    // No text of a file is in one made before it.
    let mut earlier: Vec<PathBuf> = Vec::new();
    for mut split in splits(&recipe)? {
        let wanted = match options.commands {
            Some(commands) if split.name == "train" => {
                split.count = commands;
                None
            }
            _ => Some(split.sha256),
        };
        let file = file(&split.name);
        step(
            fine_tune(&["data", "home-commands", "--split", &split.name])
                .args(["--count", &split.count.to_string()])
                .args(["--seed", &split.seed.to_string()])
                .args(
                    earlier
                        .iter()
                        .flat_map(|file| ["--without".as_ref(), file.as_os_str()]),
                )
                .arg("--out")
                .arg(&file),
        )?;
        earlier.push(file.clone());
        if wanted.is_some_and(|wanted| fetch::digest(&file).is_ok_and(|made| made != wanted)) {
            say(format!(
                "home-model: {} is not what the built-in model was made from: the grammars have changed since",
                file.display()
            ));
        }
    }
    let tokenizer = work.join("tokenizer");
    step(
        fine_tune(&["data", "home-tokenizer"])
            .arg("--out")
            .arg(&tokenizer),
    )?;

    let checkpoint = work.join("home-commands");
    // A run that was broken off goes on; one that came to its end is made anew.
    if checkpoint.join("model.safetensors").is_file() {
        fs::remove_dir_all(&checkpoint)
            .with_context(|| format!("removing {}", checkpoint.display()))?;
    }
    let mut train = fine_tune(&["train"]);
    if checkpoint.join("training").is_dir() {
        train.arg("--resume");
    } else {
        train
            .args(["--config".as_ref(), recipe.join("train.toml").as_os_str()])
            .arg("--architecture")
            .arg(recipe.join("config.json"))
            .arg("--tokenizer")
            .arg(tokenizer.join("tokenizer.json"))
            .args(["--data".as_ref(), file("train").as_os_str()])
            .args(["--eval".as_ref(), file("valid").as_os_str()]);
        if let Some(threads) = options.threads {
            train.args(["--threads", &threads.to_string()]);
        }
    }
    step(train.arg("--out").arg(&checkpoint))?;
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
    evaluate(&file("blind"), &[])?;
    evaluate(&file("test"), &["--record"])?;
    Ok(())
}

/// The data files of the recipe.
fn splits(recipe: &Path) -> Result<Vec<Split>> {
    let path = recipe.join("data.json");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(())
}
