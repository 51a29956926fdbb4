//! `furlong embed`: sentences to vectors.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::failure::Hint;
use crate::sentences::SentenceArgs;
use crate::{model, text};

/// Turn sentences into vectors, and compare them
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  furlong embed --model minilm 'A cat sits on the mat.' 'A kitten rests on a rug.' 'Stocks fell today.'
  furlong embed --model minilm --json - < sentences.txt > vectors.json

Prints the cosine similarity of each sentence with each other; with --json the vectors themselves.")]
pub struct EmbedArgs {
    #[command(flatten)]
    sentences: SentenceArgs,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output {
    dimensions: usize,
    embeddings: Vec<Embedding>,
}

#[derive(Debug, Serialize)]
struct Embedding {
    text: String,
    tokens: usize,
    vector: Vec<f32>,
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the model from embedding.
pub fn run(args: &EmbedArgs) -> Result<ExitCode> {
    let sentences = &args.sentences;
    let model = model::encoder(&sentences.model)?;
    if model.is_classifier() {
        bail!(
            anyhow::anyhow!(
                "{} tells classes, it makes no embeddings",
                sentences.model.name()
            )
            .context(Hint("use `furlong classify`".to_owned()))
        );
    }
    let encoded = sentences.encode(|tokens| model.encode(tokens))?;
    let embeddings = encoded.into_iter().map(|one| Embedding {
        text: one.text,
        tokens: one.tokens,
        vector: one.numbers,
    });
    let embeddings: Vec<Embedding> = embeddings.collect();
    if sentences.json {
        let dimensions = embeddings.first().map_or(0, |first| first.vector.len());
        let output = Output {
            dimensions,
            embeddings,
        };
        text::show_json(&output)?;
    } else {
        text::show(&table(&embeddings))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(embeddings: &[Embedding]) -> String {
    if let [only] = embeddings {
        let numbers: Vec<String> = only.vector.iter().map(|x| format!("{x:.6}")).collect();
        return format!("{}\n", numbers.join(" "));
    }
    let header = (1..=embeddings.len()).map(|number| format!("[{number}]"));
    let mut rows = vec![std::iter::once(String::new()).chain(header).collect()];
    for (index, one) in embeddings.iter().enumerate() {
        let mut row = vec![format!("[{}] {}", index + 1, shortened(&one.text))];
        row.extend(
            embeddings
                .iter()
                .map(|other| format!("{:.4}", cosine(&one.vector, &other.vector))),
        );
        rows.push(row);
    }
    text::columns(&rows)
}

fn shortened(text: &str) -> String {
    const WIDTH: usize = 40;
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |x: &[f32], y: &[f32]| -> f64 {
        x.iter()
            .zip(y)
            .map(|(&x, &y)| f64::from(x) * f64::from(y))
            .sum()
    };
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 {
        dot(a, b) / lengths
    } else {
        0.0
    }
}
