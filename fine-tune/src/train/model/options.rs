//! How a model is to be trained, as far as the model itself is concerned.

use burn::tensor::{Device, FloatDType};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::export::Weights;
use crate::quantise::{BLOCK, BLOCKS};
use crate::train::adapter::AdapterSettings;

/// What the products of matrices are computed in. All else is f32: parameters, gradients, norms, attention, the loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32
    #[default]
    F32,
    /// bf16: both sides are rounded to 8 bits of mantissa, and so is the product; for devices that have units for it.
    Bf16,
}

/// Choices made when a model is built.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelOptions {
    /// Train this adapter and freeze everything else; without one, all parameters are trained.
    pub adapter: Option<AdapterSettings>,
    /// What the frozen weights are rounded to, as an export would: the adapter then learns around the rounding of the model that
    /// is shipped. It saves no memory here. Needs an adapter.
    pub base_weights: Weights,
    /// Columns that share a scale in those weights, as in the export: one of [`BLOCKS`].
    pub block: usize,
    /// Share of what each block adds to the residual stream that is dropped in training, and of the embedding.
    pub residual_dropout: f32,
    /// Share of the attention probabilities that is dropped in training.
    pub attention_dropout: f32,
    /// Keep each block's input only, and compute the block again on the way back: less memory, a third more work.
    pub recompute: bool,
    /// What the products of linear layers and of the head are computed in.
    pub precision: Precision,
    /// Standard deviation of random weights. Those that add to the residual stream start smaller, by the square root of their
    /// number, as in GPT-2.
    pub initial_deviation: f32,
}

impl Default for ModelOptions {
    fn default() -> ModelOptions {
        ModelOptions {
            adapter: None,
            base_weights: Weights::F32,
            block: BLOCK,
            residual_dropout: 0.0,
            attention_dropout: 0.0,
            recompute: false,
            precision: Precision::F32,
            initial_deviation: 0.02,
        }
    }
}

impl ModelOptions {
    /// Checks the ranges, and that `device` can compute in the precision.
    ///
    /// # Errors
    /// When an option makes no sense.
    pub fn check(&self, device: &Device) -> Result<()> {
        if self.precision == Precision::Bf16 && !device.supports_dtype(FloatDType::BF16) {
            return Err(Error::training(
                "setting precision",
                "this device doesn't compute in bf16 (Vulkan has it in memory only); leave it at f32, or take another device",
            ));
        }
        if let Some(adapter) = &self.adapter {
            adapter.check()?;
        }
        if self.adapter.is_none() && self.base_weights != Weights::F32 {
            return Err(Error::training(
                "setting base_weights",
                "weights that are trained can't be rounded; train an adapter, or leave them at f32",
            ));
        }
        if !BLOCKS.contains(&self.block) {
            return Err(Error::training(
                "setting block",
                format!("{} is none of {BLOCKS:?}", self.block),
            ));
        }
        let shares = [
            ("residual_dropout", self.residual_dropout),
            ("attention_dropout", self.attention_dropout),
        ];
        for (name, share) in shares {
            if !(0.0..1.0).contains(&share) {
                return Err(Error::training(
                    format!("setting {name}"),
                    format!("{share} is not from 0 to less than 1"),
                ));
            }
        }
        if !(self.initial_deviation.is_finite() && self.initial_deviation > 0.0) {
            return Err(Error::training(
                "setting initial_deviation",
                format!("{} is not above zero", self.initial_deviation),
            ));
        }
        Ok(())
    }
}
