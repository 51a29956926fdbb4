//! How a model is asked, for the commands that ask one.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use clap::builder::PossibleValuesParser;
use furlong_fine_tune::data::Example;
use furlong_fine_tune::evaluation::{Answer, AnswerWriter, Options, Runner, default_metrics};
use furlong_fine_tune::metrics::{self, Metric};

use crate::{interrupt, terminal};

/// What both `evaluate` and `compare` take.
#[derive(Args)]
pub struct AnsweringArguments {
    /// What to measure, such as `exact-match,bleu`; else what suits the data.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = PossibleValuesParser::new(metrics::names()))]
    metrics: Vec<String>,
    /// The most tokens of an answer.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_tokens: u32,
    /// A text that ends an answer; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Give prompts to the model's chat template as the user's message, instead of as they stand.
    #[arg(long)]
    chat: bool,
    /// The most tokens of prompt and answer; what the model was made for if absent.
    #[arg(long, value_name = "TOKENS")]
    context: Option<NonZeroUsize>,
    /// Threads that run the model; one for each core if absent.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Resamples of the bootstrap.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub resamples: u32,
    /// Seed of the bootstrap.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

impl AnsweringArguments {
    /// The metrics that were asked for, or suit the data.
    pub fn metrics(&self, examples: &[Example]) -> Vec<Box<dyn Metric>> {
        if self.metrics.is_empty() {
            return default_metrics(examples);
        }
        let named = self
            .metrics
            .iter()
            .filter_map(|name| metrics::by_name(name));
        named.collect()
    }

    /// Lets a model answer, with an adapter if there is one; hands back the answers, fewer than there are examples after Ctrl-C.
    ///
    /// # Errors
    /// A folder that holds no model, a model that fails, a file that can't be written.
    pub fn answers(
        &self,
        folder: &Path,
        adapter: Option<&Path>,
        examples: &[Example],
        metrics: &[Box<dyn Metric>],
        mut out: Option<AnswerWriter>,
    ) -> Result<Vec<Answer>> {
        let options = Options {
            max_tokens: self.max_tokens as usize,
            adapter: adapter.map(Path::to_owned),
            stop: self.stop.clone(),
            threads: self.threads,
            context: self.context.map(NonZeroUsize::get),
            chat: self.chat,
            loss: metrics
                .iter()
                .any(|metric| metric.name() == metrics::PERPLEXITY),
        };
        let runner = Runner::open(folder, options)?;
        let bar = terminal::progress_bar(
            examples.len(),
            "{bar:30} {pos}/{len} answers, {eta} left, {msg}",
        );
        let mut answers = Vec::new();
        let mut tokens = 0;
        runner.answer_all(examples, interrupt::requested(), |_, answer| {
            tokens += answer.tokens;
            bar.set_message(format!(
                "{:.0} tokens/s",
                tokens as f64 / bar.elapsed().as_secs_f64().max(1e-3)
            ));
            bar.inc(1);
            if let Some(out) = &mut out {
                out.write(&answer)?;
            }
            answers.push(answer);
            Ok(if interrupt::is_requested() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            })
        })?;
        bar.finish_and_clear();
        Ok(answers)
    }
}
