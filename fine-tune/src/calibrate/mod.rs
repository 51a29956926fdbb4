//! Quantising with a calibration text: the layers of a decoder are rounded one after another, each for the inputs that it gets from
//! those rounded before it.
//!
//! A text is cut into windows (`windows`) and read by the model, block by block (`llama`), in f32 and on all cores. Before a layer
//! multiplies, the second moments of its inputs are taken and its weights rounded so that the outputs over this text
//! stay near ([`Feedback`]); the block goes on with the rounded weights. What is kept between blocks is the text's hidden
//! states, so memory doesn't grow with the model's depth.

mod llama;
mod product;
mod windows;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::architecture::{Architecture, DecoderFamily};
use crate::checkpoint::{Checkpoint, Tensor};
use crate::error::{Error, Result};
use crate::quantise::{Feedback, Moments, Quantised, Recipe};
use llama::{Layers, Llama};

pub use windows::Windows;

/// Rounded matrices, by the names of their weights.
pub type Rounded = BTreeMap<String, Quantised>;

/// How far a calibration is: the block that comes next, of how many.
pub type Progress<'a> = dyn Fn(usize, usize) -> ControlFlow<()> + 'a;

/// Rounds all linear layers of a decoder's blocks, as `recipe` says and with `block` columns to a scale, for the inputs that they get when it reads `windows`.
///
/// # Errors
/// A model of another family, weights that can't be read, numbers that aren't finite, and when `progress` breaks off.
pub fn calibrate(
    checkpoint: &Checkpoint,
    recipe: Recipe,
    block: usize,
    windows: &Windows,
    progress: &Progress<'_>,
) -> Result<Rounded> {
    let config = match checkpoint.architecture() {
        Architecture::Decoder(config) if config.family == DecoderFamily::Llama => config,
        other => {
            let supported = "the Llama family; leave --calibrate out for others";
            let path = checkpoint.path();
            return Err(Error::unsupported(
                path,
                "model_type",
                other.model_type(),
                supported,
            ));
        }
    };
    let mut rounding = Rounding {
        checkpoint,
        recipe,
        block,
        rounded: Rounded::new(),
    };
    let mut llama = Llama::read(config, windows, &rounding)?;
    for layer in 0..config.layers {
        if progress(layer, config.layers).is_break() {
            return Err(Error::Export {
                path: checkpoint.path().to_owned(),
                reason: "interrupted; nothing was written".to_owned(),
            });
        }
        llama.block(layer, &mut rounding)?;
    }
    Ok(rounding.rounded)
}

/// Layers that are rounded as soon as their inputs are known.
struct Rounding<'a> {
    checkpoint: &'a Checkpoint,
    recipe: Recipe,
    block: usize,
    rounded: Rounded,
}

impl Layers for Rounding<'_> {
    fn vector(&self, name: &str) -> Result<Tensor> {
        self.checkpoint.tensor(name)
    }

    fn matrices(&mut self, names: &[String], inputs: &[f32], cols: usize) -> Result<Vec<Tensor>> {
        let mut moments = Moments::new(cols);
        for inputs in inputs.chunks(product::TOKENS_AT_ONCE * cols) {
            moments.add(&product::moments(inputs, cols)?);
        }
        let feedback = Feedback::of(&moments).ok_or_else(|| Error::Export {
            path: self.checkpoint.path().to_owned(),
            reason: format!(
                "the inputs of {} aren't finite numbers; the checkpoint is damaged, or its weights overflow",
                names.join(", ")
            ),
        })?;
        let mut weights = Vec::new();
        for name in names {
            let Tensor { shape, data } = self.checkpoint.tensor(name)?;
            let rows = shape.first().copied().unwrap_or(0);
            let quantised = feedback.quantise(&data, rows, self.recipe, self.block);
            let data = quantised.dequantise();
            self.rounded.insert(name.clone(), quantised);
            weights.push(Tensor { shape, data });
        }
        Ok(weights)
    }
}
