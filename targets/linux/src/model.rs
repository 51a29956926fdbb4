//! Loading a model folder, the way all commands do.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use anyhow::{Result, bail};
use furlong::machine::memory;
use furlong_runtime::text::Tokenizer;
use furlong_runtime::{LoadOptions, Model, ModelKind};

use crate::cli::{CacheArgs, ModelArgs};
use crate::failure::Hint;

/// Loads a model that generates text.
///
/// # Errors
/// A folder that isn't a model, or a model that is no decoder.
pub fn decoder(model: &ModelArgs, cache: &CacheArgs) -> Result<Model> {
    let options = LoadOptions {
        threads: model.threads,
        weights_cache: model.weights_cache.clone(),
        kv: cache.kv.into(),
        context: cache.context.map(NonZeroUsize::get),
        ..LoadOptions::default()
    };
    let loaded = load(&model.model, &options)?;
    if loaded.kind() != ModelKind::Decoder {
        bail!(
            anyhow::anyhow!("{} does not generate text", model.model.display()).context(Hint(
                "use `furlong embed` for an encoder, `furlong infer` for any other graph"
                    .to_owned()
            ))
        );
    }
    Ok(loaded)
}

/// Loads a model that generates text and its tokenizer, both at once.
///
/// # Errors
/// As [`decoder`]. The tokenizer's own error is left to the caller, who may do without.
pub fn decoder_and_tokenizer(
    model: &ModelArgs,
    cache: &CacheArgs,
) -> Result<(Model, Result<Tokenizer>)> {
    let folder = &model.model;
    let (model, tokenizer) = thread::scope(|scope| {
        let tokenizer = scope.spawn(|| tokenizer(folder));
        let model = decoder(model, cache);
        let tokenizer = tokenizer.join();
        (
            model,
            tokenizer.unwrap_or_else(|panic| resume_unwind(panic)),
        )
    });
    memory::release_unused();
    Ok((model?, tokenizer))
}

/// Loads a model that turns sentences into vectors.
///
/// # Errors
/// A folder that isn't a model, or a model that is no encoder.
pub fn encoder(model: &ModelArgs) -> Result<Model> {
    let options = LoadOptions {
        threads: model.threads,
        weights_cache: model.weights_cache.clone(),
        ..LoadOptions::default()
    };
    let loaded = load(&model.model, &options)?;
    if loaded.kind() != ModelKind::Encoder {
        bail!(
            anyhow::anyhow!("{} does not make embeddings", model.model.display()).context(Hint(
                "use `furlong run` for a model that generates text".to_owned()
            ))
        );
    }
    Ok(loaded)
}

/// Loads a model of any kind.
///
/// # Errors
/// A path that isn't a model.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Model> {
    Ok(Model::load(path, options)?)
}

/// Loads the tokenizer of a model folder.
///
/// # Errors
/// A folder without one.
pub fn tokenizer(folder: &Path) -> Result<Tokenizer> {
    Ok(Tokenizer::load(folder)?)
}

/// How many threads a command uses: those asked for, or one for each core.
pub fn threads(asked: Option<NonZeroUsize>) -> NonZeroUsize {
    asked
        .or_else(|| thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
}
