//! `fine-tune evaluate`: an exported model answers a test set, and the answers are measured.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use furlong_fine_tune::card;
use furlong_fine_tune::data::DataFile;
use furlong_fine_tune::evaluation::{
    AnswerWriter, Evaluation, Figure, TestSet, matched, read_answers, summarise,
};

use super::answering::AnsweringArguments;
use crate::{interrupt, terminal};

/// Measure an exported model on a test set, in the runtime that will run it.
#[derive(Args)]
#[command(after_help = "Example:\n  \
    fine-tune evaluate --model models/home-q4 --data test.jsonl --out answers.jsonl --record\n  \
    fine-tune evaluate --model models/home-q4 --adapter home-lora --data test.jsonl\n  \
    fine-tune evaluate --model models/smollm2-q4 --data wiki.jsonl --metrics perplexity --json\n\n\
    A line of data is {\"prompt\", \"completion\"}, {\"messages\"}, {\"text\", \"label\"} or {\"text\"}.\n\
    Exit codes: 0 done, 1 refused or failed, 2 wrong arguments, 130 interrupted (what was answered is measured and kept).")]
pub struct EvaluateArguments {
    /// Model folder that `fine-tune export` wrote.
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Adapter to answer with: a PEFT folder, or the name of one in the model's adapters/.
    #[arg(long, value_name = "FOLDER")]
    adapter: Option<PathBuf>,
    /// Test set: JSON lines.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    #[command(flatten)]
    answering: AnsweringArguments,
    /// File to write the answers to, as they come.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace that file if there is one.
    #[arg(long)]
    force: bool,
    /// Write the results into the model's card.
    #[arg(long)]
    record: bool,
    /// Answers of the base model to the same test set, which the card sets beside those of this one.
    #[arg(long, value_name = "FILE", requires = "record")]
    before: Option<PathBuf>,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// A model or data that can't be read, a model that fails, a file that can't be written.
pub fn run(arguments: &EvaluateArguments) -> Result<ExitCode> {
    let answering = &arguments.answering;
    let data = DataFile::read(&arguments.data)?;
    terminal::warn_bad_lines(&data.path, &data.bad, data.bad_count);
    let metrics = answering.metrics(&data.examples);
    let resamples = answering.resamples as usize;
    let measure = |answers: &[_]| summarise(answers, &metrics, resamples, answering.seed);
    // Read first, so that a mistake in it doesn't cost an evaluation.
    let before = match &arguments.before {
        Some(path) => {
            let answers = matched(path, read_answers(path)?, &data)?;
            let found: Vec<_> = answers.into_iter().flatten().collect();
            if found.len() < data.examples.len() {
                bail!(
                    "{} answers {} of the {} lines; give answers to the whole test set",
                    path.display(),
                    found.len(),
                    data.examples.len()
                );
            }
            Some(measure(&found))
        }
        None => None,
    };
    let out = match &arguments.out {
        Some(path) => Some(AnswerWriter::create(path, arguments.force)?),
        None => None,
    };
    let adapter = arguments.adapter.as_deref();
    let answers = answering.answers(&arguments.model, adapter, &data.examples, &metrics, out)?;
    let evaluation = Evaluation {
        model: arguments.model.clone(),
        adapter: arguments.adapter.clone(),
        data: TestSet::of(&data),
        bad_lines: data.bad.clone(),
        bad_count: data.bad_count,
        interrupted: answers.len() < data.examples.len(),
        summary: measure(&answers),
    };
    if arguments.json {
        terminal::show_json(&evaluation)?;
    } else {
        terminal::show(&table(&evaluation))?;
    }
    if evaluation.interrupted {
        eprintln!(
            "interrupted after {} of {} lines",
            answers.len(),
            data.examples.len()
        );
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    }
    if arguments.record {
        card::record(&arguments.model, &evaluation, before)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(evaluation: &Evaluation) -> String {
    let summary = &evaluation.summary;
    let rows: Vec<Vec<String>> = summary.metrics.iter().map(row).collect();
    let mut text = terminal::columns(&rows);
    text += &format!(
        "{} lines of {}, {} tokens in {:.1} s; intervals hold 95 %\n",
        summary.answers, evaluation.data.name, summary.tokens, summary.seconds
    );
    if summary.cut_off > 0 {
        text += &format!("answers cut off at --max-tokens: {}\n", summary.cut_off);
    }
    if summary.too_long > 0 {
        text += &format!(
            "prompts that don't fit into the context and count as empty answers: {}\n",
            summary.too_long
        );
    }
    text
}

fn row(figure: &Figure) -> Vec<String> {
    let score = figure
        .score
        .map_or("–".to_owned(), |score| format!("{score:.2}"));
    let interval = figure
        .interval
        .map_or(String::new(), |i| format!("{:.2} to {:.2}", i.low, i.high));
    vec![figure.metric.clone(), score, interval]
}
