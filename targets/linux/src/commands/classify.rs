//! `furlong classify`: which of its classes a model takes texts for.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use furlong_core::Isa;
use serde::Serialize;

use crate::cli::ModelArgs;
use crate::{model, text};

/// How many texts go through the model at once.
const BATCH: usize = 16;

/// Tell what texts are, by a model that was taught classes
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  furlong classify --model intents 'turn the lights off' 'what is the weather like?'
  furlong classify --model intents --json - < texts.txt > classes.json

Prints the likeliest class of each text and its probability; with --json those of all classes.")]
pub struct ClassifyArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The texts; `-` reads one from each line of standard input
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output {
    labels: Vec<String>,
    texts: Vec<Classified>,
}

#[derive(Debug, Serialize)]
struct Classified {
    text: String,
    label: String,
    /// In the order of the labels.
    probabilities: Vec<f32>,
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the model from answering; a model that tells no classes.
pub fn run(args: &ClassifyArgs) -> Result<ExitCode> {
    let all = text::lines_of(&args.texts)?;
    let model = model::encoder(&args.model)?;
    let labels = model.labels()?;
    let tokenizer = model::tokenizer(&args.model.files())?;
    let isa = Isa::detect();
    let mut texts = Vec::with_capacity(all.len());
    for batch in all.chunks(BATCH) {
        let tokens = batch
            .iter()
            .map(|text| tokenizer.encode(text, true))
            .collect::<Result<Vec<_>, _>>()?;
        for (text, probabilities) in batch.iter().zip(model.classify(&tokens)?) {
            let best = furlong_core::argmax::argmax(isa, &probabilities).unwrap_or(0);
            texts.push(Classified {
                text: text.clone(),
                label: labels.get(best).cloned().unwrap_or_default(),
                probabilities,
            });
        }
    }
    if args.json {
        text::show_json(&Output { labels, texts })?;
    } else {
        text::show(&table(&texts))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each text, the text last: it may have any length.
fn table(texts: &[Classified]) -> String {
    let length = |one: &Classified| one.label.chars().count();
    let width = texts.iter().map(length).max().unwrap_or(0);
    let mut table = String::new();
    for Classified {
        text,
        label,
        probabilities,
    } in texts
    {
        let most = probabilities.iter().copied().fold(0.0, f32::max);
        table += &format!("{label:<width$}  {most:.3}  {text}\n");
    }
    table
}
