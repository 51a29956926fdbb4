//! `furlong classify`: which of its classes a model takes texts for.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use furlong_core::Isa;
use furlong_core::argmax::argmax;
use serde::Serialize;

use crate::sentences::SentenceArgs;
use crate::{model, text};

/// Tell what texts are, by a model that was taught classes
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  furlong classify --model intents 'turn the lights off' 'what is the weather like?'
  furlong classify --model intents --json - < texts.txt > classes.json

Prints the likeliest class of each text and its probability; with --json those of all classes.")]
pub struct ClassifyArgs {
    #[command(flatten)]
    sentences: SentenceArgs,
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
    let model = model::encoder(&args.sentences.model)?;
    let labels = model.labels()?;
    let isa = Isa::detect();
    let encoded = args.sentences.encode(|tokens| model.classify(tokens))?;
    let classified = encoded.into_iter().map(|one| {
        let best = argmax(isa, &one.numbers).unwrap_or(0);
        Classified {
            text: one.text,
            label: labels.get(best).cloned().unwrap_or_default(),
            probabilities: one.numbers,
        }
    });
    let texts: Vec<Classified> = classified.collect();
    if args.sentences.json {
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
