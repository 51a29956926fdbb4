//! A model, loaded once and shared by all that use it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tract_core::internal::TypedOp;

use crate::compile::{Compiled, compile};
use crate::import::OnnxModel;
use crate::ops::{KvAttention, Machine, QuantGather};
use crate::options::LoadOptions;
use crate::pool::Pool;
use crate::report::Report;
use crate::rewrite::{
    AttentionSpec, OpSpec, Rewritten, RopeTable, rewrite_decoder, rewrite_encoder,
};
use crate::session::{InputRole, Session};
use crate::weights::{Cache, PackedLinear, PackedModel};
use crate::{Error, KvFormat, ModelFiles};

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Tokens in, logits of the next token out, with a cache of what was before: [`Model::session`].
    Decoder,
    /// Tokens in, embeddings out.
    Encoder,
}

/// A loaded model. Clones are cheap and share everything; threads may share one.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones of a model share.
#[derive(Debug)]
pub(crate) struct Inner {
    /// The graph's proto, without nodes and weights: its path and metadata.
    pub source: Source,
    pub kind: ModelKind,
    pub compiled: Compiled,
    pub machine: Machine,
    /// The output layer of a decoder, if it was cut off its graph.
    pub head: Option<Arc<PackedLinear>>,
    /// The cache file that packed weights are mapped from.
    pub weights_file: Option<PathBuf>,
    /// What a decoder's inputs are to be fed with.
    pub roles: Vec<InputRole>,
    pub vocab_size: usize,
    pub prefill_chunk: usize,
}

/// Where a model came from, and what it says about itself.
#[derive(Debug)]
pub(crate) struct Source {
    pub path: PathBuf,
    pub metadata: Vec<(String, String)>,
}

/// The most tokens a session holds when neither the model nor the caller says.
const DEFAULT_CONTEXT: usize = 4096;

impl Model {
    /// Loads the model in the folder `path` (its `model.onnx`), or the ONNX file `path`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Invalid`] and [`Error::Unsupported`] for a file that can't be read, breaks the
    /// format, or asks for what isn't there; [`Error::Graph`] when tract can't make a plan of it.
    pub fn load(path: &Path, options: &LoadOptions) -> Result<Model, Error> {
        Model::from_onnx(OnnxModel::open(path)?, options)
    }

    /// As [`Model::load`], from the files of a model wherever they are: those of an embedded one need no file system.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_files(files: &ModelFiles, options: &LoadOptions) -> Result<Model, Error> {
        Model::from_onnx(OnnxModel::open_files(files)?, options)
    }

    /// As [`Model::load`], from a model that has been opened.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn from_onnx(onnx: OnnxModel, options: &LoadOptions) -> Result<Model, Error> {
        let kind = kind(&onnx);
        let pool = Arc::new(Pool::new(options.threads())?);
        let source = Source {
            path: onnx.path().to_owned(),
            metadata: onnx
                .proto()
                .metadata_props
                .iter()
                .map(|entry| (entry.key.clone(), entry.value.clone()))
                .collect(),
        };
        let mut rewritten = rewrite(onnx, kind)?;
        let stated = source.get("furlong.context_length");
        let context = context_length(&source.path, stated, &rewritten.specs, options.context)?;
        shorten_tables(&mut rewritten.specs, context);
        let machine = Machine {
            isa: options.isa(),
            pool,
            kv: options.kv,
            context,
        };
        Model::build(source, kind, rewritten, machine, options)
    }

    fn build(
        source: Source,
        kind: ModelKind,
        rewritten: Rewritten,
        machine: Machine,
        options: &LoadOptions,
    ) -> Result<Model, Error> {
        let Rewritten {
            model, specs, head, ..
        } = rewritten;
        let table_rows = specs.iter().find_map(|spec| match spec {
            OpSpec::Gather(table, _) => Some(table.rows),
            _ => None,
        });
        let is_decoder = kind == ModelKind::Decoder;
        let Machine { isa, pool, .. } = &machine;
        let cache = Cache::of(&model, isa.kind(), &options.weights_cache);
        let linear = head.as_ref().map(|head| &head.linear);
        let packed = PackedModel::new(&specs, linear, *isa, pool, &cache)
            .map_err(|error| error.of(&source.path))?;
        let head = packed.head();
        let weights_file = packed.file.clone();
        let compiled = compile(&model, specs, packed, &machine, is_decoder)?;
        let roles = match kind {
            ModelKind::Decoder => compiled
                .inputs
                .iter()
                .map(|name| InputRole::of(&source.path, name))
                .collect::<Result<Vec<_>, Error>>()?,
            ModelKind::Encoder => Vec::new(),
        };
        // Norms, tables of positions and the like have been copied or were read once.
        for file in model.files().iter() {
            file.bytes.release_pages();
        }
        let vocab_size = head
            .as_ref()
            .map(|head| head.rows())
            .or(table_rows)
            .unwrap_or(0);
        let prefill_chunk = options.prefill_chunk.get();
        let inner = Inner {
            source,
            kind,
            compiled,
            machine,
            head,
            weights_file,
            roles,
            vocab_size,
            prefill_chunk,
        };
        Ok(Model {
            inner: Arc::new(inner),
        })
    }

    /// What the model is for.
    pub fn kind(&self) -> ModelKind {
        self.inner.kind
    }

    /// The ONNX file that the model was loaded from.
    pub fn path(&self) -> &Path {
        &self.inner.source.path
    }

    /// The folder that the model file is in: its tokenizer and configuration are beside it.
    pub fn folder(&self) -> &Path {
        self.path().parent().unwrap_or(Path::new("."))
    }

    /// What the model says about itself under `key`, such as `furlong.license`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.inner.source.get(key)
    }

    /// All that the model says about itself.
    pub fn all_metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        self.inner
            .source
            .metadata
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The most tokens that a session of this model can hold.
    pub fn context_length(&self) -> usize {
        self.inner.machine.context
    }

    /// How many tokens the model knows: the length of its logits.
    pub fn vocab_size(&self) -> usize {
        self.inner.vocab_size
    }

    /// How many threads run the model.
    pub fn threads(&self) -> usize {
        self.inner.machine.pool.threads()
    }

    /// How sessions store keys and values.
    pub fn kv_format(&self) -> KvFormat {
        self.inner.machine.kv
    }

    /// Bytes of weights that are read for one token: all packed layers, not the embedding table.
    pub fn weights_bytes(&self) -> usize {
        self.report().weights_bytes()
    }

    /// A new, empty session.
    ///
    /// # Errors
    /// [`Error::Usage`] for a model that isn't a decoder.
    pub fn session(&self) -> Result<Session, Error> {
        Session::new(self)
    }

    /// What the loaded model consists of: ops, weights, memory, kernels.
    pub fn report(&self) -> Report {
        Report::of(&self.inner)
    }

    /// The ops of the plan that have weights or state, with their nodes' names.
    pub(crate) fn nodes(inner: &Inner) -> impl Iterator<Item = (&str, &dyn TypedOp)> {
        let model = inner.compiled.plan.model();
        let order = inner.compiled.plan.order_without_consts();
        order.iter().map(move |&id| {
            let node = model.node(id);
            (node.name.as_str(), node.op.as_ref())
        })
    }
}

impl Source {
    fn get(&self, key: &str) -> Option<&str> {
        self.metadata
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    }
}

/// The model with our ops in it.
pub(crate) fn rewrite(onnx: OnnxModel, kind: ModelKind) -> Result<Rewritten, Error> {
    match kind {
        ModelKind::Decoder => rewrite_decoder(onnx),
        ModelKind::Encoder => rewrite_encoder(onnx),
    }
}

/// What a model is for: what it says, or what its inputs say.
pub(crate) fn kind(onnx: &OnnxModel) -> ModelKind {
    match onnx.metadata("furlong.kind") {
        Some("decoder") => ModelKind::Decoder,
        Some("encoder") => ModelKind::Encoder,
        _ if onnx
            .graph()
            .input
            .iter()
            .any(|input| input.name.starts_with("past_key_values")) =>
        {
            ModelKind::Decoder
        }
        _ => ModelKind::Encoder,
    }
}

/// How many tokens a session may hold: the least of what the model was trained for, what its tables have, and
/// what the caller wants.
pub(crate) fn context_length(
    path: &Path,
    stated: Option<&str>,
    specs: &[OpSpec],
    wanted: Option<usize>,
) -> Result<usize, Error> {
    let stated = match stated {
        None => None,
        Some(text) => Some(text.parse::<usize>().map_err(|_| {
            let reason = format!("{text:?} is not a number of tokens; export the model again");
            Error::invalid(path, "metadata furlong.context_length", reason)
        })?),
    };
    let tables = specs.iter().filter_map(|spec| match spec {
        OpSpec::Attention(attention) => attention.rope.as_ref().map(|table| table.positions()),
        _ => None,
    });
    let model = stated.into_iter().chain(tables).min();
    let context = match (model, wanted) {
        (Some(model), Some(wanted)) => model.min(wanted),
        (Some(model), None) => model,
        (None, Some(wanted)) => wanted,
        (None, None) => DEFAULT_CONTEXT,
    };
    match context {
        0 => Err(Error::Usage(
            "a context of 0 tokens can't hold anything; ask for more".into(),
        )),
        context => Ok(context),
    }
}

/// Keeps the rotary positions that a session of `context` tokens can reach.
pub(crate) fn shorten_tables(specs: &mut [OpSpec], context: usize) {
    let mut short: Vec<(Arc<RopeTable>, Arc<RopeTable>)> = Vec::new();
    for spec in specs {
        let OpSpec::Attention(AttentionSpec {
            rope: Some(table), ..
        }) = spec
        else {
            continue;
        };
        if table.positions() <= context {
            continue;
        }
        let known = short.iter().find(|(whole, _)| Arc::ptr_eq(whole, table));
        let first = match known {
            Some((_, first)) => first.clone(),
            None => {
                let first = Arc::new(table.first(context));
                short.push((table.clone(), first.clone()));
                first
            }
        };
        *table = first;
    }
}

/// One of the plan's ops, if it is of type `T`.
pub(crate) fn op<T: TypedOp>(op: &dyn TypedOp) -> Option<&T> {
    op.downcast_ref::<T>()
}

impl Inner {
    /// The attention layers.
    pub(crate) fn attentions(&self) -> impl Iterator<Item = &KvAttention> {
        Model::nodes(self).filter_map(|(_, node)| op::<KvAttention>(node))
    }

    /// The tables that rows are looked up in.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&str, &QuantGather)> {
        Model::nodes(self).filter_map(|(name, node)| Some((name, op::<QuantGather>(node)?)))
    }
}
