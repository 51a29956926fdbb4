//! ONNX graphs, built from an architecture's config: one file for each kind of block.
//!
//! The graph is written down, not traced: names are stable (nodes and weights are called as Hugging Face calls the
//! modules), the cache is an explicit input and output, and every linear layer is one node, where an
//! adapter can be attached.

mod adapter;
mod attention;
mod bert;
mod embedding;
mod gpt2;
mod layers;
mod linear;
mod llama;
mod pooling;
mod positions;

pub use adapter::{Slots, input_names};

use crate::architecture::{Architecture, DecoderConfig, DecoderFamily};
use crate::checkpoint::Tensor;
use crate::error::{Error, Result};
use crate::onnx::proto::ModelProto;
use crate::onnx::{Element, ExternalData, GraphBuilder, Value, WriteError, dims};
use crate::quantise::{Quantised, Recipe, quantise, to_f16};
use std::collections::BTreeMap;
use std::path::Path;

/// How a kind of weight is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// 32-bit floats.
    F32,
    /// 16-bit floats, widened where they are used.
    F16,
    /// Codes, scales and perhaps zero points in blocks.
    Blocks(Recipe),
}

impl Storage {
    /// What a runtime reads back of a matrix `[rows, cols]` that was stored so, in blocks of `block` columns.
    pub fn rounded(self, mut matrix: Tensor, block: usize) -> Tensor {
        match (self, &matrix.shape[..]) {
            (Self::F16, _) => matrix.data.iter_mut().for_each(|x| *x = to_f16(*x)),
            (Self::Blocks(recipe), &[rows, cols]) => {
                matrix.data = quantise(&matrix.data, rows, cols, recipe, block).dequantise();
            }
            (Self::F32 | Self::Blocks(_), _) => {}
        }
        matrix
    }
}

/// How each kind of weight is stored. Norms, biases and position tables are small and stay in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// Linear layers.
    pub linear: Storage,
    /// The token embedding, and the output head, whether it is the embedding or a matrix of its own.
    pub embedding: Storage,
    /// Columns that share a scale where weights are stored in blocks.
    pub block: usize,
}

impl Precision {
    /// Whether the embedding can be stored so: its rows must be whole blocks.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the model's width isn't a multiple of the block.
    pub fn check(self, architecture: &Architecture, source: &Path) -> Result<()> {
        let hidden = match architecture {
            Architecture::Decoder(config) => config.hidden_size,
            Architecture::Encoder(config) => config.hidden_size,
        };
        if matches!(self.embedding, Storage::Blocks(_)) && hidden % self.block != 0 {
            let supported = format!(
                "a multiple of {} for q8 and q4 in such blocks; export f16 or f32 instead",
                self.block
            );
            return Err(Error::unsupported(source, "hidden_size", hidden, supported));
        }
        Ok(())
    }
}

/// Where a graph's weights come from: Hugging Face name in, tensor out.
pub type Weights<'a> = dyn Fn(&str) -> Result<Tensor> + 'a;

/// What a graph is made of besides its architecture.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    /// Weights are read one at a time.
    pub weights: &'a Weights<'a>,
    /// How they are stored.
    pub precision: Precision,
    /// Matrices that have been quantised already, by the names of their weights.
    pub rounded: &'a BTreeMap<String, Quantised>,
    /// Modules that can take an adapter.
    pub slots: &'a Slots,
}

/// Builds the graph of `architecture`. Weights are written to the file `data`, beside which the model is to be stored. `metadata` goes
/// into the model as it is.
///
/// # Errors
/// When a weight can't be read or the data file can't be written.
pub fn build(
    architecture: &Architecture,
    parts: Parts<'_>,
    data: &Path,
    metadata: BTreeMap<String, String>,
) -> Result<ModelProto> {
    let graph = GraphBuilder::new(architecture.model_type(), ExternalData::create(data)?);
    let Parts {
        weights,
        precision,
        rounded,
        slots,
    } = parts;
    let mut exporter = Exporter {
        graph,
        weights,
        precision,
        rounded,
        slots,
    };
    match architecture {
        Architecture::Decoder(config) => exporter.decoder(config)?,
        Architecture::Encoder(config) => exporter.encoder(config)?,
    }
    Ok(exporter.graph.finish(metadata)?)
}

/// What the graph's parts share while they are built.
struct Exporter<'a> {
    graph: GraphBuilder,
    weights: &'a Weights<'a>,
    precision: Precision,
    rounded: &'a BTreeMap<String, Quantised>,
    slots: &'a Slots,
}

impl Exporter<'_> {
    /// A causal decoder: token ids, positions and the cache in; logits and the longer cache out.
    fn decoder(&mut self, config: &DecoderConfig) -> Result<()> {
        let tokens = [dims::BATCH, dims::SEQUENCE];
        let ids = self.graph.input("input_ids", Element::I64, &tokens);
        let positions = self.graph.input("position_ids", Element::I64, &tokens);
        let caches = self.cache_inputs(config);
        let (logits, caches) = match config.family {
            DecoderFamily::Llama => self.llama(config, &ids, &positions, &caches)?,
            DecoderFamily::Gpt2 => self.gpt2(config, &ids, &positions, &caches)?,
        };
        let shape = [
            dims::BATCH,
            dims::SEQUENCE,
            crate::onnx::Dim::Size(config.vocab_size),
        ];
        self.graph.output(&logits, Element::F32, &shape);
        self.cache_outputs(config, &caches);
        Ok(())
    }

    /// Reads the weight called `name`.
    fn tensor(&self, name: &str) -> Result<Tensor> {
        (self.weights)(name)
    }

    /// Stores the f32 vector or table called `name` as it is.
    fn stored(&mut self, name: &str) -> Result<Value> {
        let tensor = self.tensor(name)?;
        Ok(self.graph.constant_f32(name, &tensor.shape, &tensor.data)?)
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        Error::Io {
            path: error.path,
            source: error.source,
        }
    }
}
