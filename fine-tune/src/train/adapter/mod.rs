//! Low-rank adapters: which layers get one, how it starts, and the folders that PEFT reads and writes.

mod peft;

use serde::{Deserialize, Serialize};

use super::layers::{Linear, LowRank, WeightLayout};
use super::model::{Parameters, Role, uniform};
use crate::comparison::Random;
use crate::error::{Error, Result};

/// What PEFT puts before the name of a module.
pub const PREFIX: &str = "base_model.model.";

/// The settings of an adapter, named as in PEFT's `LoraConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterSettings {
    /// Rank of the change of each weight.
    pub r: usize,
    /// Numerator of the scale.
    pub lora_alpha: f64,
    /// Share of the side path's inputs that is dropped in training.
    pub lora_dropout: f32,
    /// Scale by `alpha / sqrt(r)` and not by `alpha / r`: D. Kalajdzievski, «rsLoRA», 2023, arXiv 2312.03732.
    pub use_rslora: bool,
    /// Train the length of each output row apart from its direction: S. Liu and others, «DoRA», 2024, arXiv 2402.09353.
    pub use_dora: bool,
    /// Names of the adapted modules, such as `q_proj`: a module is adapted if its name ends with one; or `all-linear` alone, for
    /// every linear layer but the output head.
    pub target_modules: Vec<String>,
    /// Numbers of the layers whose modules are adapted, from 0; all of them if absent. Nothing below the lowest of them is part of
    /// the way back, so that a step with the upper half alone takes three quarters of the work.
    pub layers_to_transform: Option<Vec<usize>>,
}

impl Default for AdapterSettings {
    fn default() -> AdapterSettings {
        AdapterSettings {
            r: 8,
            lora_alpha: 16.0,
            lora_dropout: 0.0,
            use_rslora: false,
            use_dora: false,
            target_modules: vec![ALL_LINEAR.to_owned()],
            layers_to_transform: None,
        }
    }
}

/// PEFT's word for all linear layers but the output head.
pub const ALL_LINEAR: &str = "all-linear";

/// The largest rank.
const MAX_RANK: usize = 1 << 16;

impl AdapterSettings {
    /// What `B·A` is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.r as f64;
        let divisor = if self.use_rslora { rank.sqrt() } else { rank };
        (self.lora_alpha / divisor) as f32
    }

    /// Whether the module of that full name is adapted.
    pub fn targets(&self, module: &str) -> bool {
        let mut numbers = module.split('.').rev().filter_map(|part| part.parse().ok());
        if let Some(layers) = &self.layers_to_transform
            && !numbers.next().is_some_and(|layer| layers.contains(&layer))
        {
            return false;
        }
        self.target_modules.iter().any(|target| {
            target == ALL_LINEAR
                || module
                    .strip_suffix(target.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// When a setting makes no sense.
    pub fn check(&self) -> Result<()> {
        let refuse = |field: &str, reason: String| {
            Err(Error::training(format!("adapter setting {field}"), reason))
        };
        if !(1..=MAX_RANK).contains(&self.r) {
            return refuse("r", format!("{} is not from 1 to {MAX_RANK}", self.r));
        }
        if !(self.lora_alpha.is_finite() && self.lora_alpha > 0.0) {
            return refuse(
                "lora_alpha",
                format!("{} is not above zero", self.lora_alpha),
            );
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return refuse(
                "lora_dropout",
                format!("{} is not from 0 to less than 1", self.lora_dropout),
            );
        }
        if self.target_modules.is_empty() {
            return refuse("target_modules", "there are none".to_owned());
        }
        if self.layers_to_transform.as_ref().is_some_and(Vec::is_empty) {
            return refuse("layers_to_transform", "there are none".to_owned());
        }
        Ok(())
    }

    /// Gives a linear layer its side path, if it is one of the targets. It starts as PEFT's: `A` uniform within
    /// `1 / sqrt(in)` (Kaiming with `a = sqrt(5)`), `B` zero, DoRA's lengths those of the frozen weight.
    ///
    /// # Errors
    /// When the layer has one already.
    pub(crate) fn attach(
        &self,
        parameters: &mut Parameters,
        linear: &mut Linear,
        random: &mut Random,
    ) -> Result<bool> {
        if !self.targets(&linear.module) {
            return Ok(false);
        }
        let dims = parameters[linear.weight].value().dims();
        let (out, input) = match linear.layout {
            WeightLayout::OutIn => (dims[0], dims[1]),
            WeightLayout::InOut => (dims[1], dims[0]),
        };
        let name = |part: &str| format!("{PREFIX}{}.{part}", linear.module);
        let bound = 1.0 / (input as f64).sqrt();
        let a = (0..self.r * input)
            .map(|_| (bound * (2.0 * uniform(random) - 1.0)) as f32)
            .collect();
        let a = parameters.add(
            &name("lora_A.weight"),
            &[self.r, input],
            a,
            Role::AdapterA,
            true,
        )?;
        let b = parameters.add(
            &name("lora_B.weight"),
            &[out, self.r],
            vec![0.0; out * self.r],
            Role::AdapterB,
            true,
        )?;
        let mut low_rank = LowRank {
            a,
            b,
            magnitude: None,
            base_squares: None,
            scale: self.scale(),
            dropout: self.lora_dropout,
        };
        if self.use_dora {
            let squares = linear.base_squares(parameters);
            let lengths = squares.clone().sqrt().into_data().iter::<f32>().collect();
            low_rank.base_squares = Some(squares);
            low_rank.magnitude = Some(parameters.add(
                &name("lora_magnitude_vector"),
                &[out],
                lengths,
                Role::AdapterMagnitude,
                true,
            )?);
        }
        linear.adapter = Some(low_rank);
        Ok(true)
    }
}
