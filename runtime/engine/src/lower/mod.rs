//! Lowers a model to a flat plan, which `furlong_core::plan` executes where there is no operating system.
//!
//! The road of a model ends elsewhere here. As for a session, [`rewrite`](crate::rewrite) finds our ops and tract reads the
//! rest; but instead of running the graph, `emit` says its nodes in the order of evaluation as ops of a plan, `constants`
//! packs weights for the board's instruction set, `arena` gives each value a place in one stretch of memory, and `image`
//! writes it all down. The graph is the decluttered one: what tract's code generation makes is for the host alone.

mod arena;
mod certificate;
mod constants;
mod emit;
mod image;
mod program;

pub use certificate::{BufferRow, Certificate, OpRow, TensorRow};

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use furlong_core::plan::{CacheFormat, Content, Header, Plan, PlanKind, WORDS_PER_BYTE};
use furlong_core::sampler::SamplingParams;
use furlong_core::{Feature, IsaKind};
use sha2::{Digest, Sha256};
use tract_core::internal::*;
use tract_core::optim::Optimizer;
use tract_onnx::tract_hir::infer::InferenceModelExt;

use crate::encode::{EMBEDDING, Pooling};
use crate::import::{OnnxModel, guard};
use crate::model::{context_length, kind, rewrite, shorten_tables};
use crate::pool::Pool;
use crate::rewrite::{DOMAIN, Rewritten};
use crate::text::LoweredText;
use crate::weights::{Contents, cache};
use crate::{Error, KvFormat, ModelFiles, ModelKind, compile, ops, plan};
use emit::Ending;
use program::{Extent, Program, Sizes};

/// Candidates that a plan which takes the likeliest token has room for all the same, for callers with other ideas.
const FEW_CANDIDATES: usize = 64;
/// The most candidates that a plan has room for; of a larger vocabulary the likeliest compete.
const MOST_CANDIDATES: usize = 1024;

/// Bytes of prompt that a plan has room to encode, for each token of its context.
const TEXT_BYTES_PER_TOKEN: usize = 8;
/// The least of that.
const LEAST_TEXT_BYTES: usize = 128;
/// The most of that: encoding takes time in proportion to its square.
const MOST_TEXT_BYTES: usize = 4096;

/// How to lower a model.
#[derive(Debug, Clone)]
pub struct PlanOptions {
    /// The instruction set of the board.
    pub isa: IsaKind,
    /// Most tokens that a session holds; what the model was made for if absent.
    pub context: Option<usize>,
    /// How the cache stores keys and values.
    pub kv: KvFormat,
    /// Most tokens of a prompt that go through the ops at once: more are faster, fewer take less memory.
    pub tile: NonZeroUsize,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Threads that pack weights.
    pub threads: NonZeroUsize,
}

impl PlanOptions {
    /// How many tokens of a prompt go through the ops at once unless said otherwise.
    pub const TILE: NonZeroUsize = NonZeroUsize::new(4).unwrap();
}

impl Default for PlanOptions {
    fn default() -> PlanOptions {
        PlanOptions {
            isa: IsaKind::Scalar,
            context: None,
            kv: KvFormat::F16,
            tile: PlanOptions::TILE,
            sampling: SamplingParams::GREEDY,
            threads: NonZeroUsize::MIN,
        }
    }
}

/// A model as a program of plan ops, to be laid out for one size or another.
#[derive(Debug)]
pub struct LoweredModel {
    path: PathBuf,
    program: Program,
    header: Header,
    sizes: Sizes,
    /// The tokenizer's section, or why there is none.
    tokenizer: Result<Vec<u8>, String>,
}

/// A plan as it is flashed.
#[derive(Debug, Clone)]
pub struct FinishedPlan {
    /// Its bytes.
    pub image: Vec<u8>,
    /// The cargo features of `furlong-core` that executing it takes.
    pub features: Vec<Feature>,
}

impl LoweredModel {
    /// Lowers the model in the folder `path` (its `model.onnx`), or the ONNX file `path`.
    ///
    /// # Errors
    /// As [`Model::load`](crate::Model::load); [`Error::Unsupported`] for a graph with something that plans have no op for.
    pub fn load(path: &Path, options: &PlanOptions) -> Result<LoweredModel, Error> {
        let onnx = OnnxModel::open(path)?;
        let folder = ModelFiles::Folder(onnx.folder().to_owned());
        LoweredModel::lower(onnx, Some(&folder), options)
    }

    /// As [`LoweredModel::load`], from the files of a model wherever they are.
    ///
    /// # Errors
    /// As [`LoweredModel::load`].
    pub fn load_files(files: &ModelFiles, options: &PlanOptions) -> Result<LoweredModel, Error> {
        LoweredModel::lower(OnnxModel::open_files(files)?, Some(files), options)
    }

    /// As [`LoweredModel::load`], from a model that has been opened. The plan has no tokenizer.
    ///
    /// # Errors
    /// As [`LoweredModel::load`].
    pub fn from_onnx(onnx: OnnxModel, options: &PlanOptions) -> Result<LoweredModel, Error> {
        LoweredModel::lower(onnx, None, options)
    }

    fn lower(
        onnx: OnnxModel,
        files: Option<&ModelFiles>,
        options: &PlanOptions,
    ) -> Result<LoweredModel, Error> {
        let kind = kind(&onnx);
        let pooling = Pooling::of(onnx.folder());
        let stated = onnx.metadata("furlong.context_length").map(str::to_owned);
        let source = digest(&onnx, files);
        let Rewritten {
            model,
            mut specs,
            head,
        } = rewrite(onnx, kind)?;
        let path = model.path().to_owned();
        let context = context_length(&path, stated.as_deref(), &specs, options.context)?;
        shorten_tables(&mut specs, context);
        let ending = match (&head, kind) {
            (Some(head), _) => Ending::Head(&head.linear),
            (None, ModelKind::Encoder) => Ending::Pooled(pooling),
            (None, ModelKind::Decoder) => {
                let reason = "its logits don't come out of a linear layer; export it again with `fine-tune export`";
                return Err(Error::unsupported(&path, reason));
            }
        };
        let pool = Pool::new(options.threads)?;
        let head = head.as_ref().map(|head| &head.linear);
        let contents = Contents::of(&specs, head, options.isa);
        let contents = contents.map_err(|error| error.of(&path))?;
        let graph = typed(&model, kind)?;
        let emitted = emit::emit(emit::Source {
            path: &path,
            graph: &graph,
            specs: &specs,
            contents: &contents,
            ending,
            isa: options.isa,
            context,
            pool: &pool,
        })?;
        let mut program = emitted.program;
        program.find_lives();
        let sampling = program.ops.len().min(usize::from(u16::MAX) - 2) as u16;
        program.keep(emitted.output, (sampling, sampling));
        let vocabulary = emitted.vocabulary;
        let candidates = (kind == ModelKind::Decoder).then(|| {
            let room = candidates(&options.sampling, vocabulary);
            let candidates = program.buffer("candidates", Content::Words, Extent::Fixed(room), 2);
            program.keep(candidates, (sampling, sampling));
            candidates
        });
        let text = match files {
            Some(_) if emitted.reads_features => LoweredText::without("the model reads features"),
            Some(files) => LoweredText::of(files, vocabulary)?,
            None => LoweredText::without("the model comes without its files"),
        };
        let work = text.section.is_ok().then(|| {
            let room = (TEXT_BYTES_PER_TOKEN * context).clamp(LEAST_TEXT_BYTES, MOST_TEXT_BYTES);
            let extent = Extent::Fixed(room);
            let work = program.buffer("text", Content::Words, extent, WORDS_PER_BYTE);
            program.keep(work, (sampling + 1, sampling + 1));
            work
        });
        let header = Header {
            isa: options.isa,
            kind: match kind {
                ModelKind::Decoder => PlanKind::Decoder,
                ModelKind::Encoder if emitted.reads_features => PlanKind::Features,
                ModelKind::Encoder => PlanKind::Encoder,
            },
            vocabulary: u32::try_from(vocabulary).unwrap_or(u32::MAX),
            candidates,
            text: work,
            ends: text.ends,
            sampling: options.sampling,
            source,
            ..image::unplaced(emitted.input, emitted.output)
        };
        let lowered = LoweredModel {
            path,
            program,
            header,
            sizes: Sizes {
                context,
                tile: context,
                cache: cache_format(options.kv),
            },
            tokenizer: text.section,
        };
        let sizes = lowered.sizes_of(context, options.tile.get(), options.kv);
        Ok(LoweredModel { sizes, ..lowered })
    }

    /// Sizes that go together: an encoder reads a sentence whole.
    fn sizes_of(&self, context: usize, tile: usize, kv: KvFormat) -> Sizes {
        let context = match self.header.kind {
            // Features are as many as the graph says.
            PlanKind::Features => self.program.most_rows(),
            PlanKind::Decoder | PlanKind::Encoder => context.max(1),
        };
        let tile = match self.header.kind {
            PlanKind::Decoder => tile.clamp(1, context),
            PlanKind::Encoder | PlanKind::Features => context,
        };
        let cache = cache_format(kv);
        Sizes {
            context,
            tile,
            cache,
        }
    }

    /// What the plan asks of a board.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model whose memory 32 bits can't count.
    pub fn certificate(&self) -> Result<Certificate, Error> {
        self.certificate_for(self.sizes)
    }

    /// What the plan would ask of a board with another context, tile or cache.
    ///
    /// # Errors
    /// As [`LoweredModel::certificate`].
    pub fn certificate_with(
        &self,
        context: usize,
        tile: usize,
        kv: KvFormat,
    ) -> Result<Certificate, Error> {
        self.certificate_for(self.sizes_of(context, tile, kv))
    }

    fn certificate_for(&self, sizes: Sizes) -> Result<Certificate, Error> {
        let isa = self.header.isa.name();
        let tokenizer = self.section().len();
        let kind = self.header.kind;
        certificate::certify(&self.program, kind, sizes, isa, tokenizer)
            .ok_or_else(|| self.too_large())
    }

    /// The image, checked as a board checks it.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model that is too large for a plan.
    pub fn image(&self) -> Result<Vec<u8>, Error> {
        Ok(self.finish()?.image)
    }

    /// The image, and what of `furlong-core` its firmware can't leave out.
    ///
    /// # Errors
    /// As [`LoweredModel::image`].
    pub fn finish(&self) -> Result<FinishedPlan, Error> {
        let parts = image::Parts {
            program: &self.program,
            sizes: self.sizes,
            header: self.header,
            tokenizer: self.section(),
        };
        let image = image::write(&parts).ok_or_else(|| self.too_large())?;
        // A vector of bytes may lie anywhere; a plan wants to be aligned.
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&image);
        let features = Plan::check(bytemuck::cast_slice(&words)).and_then(|plan| {
            let mut features = Vec::new();
            for feature in Feature::ALL {
                if plan.needs(feature)? {
                    features.push(feature);
                }
            }
            Ok(features)
        });
        let features = features.map_err(|error| {
            let reason = format!("{error} (a bug in Furlong, please report it)");
            Error::unsupported(&self.path, reason)
        })?;
        Ok(FinishedPlan { image, features })
    }

    /// Why the plan has no tokenizer, if it has none.
    pub fn without_tokenizer(&self) -> Option<&str> {
        self.tokenizer.as_ref().err().map(String::as_str)
    }

    fn section(&self) -> &[u8] {
        self.tokenizer.as_deref().unwrap_or_default()
    }

    fn too_large(&self) -> Error {
        let reason = "it is too large for a plan, whose sizes have 32 bits and whose parts have 16; ask for a shorter context";
        Error::unsupported(&self.path, reason)
    }
}

/// SHA-256 of the model's files: of each its length, then its bytes.
fn digest(onnx: &OnnxModel, files: Option<&ModelFiles>) -> [u8; 32] {
    let Some(ModelFiles::Embedded(embedded)) = files else {
        return cache::sources_digest(onnx.files());
    };
    let mut digest = Sha256::new();
    let names = ["model.onnx", "model.onnx.data"];
    for bytes in names.into_iter().filter_map(|name| embedded.file(name)) {
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(bytes);
    }
    digest.finalize().into()
}

/// The typed graph of a rewritten model, with placeholders for our ops, down to the output that a plan computes. A decoder's is
/// decluttered; an encoder's stays as its exporter wrote it, but for constants, because what is around its layers is known by
/// its form.
fn typed(model: &OnnxModel, kind: ModelKind) -> Result<TypedModel, Error> {
    model.check_supported(|node| node.domain == DOMAIN || guard::is_known(node))?;
    let mut onnx = guard::onnx_with_fixes();
    ops::register(&mut onnx.op_register);
    let mut graph = plan::parse(model, onnx)?;
    let made = plan::shielded(|| {
        compile::fix_batch(&mut graph)?;
        let mut graph = graph.into_typed()?;
        if kind == ModelKind::Decoder {
            return graph.into_decluttered();
        }
        let mut names = model
            .graph()
            .output
            .iter()
            .map(|output| output.name.as_str());
        let output = names.position(|name| name == EMBEDDING).unwrap_or(0);
        let outlet = graph.output_outlets()?.get(output).copied();
        graph.select_output_outlets(&[outlet.context("a graph without outputs")?])?;
        Optimizer::prop_consts().optimize(&mut graph)?;
        Ok(graph)
    });
    made.map_err(|error| Error::graph(model.path(), &error))
}

/// How many candidates the sampler gets room for.
fn candidates(sampling: &SamplingParams, vocabulary: usize) -> usize {
    let wanted = match sampling {
        SamplingParams {
            temperature: 0.0, ..
        } => FEW_CANDIDATES,
        SamplingParams { top_k: 0, .. } => vocabulary,
        SamplingParams { top_k, .. } => *top_k,
    };
    wanted.min(vocabulary).min(MOST_CANDIDATES)
}

fn cache_format(kv: KvFormat) -> CacheFormat {
    match kv {
        KvFormat::F16 => CacheFormat::F16,
        KvFormat::F32 => CacheFormat::F32,
        KvFormat::Q8 => CacheFormat::Q8,
    }
}
