//! `fine-tune data home-commands` and `home-tokenizer`: what the built-in model learns from.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::{Args, ValueEnum};
use furlong_fine_tune::home_commands::{Command, Commands, Split, tokenizer};
use tempfile::NamedTempFile;

use crate::{interrupt, terminal};

/// Make spoken-style home commands and their meaning in JSON, the data of the built-in model.
#[derive(Args)]
#[command(after_help = "Example:\n  \
    fine-tune data home-commands --split train --count 100000 --out train.jsonl\n  \
    fine-tune data home-commands --split test --count 2000 --without train.jsonl --out test.jsonl\n\n\
    The same arguments make the same file. No phrasing to measure by is one to learn from.\n\
    Exit codes: 0 done, 1 refused or failed, 2 wrong arguments, 130 interrupted.")]
pub struct HomeCommandsArguments {
    /// Whose phrasings to use.
    #[arg(long, value_enum)]
    split: SplitArgument,
    /// Number of commands; no two are the same.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,
    /// Another seed makes other commands.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// A file written before, none of whose texts is said again; may be given several times.
    #[arg(long, value_name = "FILE")]
    without: Vec<PathBuf>,
    /// File to write: JSON lines of {"prompt", "completion"}.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum SplitArgument {
    /// To learn from.
    Train,
    /// To choose settings by: phrasings held out from training.
    Valid,
    /// To measure by: phrasings held out from both.
    Test,
    /// To measure by: phrasings of a grammar written without a look at those to learn from.
    Blind,
}

/// Learn the tokenizer of the built-in model from its training split.
#[derive(Args)]
#[command(after_help = "Example:\n  \
    fine-tune data home-tokenizer --count 50000 --out tokenizer\n\n\
    Exit codes: 0 done, 1 refused or failed, 2 wrong arguments, 130 interrupted.")]
pub struct HomeTokenizerArguments {
    /// Number of commands to learn from.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Seed of the commands.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Tokens: two markers, 256 bytes, and what is merged from them.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(258..=65_536))]
    vocab_size: u32,
    /// Longest command and answer together, in tokens, as the model's config.json has it.
    #[arg(long, value_name = "TOKENS", default_value_t = 128)]
    context: u32,
    /// Folder for tokenizer.json and tokenizer_config.json.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

/// Runs `home-commands`.
///
/// # Errors
/// A file that can't be written, or more commands than the split can make.
pub fn commands(arguments: &HomeCommandsArguments) -> Result<ExitCode> {
    let split = match arguments.split {
        SplitArgument::Train => Split::Train,
        SplitArgument::Valid => Split::Valid,
        SplitArgument::Test => Split::Test,
        SplitArgument::Blind => Split::Blind,
    };
    let mut commands = Commands::new(split, arguments.seed);
    for path in &arguments.without {
        let said = prompts(path)?;
        commands = commands.without(said.iter().map(String::as_str));
    }
    let file = temporary(&arguments.out)?;
    let mut lines = BufWriter::new(&file);
    let made = make(commands, split, arguments.count, |command| {
        serde_json::to_writer(&mut lines, command)?;
        Ok(lines.write_all(b"\n")?)
    })?;
    lines.flush()?;
    drop(lines);
    if !made {
        return Ok(interrupted());
    }
    put(file, &arguments.out)?;
    let out = arguments.out.display().to_string();
    if arguments.json {
        terminal::show_json(&serde_json::json!({
            "out": out, "split": split.name(), "count": arguments.count, "seed": arguments.seed,
        }))?;
    } else {
        let count = arguments.count;
        terminal::show(&format!(
            "{out}: {count} commands of the {} split\n",
            split.name()
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `home-tokenizer`.
///
/// # Errors
/// A folder that can't be written.
pub fn tokenizer(arguments: &HomeTokenizerArguments) -> Result<ExitCode> {
    let source = Commands::new(Split::Train, arguments.seed);
    let mut commands = Vec::new();
    let made = make(source, Split::Train, arguments.count, |command| {
        commands.push(command.clone());
        Ok(())
    })?;
    if !made {
        return Ok(interrupted());
    }
    let json = tokenizer::train(&commands, arguments.vocab_size as usize)
        .map_err(|error| anyhow!("the tokenizer can't be learned: {error}"))?;
    let folder = &arguments.out;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("can't make the folder {}", folder.display()))?;
    let config = tokenizer::config(arguments.context as usize);
    for (name, text) in [("tokenizer.json", json), ("tokenizer_config.json", config)] {
        let path = folder.join(name);
        let mut file = temporary(&path)?;
        file.write_all(text.as_bytes())?;
        put(file, &path)?;
    }
    terminal::show(&format!(
        "{}: {} tokens\n",
        folder.display(),
        arguments.vocab_size
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes commands and hands each to `take`; false after Ctrl-C.
fn make(
    mut commands: Commands,
    split: Split,
    count: u32,
    mut take: impl FnMut(&Command) -> Result<()>,
) -> Result<bool> {
    let bar = terminal::progress_bar(count as usize, "{bar:30} {pos}/{len} commands, {eta} left");
    for made in 0..count {
        if interrupt::is_requested() {
            return Ok(false);
        }
        let command = commands.next().ok_or_else(|| {
            anyhow!(
                "the {} split has no more than {made} different commands at hand; ask for fewer",
                split.name()
            )
        })?;
        take(&command)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(true)
}

/// The prompts of a file of commands.
fn prompts(path: &Path) -> Result<Vec<String>> {
    let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
    (1..)
        .zip(BufReader::new(file).lines())
        .map(|(number, line)| {
            let command: Command = serde_json::from_str(&line?)
                .map_err(|error| anyhow!("it is no {{\"prompt\", \"completion\"}}: {error}"))
                .with_context(|| format!("{}, line {number}", path.display()))?;
            Ok(command.prompt)
        })
        .collect()
}

fn interrupted() -> ExitCode {
    eprintln!("interrupted; nothing was written");
    ExitCode::from(interrupt::INTERRUPTED)
}

/// A file beside `out`, which takes its place once it is whole.
fn temporary(out: &Path) -> Result<NamedTempFile> {
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    NamedTempFile::new_in(folder).with_context(|| format!("can't write in {}", folder.display()))
}

fn put(file: NamedTempFile, out: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let readable = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(readable)?;
    }
    file.persist(out)
        .with_context(|| format!("can't write {}", out.display()))?;
    Ok(())
}
