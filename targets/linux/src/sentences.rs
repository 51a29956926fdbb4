//! The texts that encoders read: from the command line or standard input, and in batches through the model.

use anyhow::Result;
use clap::Args;
use furlong_runtime::Error;

use crate::cli::ModelArgs;
use crate::{model, progress, text};

/// How many texts go through the model at once.
const BATCH: usize = 16;

/// A model, and the texts for it.
#[derive(Debug, Args)]
pub struct SentenceArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// The texts; `-` reads one from each line of standard input
    #[arg(required = true, value_name = "TEXT")]
    texts: Vec<String>,
}

/// What a model made of one text.
#[derive(Debug)]
pub struct Encoded {
    pub text: String,
    /// Of the text, with those that the tokenizer adds.
    pub tokens: usize,
    pub numbers: Vec<f32>,
}

impl SentenceArgs {
    /// What `encode` makes of each text; it is given the tokens of some, and gives as many lists of numbers.
    ///
    /// # Errors
    /// No text, a model without a tokenizer, and whatever keeps the model from encoding.
    pub fn encode(
        &self,
        encode: impl Fn(&[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error>,
    ) -> Result<Vec<Encoded>> {
        let texts = text::lines_of(&self.texts)?;
        let tokenizer = model::tokenizer(&self.model.files())?;
        let progress = progress::bar(texts.len(), "{bar:40} {pos}/{len} texts, {eta} left")?;
        let mut all = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            let tokens = batch
                .iter()
                .map(|text| tokenizer.encode(text, true))
                .collect::<Result<Vec<_>, _>>()?;
            let numbers = encode(&tokens)?;
            for ((text, tokens), numbers) in batch.iter().zip(&tokens).zip(numbers) {
                all.push(Encoded {
                    text: text.clone(),
                    tokens: tokens.len(),
                    numbers,
                });
            }
            progress.inc(u64::try_from(batch.len())?);
        }
        progress.finish_and_clear();
        Ok(all)
    }
}
