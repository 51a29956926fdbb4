//! An encoder that tells what a text is: BERT's head for sequence classification.
//!
//! The state of a text's first token goes through the pooler, a linear layer and tanh, and a second linear layer gives the logits of
//! the classes (J. Devlin and others, «BERT», 2018, arXiv 1810.04805, as Hugging Face's BertForSequenceClassification has it).

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};

use super::body::Names;
use super::{Batch, Gradients, Loss, Model, ModelOptions, ParameterId};
use crate::error::{Error, Result};
use crate::train::layers::linear::LinearKept;
use crate::train::layers::{Context, Dropout, Linear, Site, WeightLayout, loss};

/// The places of the head's dropout masks, behind that of the embedding.
const POOLER_SITE: Site = Site::last(1);
const OUTPUT_SITE: Site = Site::last(2);
const POOLED_SITE: Site = Site::last(3);

/// The head.
#[derive(Debug)]
pub struct Classifier {
    pooler: Linear,
    output: Linear,
    labels: usize,
    /// Share of the pooled state that is dropped in training.
    dropout: f32,
}

/// What the head keeps for the way back.
struct Kept {
    /// Which tokens were looked at.
    places: Tensor<1, Int>,
    /// Their states, `[texts, width]`.
    first: Tensor<2>,
    pooler: LinearKept,
    /// Behind tanh, `[texts, width]`.
    pooled: Tensor<2>,
    mask: Option<Tensor<2>>,
    output: LinearKept,
}

impl Classifier {
    /// Finds the head's parameters.
    ///
    /// # Errors
    /// When one is missing.
    pub fn new(names: &Names, labels: usize, options: &ModelOptions) -> Result<Classifier> {
        let linear =
            |module: &str, site| names.linear(module.to_owned(), WeightLayout::OutIn, true, site);
        Ok(Classifier {
            pooler: linear("pooler.dense", POOLER_SITE)?,
            output: linear("classifier", OUTPUT_SITE)?,
            labels,
            dropout: options.residual_dropout,
        })
    }

    /// Its parameters.
    pub fn parameters(&self) -> impl Iterator<Item = ParameterId> {
        let linears = [&self.pooler, &self.output].into_iter();
        linears.flat_map(|linear| [Some(linear.weight), linear.bias].into_iter().flatten())
    }

    /// The logits `[texts, labels]` of the tokens of `states`, `[rows * tokens, width]`, that have a target.
    fn forward(&self, context: Context, states: &Tensor<2>, places: &[usize]) -> (Tensor<2>, Kept) {
        let device = states.device();
        let list: Vec<i32> = places.iter().map(|&place| place as i32).collect();
        let places = Tensor::from_data(TensorData::new(list, [places.len()]), &device);
        let first = states.clone().select(0, Tensor::clone(&places));
        let (pooled, pooler) = self.pooler.forward(context, &first);
        let pooled = pooled.tanh();
        let mask = context
            .dropout
            .mask(POOLED_SITE, self.dropout, pooled.dims(), &device);
        let (logits, output) = self.output.forward(context, &masked(pooled.clone(), &mask));
        let kept = Kept {
            places,
            first,
            pooler,
            pooled,
            mask,
            output,
        };
        (logits, kept)
    }

    /// The gradient of `states` from that of the logits.
    fn backward(
        &self,
        context: Context,
        states: &Tensor<2>,
        kept: Kept,
        dlogits: Tensor<2>,
        gradients: &mut Gradients,
    ) -> Option<Tensor<2>> {
        let input = masked(kept.pooled.clone(), &kept.mask);
        let dinput =
            self.output
                .backward(context, &input, kept.output, dlogits, true, gradients)?;
        let dpooled = masked(dinput, &kept.mask) * (kept.pooled.square().neg() + 1.0);
        let dfirst =
            self.pooler
                .backward(context, &kept.first, kept.pooler, dpooled, true, gradients)?;
        let dstates = states.zeros_like();
        Some(dstates.select_assign(0, kept.places, dfirst, IndexingUpdateOp::Add))
    }

    /// Where a batch has texts: each target's place is that of its text's first token.
    fn places(&self, batch: &Batch) -> Result<Vec<usize>> {
        let places: Vec<usize> = (0..batch.len())
            .filter(|&place| {
                batch
                    .weights
                    .get(place)
                    .is_some_and(|&weight| weight != 0.0)
            })
            .collect();
        let beyond = |&&place: &&usize| batch.targets[place] as usize >= self.labels;
        match places.iter().find(beyond) {
            Some(&place) => Err(Error::training(
                "batch",
                format!("class {} of {}", batch.targets[place], self.labels),
            )),
            None if places.is_empty() => Err(Error::training("batch", "there is no class in it")),
            None => Ok(places),
        }
    }
}

fn masked(x: Tensor<2>, mask: &Option<Tensor<2>>) -> Tensor<2> {
    match mask {
        Some(mask) => x * mask.clone(),
        None => x,
    }
}

impl Model {
    /// The logits of the classes of each text that has a target, `[texts, labels]`.
    ///
    /// # Errors
    /// When the batch is out of the model's range, or the model is no classifier.
    pub fn class_logits(&self, batch: &Batch) -> Result<Tensor<2>> {
        let Some(classifier) = &self.body.classifier else {
            let subject = format!("a model of type {}", self.architecture.model_type());
            return Err(Error::training(
                subject,
                "it has no head that tells classes",
            ));
        };
        let places = classifier.places(batch)?;
        let states = self.states(&self.inputs(batch, None)?);
        Ok(classifier.forward(self.context(None), &states, &places).0)
    }

    pub(super) fn loss_of_classes(&self, classifier: &Classifier, batch: &Batch) -> Result<Loss> {
        let places = classifier.places(batch)?;
        let states = self.states(&self.inputs(batch, None)?);
        let (logits, _) = classifier.forward(self.context(None), &states, &places);
        Ok(cross_entropy(logits, batch, &places).0)
    }

    pub(super) fn backward_classes(
        &self,
        classifier: &Classifier,
        batch: &Batch,
        dropout_seed: Option<u64>,
        gradients: &mut Gradients,
    ) -> Result<Loss> {
        let places = classifier.places(batch)?;
        let inputs = self.inputs(batch, dropout_seed)?;
        let context = self.context(dropout_seed);
        let (states, kept) = self.states_kept(&inputs);
        let (logits, head) = classifier.forward(context, &states, &places);
        let (loss, dlogits) = cross_entropy(logits, batch, &places);
        if let Some(dstates) = classifier.backward(context, &states, head, dlogits, gradients) {
            self.states_back(&inputs, kept, dstates, gradients);
        }
        Ok(loss)
    }

    fn context(&self, dropout_seed: Option<u64>) -> Context<'_> {
        Context {
            parameters: &self.parameters,
            dropout: Dropout::new(dropout_seed),
        }
    }
}

/// The loss of logits `[texts, labels]`, and their gradient.
fn cross_entropy(logits: Tensor<2>, batch: &Batch, places: &[usize]) -> (Loss, Tensor<2>) {
    let targets: Vec<u32> = places.iter().map(|&place| batch.targets[place]).collect();
    let weights: Vec<f32> = places.iter().map(|&place| batch.weights[place]).collect();
    let (losses, dlogits) = loss::of_logits(logits, &targets, &weights);
    let loss = Loss {
        sum: losses.iter().map(|&one| f64::from(one)).sum(),
        weight: weights.iter().map(|&weight| f64::from(weight)).sum(),
        tokens: places.len(),
    };
    (loss, dlogits)
}
