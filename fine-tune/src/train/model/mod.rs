//! A model that can be trained: what the training loop talks to.
//!
//! ```no_run
//! # use furlong_fine_tune::{checkpoint::Checkpoint, train::model::*};
//! # fn main() -> Result<(), furlong_fine_tune::error::Error> {
//! let device = burn::tensor::Device::flex();
//! let checkpoint = Checkpoint::open("model".as_ref())?;
//! let mut model = Model::from_checkpoint(&checkpoint, &ModelOptions::default(), 1, &device)?;
//! let batch = Batch::of_sequences(&[vec![1, 2, 3]])?;
//! let mut gradients = Gradients::new();
//! let loss = model.backward(&batch, Some(42), &mut gradients)?; // adds: call it for each part of a large batch
//! gradients.map(|_, gradient| gradient / loss.weight);
//! for (id, gradient) in gradients.iter() {
//!     let change = gradient.clone() * -0.1;
//!     model.parameters_mut().update(id, |value| value + change);
//! }
//! # Ok(()) }
//! ```
//!
//! Losses and gradients are sums over the targets, each times its weight: divide by the weight of all parts of a batch, and the
//! result doesn't depend on how it was cut into parts.

mod batch;
mod block;
mod body;
mod classes;
mod decoder;
mod encoder;
mod files;
mod initial;
mod inputs;
mod options;
mod pairs;
mod parameters;
mod states;

use burn::tensor::{Device, Tensor};

pub use batch::Batch;
pub use options::{ModelOptions, Precision};
pub use parameters::{Gradients, Parameter, ParameterId, Parameters, Role};

pub(crate) use files::{Stored, write_tensors, write_text};
pub(crate) use initial::uniform;

use crate::architecture::{Architecture, DecoderFamily, TensorSpec};
use crate::checkpoint::{self, Checkpoint};
use crate::comparison::Random;
use crate::error::{Error, Result};
use crate::export::ZeroPoints;
use crate::graph::Storage;
use crate::train::layers::{host, loss};
use body::Body;
use initial::Source;

/// The loss of a batch, or of several.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Loss {
    /// Cross entropy in nats, each target's times its weight.
    pub sum: f64,
    /// Sum of the weights.
    pub weight: f64,
    /// Number of targets with a weight other than 0.
    pub tokens: usize,
}

impl Loss {
    /// Nats a target.
    pub fn mean(&self) -> f64 {
        self.sum / self.weight
    }
}

impl std::ops::AddAssign for Loss {
    fn add_assign(&mut self, other: Loss) {
        self.sum += other.sum;
        self.weight += other.weight;
        self.tokens += other.tokens;
    }
}

/// A decoder or encoder with its parameters, on a device.
#[derive(Debug)]
pub struct Model {
    architecture: Architecture,
    options: ModelOptions,
    parameters: Parameters,
    body: Body,
    /// The lowest block with anything to train: nothing below it is part of the way back.
    lowest: usize,
}

impl Model {
    /// A model with the weights of a checkpoint, and a new adapter if the options ask for one (its start follows from `seed`).
    ///
    /// # Errors
    /// When the architecture can't be trained, a tensor can't be read, or the options make no sense.
    pub fn from_checkpoint(
        checkpoint: &Checkpoint,
        options: &ModelOptions,
        seed: u64,
        device: &Device,
    ) -> Result<Model> {
        let source = Source::Checkpoint(checkpoint, seed);
        Model::new(checkpoint.architecture(), source, options, seed, device)
    }

    /// A model with random weights. The same seed gives the same weights on every machine.
    ///
    /// # Errors
    /// When the architecture can't be trained, or the options make no sense.
    pub fn random(
        architecture: &Architecture,
        options: &ModelOptions,
        seed: u64,
        device: &Device,
    ) -> Result<Model> {
        let layers = match architecture {
            Architecture::Decoder(config) => config.layers,
            Architecture::Encoder(config) => config.layers,
        };
        let source = Source::Random {
            seed,
            deviation: options.initial_deviation,
            residual: 2 * layers,
        };
        Model::new(architecture, source, options, seed, device)
    }

    fn new(
        architecture: &Architecture,
        source: Source,
        options: &ModelOptions,
        seed: u64,
        device: &Device,
    ) -> Result<Model> {
        let device = device.clone().without_autodiff();
        options.check(&device)?;
        if host::kernels(&device).is_some() {
            host::keep_freed_memory();
        }
        let mut parameters = Parameters::new(&device, options.precision);
        for (index, spec) in architecture.tensors().iter().enumerate() {
            let role = role(&spec.name, spec.shape.len());
            let values = source.values(index, spec)?;
            let values = rounded(architecture, options, role, spec, values);
            parameters.add(&spec.name, &spec.shape, values, role, true)?;
        }
        let mut body = Body::new(architecture, options, &parameters)?;
        if let Some(adapter) = &options.adapter {
            parameters.freeze();
            // A head that is new has to learn, and one that isn't may.
            if let Some(head) = &body.classifier {
                head.parameters().for_each(|id| parameters.unfreeze(id));
            }
            let mut random = Random::new(seed, ADAPTER_STREAM);
            let mut count = 0;
            for linear in body.blocks.iter_mut().flat_map(|block| block.linears_mut()) {
                count += usize::from(adapter.attach(&mut parameters, linear, &mut random)?);
            }
            let layers = body.blocks.len();
            let chosen = adapter.layers_to_transform.iter().flatten();
            if let Some(layer) = chosen.copied().find(|&layer| layer >= layers) {
                return Err(Error::training(
                    "adapter setting layers_to_transform",
                    format!(
                        "there is no layer {layer}; the model's are 0 to {}",
                        layers - 1
                    ),
                ));
            }
            if count == 0 {
                return Err(Error::training(
                    "adapter setting target_modules",
                    format!(
                        "no linear layer of the model is called {}",
                        adapter.target_modules.join(" or ")
                    ),
                ));
            }
        }
        let adapted = |block: &block::Block| block.linears().any(|linear| linear.adapter.is_some());
        let lowest = body.blocks.iter().position(adapted).unwrap_or(0);
        Ok(Model {
            architecture: architecture.clone(),
            options: options.clone(),
            parameters,
            body,
            lowest,
        })
    }

    /// The model as types.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Whether it tells what a text is.
    pub fn is_classifier(&self) -> bool {
        self.body.classifier.is_some()
    }

    /// The choices made when it was built.
    pub fn options(&self) -> &ModelOptions {
        &self.options
    }

    /// Its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Its parameters, to be changed.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// The loss of a batch as evaluation sees it: nothing is dropped.
    ///
    /// # Errors
    /// When the batch is out of the model's range, or the model is an encoder.
    pub fn loss(&self, batch: &Batch) -> Result<Loss> {
        if let Some(classifier) = &self.body.classifier {
            return self.loss_of_classes(classifier, batch);
        }
        let head = self.head()?;
        let hidden = self.states(&self.inputs(batch, None)?);
        let (loss, _) = loss::cross_entropy(&self.parameters, head, hidden, batch, None);
        Ok(loss)
    }

    /// The logits of every token of a batch, `[rows * tokens, vocabulary]`: for tests and small batches.
    ///
    /// # Errors
    /// When the batch is out of the model's range, or the model is an encoder.
    pub fn logits(&self, batch: &Batch) -> Result<Tensor<2>> {
        let head = self.parameters[self.head()?].value().clone();
        let hidden = self.states(&self.inputs(batch, None)?);
        Ok(self.parameters.product(hidden, head.transpose()))
    }

    /// The loss of a batch in training, and its gradients, added to what `gradients` holds. What is dropped follows from
    /// `dropout_seed`, which should be another one for each batch; with `None` nothing is.
    ///
    /// # Errors
    /// When the batch is out of the model's range, or the model is an encoder; nothing is added then.
    pub fn backward(
        &self,
        batch: &Batch,
        dropout_seed: Option<u64>,
        gradients: &mut Gradients,
    ) -> Result<Loss> {
        if let Some(classifier) = &self.body.classifier {
            return self.backward_classes(classifier, batch, dropout_seed, gradients);
        }
        let head = self.head()?;
        let inputs = self.inputs(batch, dropout_seed)?;
        let (hidden, kept) = self.states_kept(&inputs);
        let (loss, dhidden) =
            loss::cross_entropy(&self.parameters, head, hidden, batch, Some(gradients));
        if let Some(dhidden) = dhidden {
            self.states_back(&inputs, kept, dhidden, gradients);
        }
        Ok(loss)
    }

    fn head(&self) -> Result<ParameterId> {
        self.body.head.ok_or_else(|| {
            let subject = format!("a model of type {}", self.architecture.model_type());
            Error::training(
                subject,
                "it predicts no tokens; train it on pairs of sentences, or on texts with labels",
            )
        })
    }
}

/// The stream of random numbers that adapters start from; weights take those from 0.
const ADAPTER_STREAM: u64 = 1 << 32;

/// A weight as an export with these options stores it.
fn rounded(
    architecture: &Architecture,
    options: &ModelOptions,
    role: Role,
    spec: &TensorSpec,
    data: Vec<f32>,
) -> Vec<f32> {
    let block = options.block;
    let weights = options.base_weights;
    let precision = weights.precision(ZeroPoints::Float, false, block);
    let positions = [
        "wpe.weight",
        "position_embeddings.weight",
        "token_type_embeddings.weight",
    ];
    let storage = match role {
        // As the export: the head of a classifier is small.
        _ if spec.name == "classifier.weight" || spec.name == "pooler.dense.weight" => return data,
        Role::Matrix => precision.linear,
        Role::Embedding if positions.iter().any(|table| spec.name.ends_with(table)) => return data,
        Role::Embedding | Role::Head => precision.embedding,
        _ => return data,
    };
    let tensor = checkpoint::Tensor {
        shape: spec.shape.clone(),
        data,
    };
    let input_first = role == Role::Matrix
        && matches!(architecture, Architecture::Decoder(config) if config.family == DecoderFamily::Gpt2);
    if input_first && storage != Storage::F32 {
        storage
            .rounded(tensor.transposed(), block)
            .transposed()
            .data
    } else {
        storage.rounded(tensor, block).data
    }
}

/// What a tensor of that name and rank is for.
fn role(name: &str, rank: usize) -> Role {
    let tables = [
        "embed_tokens.weight",
        "wte.weight",
        "wpe.weight",
        "_embeddings.weight",
    ];
    if rank == 1 {
        Role::Vector
    } else if name == "lm_head.weight" || name == "classifier.weight" {
        Role::Head
    } else if tables.iter().any(|table| name.ends_with(table)) {
        Role::Embedding
    } else {
        Role::Matrix
    }
}
