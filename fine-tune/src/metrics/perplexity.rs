//! Perplexity: how surprised a model is by the references.

use super::{Metric, Sample, Table};

/// The name of [`Perplexity`], the one metric that looks at losses and not at answers.
pub const PERPLEXITY: &str = "perplexity";

/// The exponential of the mean loss of a reference's token. Lower is better. Samples without a loss are left out.
#[derive(Debug, Clone, Copy)]
pub struct Perplexity;

impl Metric for Perplexity {
    fn name(&self) -> &'static str {
        PERPLEXITY
    }

    fn higher_is_better(&self) -> bool {
        false
    }

    fn measure(&self, samples: &[Sample<'_>]) -> Table {
        let mut table = Table::new(2);
        for sample in samples {
            let loss = sample.loss.map(|loss| [(0, loss.nats), (1, loss.tokens)]);
            table.push(loss.into_iter().flatten());
        }
        table
    }

    fn score(&self, sums: &[f64]) -> f64 {
        match sums {
            [nats, tokens] => (nats / tokens).exp(),
            _ => f64::NAN,
        }
    }

    fn score_one(&self, row: &[f64]) -> f64 {
        self.score(row)
    }
}
