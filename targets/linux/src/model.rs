//! Loading a model folder, the way all commands do.

use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, bail};
use furlong::machine::memory;
use furlong_runtime::text::Tokenizer;
use furlong_runtime::{LoadOptions, Model, ModelFiles, ModelKind};

use crate::cli::{CacheArgs, ModelArgs};
use crate::failure::Hint;

/// Loads a model of either kind; the cache's options are a decoder's.
///
/// # Errors
/// A folder that isn't a model.
pub fn any(model: &ModelArgs, cache: &CacheArgs) -> Result<Model> {
    keep_to_cores(model)?;
    let options = LoadOptions {
        threads: model.threads,
        weights_cache: model.weights_cache.clone(),
        kv: cache.kv.into(),
        context: cache.context.map(NonZeroUsize::get),
        ..LoadOptions::default()
    };
    Ok(Model::load_files(&model.files(), &options)?)
}

/// Loads a model of either kind and its tokenizer, both at once.
///
/// # Errors
/// As [`any`]. The tokenizer's own error is left to the caller, who may do without.
pub fn any_and_tokenizer(
    model: &ModelArgs,
    cache: &CacheArgs,
) -> Result<(Model, Result<Tokenizer>)> {
    let files = model.files();
    let (model, tokenizer) = thread::scope(|scope| {
        let tokenizer = scope.spawn(|| tokenizer(&files));
        let model = any(model, cache);
        let tokenizer = tokenizer.join();
        (
            model,
            tokenizer.unwrap_or_else(|panic| resume_unwind(panic)),
        )
    });
    memory::release_unused();
    Ok((model?, tokenizer))
}

/// As [`any_and_tokenizer`], of a model that generates text.
///
/// # Errors
/// As [`any_and_tokenizer`], and a model that is no decoder.
pub fn decoder_and_tokenizer(
    model: &ModelArgs,
    cache: &CacheArgs,
) -> Result<(Model, Result<Tokenizer>)> {
    let (loaded, tokenizer) = any_and_tokenizer(model, cache)?;
    if loaded.kind() != ModelKind::Decoder {
        bail!(
            anyhow::anyhow!("{} does not generate text", model.name()).context(Hint(
                "use `furlong embed` for an encoder, `furlong infer` for any other graph"
                    .to_owned()
            ))
        );
    }
    Ok((loaded, tokenizer))
}

/// Loads a model that turns sentences into vectors.
///
/// # Errors
/// A folder that isn't a model, or a model that is no encoder.
pub fn encoder(model: &ModelArgs) -> Result<Model> {
    keep_to_cores(model)?;
    let options = LoadOptions {
        threads: model.threads,
        weights_cache: model.weights_cache.clone(),
        ..LoadOptions::default()
    };
    let loaded = Model::load_files(&model.files(), &options)?;
    if loaded.kind() != ModelKind::Encoder {
        bail!(
            anyhow::anyhow!("{} does not make embeddings", model.name()).context(Hint(
                "use `furlong run` for a model that generates text".to_owned()
            ))
        );
    }
    Ok(loaded)
}

/// Keeps the program to the cores asked for. What starts threads comes after.
fn keep_to_cores(model: &ModelArgs) -> Result<()> {
    let Some(cores) = &model.cores else {
        return Ok(());
    };
    cores.keep_to().context(Hint(
        "--cores names cores of this machine, from 0 on; `furlong doctor` lists them".to_owned(),
    ))
}

/// Loads a model of any kind.
///
/// # Errors
/// A path that isn't a model.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Model> {
    Ok(Model::load(path, options)?)
}

/// Loads the tokenizer of a model.
///
/// # Errors
/// A folder without one.
pub fn tokenizer(files: &ModelFiles) -> Result<Tokenizer> {
    Ok(Tokenizer::load_files(files)?)
}

/// How many threads a command uses: those asked for, or one for each core.
pub fn threads(asked: Option<NonZeroUsize>) -> NonZeroUsize {
    asked
        .or_else(|| thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
}
