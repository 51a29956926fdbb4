//! What a caller decides when loading a model.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use furlong_core::Isa;
use furlong_core::attention::{q8_columns, q8_scales};
use serde::Serialize;

/// How the cache stores keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KvFormat {
    /// Half precision: half the memory and bandwidth.
    #[default]
    F16,
    /// Single precision: what the model computes, unrounded.
    F32,
    /// Eight bits, with a scale for each 32 numbers: little more than half of half precision.
    Q8,
}

impl KvFormat {
    /// Bytes of a key or a value of `head_dim` numbers.
    pub fn row_bytes(self, head_dim: usize) -> usize {
        match self {
            KvFormat::F16 => head_dim * 2,
            KvFormat::F32 => head_dim * 4,
            KvFormat::Q8 => q8_columns(head_dim) + 4 * q8_scales(head_dim),
        }
    }
}

/// Where packed weights are kept, so that they are packed only once and then mapped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum WeightsCache {
    /// In the model's folder, `.furlong/`; where that can't be written, in the user's cache folder
    /// (`$XDG_CACHE_HOME/furlong` or `~/.cache/furlong`). Small models are packed each time: that is faster.
    #[default]
    Auto,
    /// In this folder.
    Folder(PathBuf),
    /// Nowhere: weights are packed into memory each time.
    Off,
}

/// How to load a model. The default suits most: all cores, the best instruction set, an f16 cache.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// How the cache stores keys and values.
    pub kv: KvFormat,
    /// Threads that run the model; all cores if absent.
    pub threads: Option<NonZeroUsize>,
    /// Instruction set of the kernels; the best that this CPU has if absent.
    pub isa: Option<Isa>,
    /// Most tokens a session may hold; what the model was trained for if absent. Never more than that.
    pub context: Option<usize>,
    /// Most tokens that go through the graph at once when a prompt is read.
    pub prefill_chunk: NonZeroUsize,
    /// Where packed weights are kept.
    pub weights_cache: WeightsCache,
}

impl LoadOptions {
    /// How many tokens of a prompt go through the graph at once unless said otherwise.
    pub const PREFILL_CHUNK: NonZeroUsize = NonZeroUsize::new(128).unwrap();

    /// Threads to use: as asked, or as many as there are cores.
    pub(crate) fn threads(&self) -> NonZeroUsize {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or(cores)
    }

    /// The instruction set to use: as asked, or the best there is.
    pub(crate) fn isa(&self) -> Isa {
        self.isa.unwrap_or_else(Isa::detect)
    }
}

impl Default for LoadOptions {
    fn default() -> LoadOptions {
        LoadOptions {
            kv: KvFormat::default(),
            threads: None,
            isa: None,
            context: None,
            prefill_chunk: LoadOptions::PREFILL_CHUNK,
            weights_cache: WeightsCache::default(),
        }
    }
}
