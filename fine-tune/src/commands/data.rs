//! `fine-tune data`: what to know about data before it is used.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use furlong_fine_tune::data::DataFile;
use furlong_fine_tune::hygiene::{self, Distribution, FileReport, Report, TokenCounter, Weight};
use furlong_runtime::text::Tokenizer;

use super::home_commands::{self, HomeCommandsArguments, HomeTokenizerArguments};
use crate::{interrupt, terminal};

/// Look at data before it is used, or make some.
#[derive(Subcommand)]
pub enum DataCommand {
    Check(CheckArguments),
    HomeCommands(HomeCommandsArguments),
    HomeTokenizer(HomeTokenizerArguments),
}

/// Find repetitions, test lines that are in the training data, odd lengths and labels, and a test set unlike the traffic.
#[derive(Args)]
#[command(after_help = "Example:\n  \
    fine-tune data check train.jsonl --test test.jsonl --traffic requests.txt --model models/home-q4\n\n\
    Exit codes: 0 nothing must be fixed, 1 something must (or a file can't be read), 2 wrong arguments.")]
pub struct CheckArguments {
    /// Training data: JSON lines.
    train: PathBuf,
    /// Test set: JSON lines.
    #[arg(long, value_name = "FILE")]
    test: Option<PathBuf>,
    /// What the model is asked in use: JSON lines with at least a prompt, or plain text with one request a line.
    #[arg(long, value_name = "FILE")]
    traffic: Option<PathBuf>,
    /// Model folder, to count tokens by.
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// The most tokens that the model will be given.
    #[arg(long, value_name = "TOKENS", requires = "model")]
    context: Option<usize>,
    /// Seed of the shuffles that traffic is compared by.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// Files that can't be read, a model folder without a tokenizer.
pub fn run(command: &DataCommand) -> Result<ExitCode> {
    match command {
        DataCommand::Check(arguments) => check(arguments),
        DataCommand::HomeCommands(arguments) => home_commands::commands(arguments),
        DataCommand::HomeTokenizer(arguments) => home_commands::tokenizer(arguments),
    }
}

fn check(arguments: &CheckArguments) -> Result<ExitCode> {
    // Nothing is written here: the first Ctrl-C may end it.
    interrupt::end_at_once();
    let train = DataFile::read(&arguments.train)?;
    let test = arguments.test.as_deref().map(DataFile::read).transpose()?;
    let traffic = arguments
        .traffic
        .as_deref()
        .map(DataFile::read_requests)
        .transpose()?;
    if let Some(traffic) = &traffic {
        terminal::warn_bad_lines(&traffic.path, &traffic.bad, traffic.bad_count);
    }
    let tokenizer = arguments
        .model
        .as_deref()
        .map(Tokenizer::load)
        .transpose()?;
    let count = |text: &str| match &tokenizer {
        Some(tokenizer) => Ok(tokenizer.encode(text, true)?.len()),
        None => Ok(0),
    };
    let counter = tokenizer.is_some().then_some(TokenCounter {
        count: &count,
        context: arguments.context,
    });
    let report = hygiene::check(
        &train,
        test.as_ref(),
        traffic.as_ref(),
        counter.as_ref(),
        arguments.seed,
    )?;
    if arguments.json {
        terminal::show_json(&report)?;
    } else {
        for file in [&report.train].into_iter().chain(&report.test) {
            terminal::warn_bad_lines(&file.path, &file.bad_lines, file.bad_count);
        }
        terminal::show(&text(&report)?)?;
    }
    Ok(if report.must_fix() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn text(report: &Report) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    file(&mut text, "train", &report.train)?;
    if let Some(test) = &report.test {
        file(&mut text, "test", test)?;
    }
    if let Some(overlap) = &report.overlap {
        writeln!(
            text,
            "overlap  {} test lines in the training data, {} with the same input, {} nearly the same, {} made of its phrases",
            overlap.exact, overlap.same_input, overlap.near, overlap.contained
        )?;
        let lines = [
            &overlap.exact_lines,
            &overlap.same_input_lines,
            &overlap.near_lines,
        ];
        named(
            &mut text,
            "test line is like train line",
            lines.into_iter().flatten(),
        )?;
    }
    if let Some(traffic) = &report.traffic {
        for (name, unit, statistic) in [
            ("lengths", "Kolmogorov–Smirnov distance", traffic.lengths),
            ("wording", "Jensen–Shannon divergence", traffic.wording),
        ] {
            writeln!(
                text,
                "traffic  {name}: {unit} {:.3}, {:.3} expected of one source, p {:.3}",
                statistic.value, statistic.expected, statistic.p
            )?;
        }
    }
    for finding in &report.findings {
        let weight = if finding.weight == Weight::Fix {
            "FIX "
        } else {
            "look"
        };
        writeln!(text, "{weight} {}", finding.message)?;
    }
    if report.findings.is_empty() {
        writeln!(text, "nothing to fix")?;
    }
    Ok(text)
}

fn file(text: &mut String, name: &str, report: &FileReport) -> std::fmt::Result {
    let found = &report.duplicates;
    writeln!(
        text,
        "{name:<7}  {} lines, {} bad; {} repeated, {} nearly repeated, {} contradictory",
        report.lines, report.bad_count, found.exact, found.near, found.contradictions
    )?;
    named(
        text,
        "line is like line",
        found.exact_lines.iter().chain(&found.near_lines),
    )?;
    let lengths = &report.lengths;
    let rows = [
        ("characters of input", Some(lengths.input_characters)),
        ("characters of output", lengths.output_characters),
        ("tokens", lengths.tokens),
    ];
    for (what, distribution) in rows {
        if let Some(Distribution {
            least,
            p5,
            median,
            mean,
            p95,
            most,
        }) = distribution
        {
            writeln!(
                text,
                "         {what}: {least} to {most}, median {median}, mean {mean:.1}, 5 % {p5}, 95 % {p95}"
            )?;
        }
    }
    if let Some(labels) = &report.labels {
        let mut counts: Vec<_> = labels.counts.iter().collect();
        counts.sort_by(|one, other| other.1.cmp(one.1));
        let counts = counts
            .iter()
            .take(10)
            .map(|(label, count)| format!("{} {count}", terminal::shown(label, 30)));
        let counts = counts.collect::<Vec<_>>().join(", ");
        writeln!(
            text,
            "         {} labels, evenness {:.2}: {counts}",
            labels.counts.len(),
            labels.evenness
        )?;
    }
    Ok(())
}

/// The first few of similar lines.
fn named<'a>(
    text: &mut String,
    what: &str,
    lines: impl Iterator<Item = &'a hygiene::Similar>,
) -> std::fmt::Result {
    let pairs: Vec<String> = lines
        .take(5)
        .map(|s| format!("{}={}", s.line, s.like))
        .collect();
    if pairs.is_empty() {
        return Ok(());
    }
    writeln!(text, "         {what}: {}", pairs.join(", "))
}
