//! PEFT's folders: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::{AdapterSettings, PREFIX};
use crate::architecture::{Architecture, DecoderFamily};
use crate::checkpoint::adapter::{CONFIG, WEIGHTS};
use crate::checkpoint::{Adapter, Tensor};
use crate::error::{Error, Result};
use crate::train::model::{Model, Stored, write_tensors, write_text};

impl AdapterSettings {
    /// The settings that an adapter was trained with, so that its training can go on.
    ///
    /// # Errors
    /// When it has another rank or scale for some modules than for others, which training doesn't do.
    pub fn of(adapter: &Adapter) -> Result<AdapterSettings> {
        let settings = adapter.settings();
        if settings.has_patterns() {
            return Err(Error::training(
                format!("adapter {}", adapter.name()),
                "it has ranks or alphas of their own for some modules; train it with PEFT, or merge it and start a new one",
            ));
        }
        let modules: BTreeSet<String> = adapter.targets().map(last_names).collect();
        Ok(AdapterSettings {
            r: settings.rank(),
            lora_alpha: settings.alpha(),
            lora_dropout: settings.dropout() as f32,
            use_rslora: settings.is_rank_stabilised(),
            use_dora: settings.is_dora(),
            target_modules: modules.into_iter().collect(),
            layers_to_transform: settings.layers().map(<[usize]>::to_vec),
        })
    }
}

impl Model {
    /// Puts an adapter's numbers in the place of the model's, so that its training goes on. The model must have been built with
    /// the adapter's settings ([`AdapterSettings::of`]).
    ///
    /// # Errors
    /// When the two don't have the same modules with the same shapes.
    pub fn load_adapter(&mut self, adapter: &Adapter) -> Result<()> {
        let refuse = |name: &str, reason: &str| {
            Error::training(format!("adapter {}, {name}", adapter.name()), reason)
        };
        let mut values = Vec::new();
        for weight in adapter.targets() {
            let module = weight.strip_suffix(".weight").unwrap_or(weight);
            if adapter.replaces_base(weight) {
                return Err(refuse(
                    module,
                    "it brings a base weight of its own; merge it",
                ));
            }
            let [a, b, magnitude] = adapter.tensors(weight)?;
            let parts = [
                ("lora_A.weight", a),
                ("lora_B.weight", b),
                ("lora_magnitude_vector", magnitude),
            ];
            for (part, tensor) in parts {
                let Some(Tensor { shape, data }) = tensor else {
                    continue;
                };
                let name = format!("{PREFIX}{module}.{part}");
                let id = self
                    .parameters()
                    .find(&name)
                    .ok_or_else(|| refuse(&name, "the model has no such adapter tensor"))?;
                let wanted = self.parameters()[id].shape();
                if shape != wanted {
                    let reason = format!("its shape is {shape:?} and should be {wanted:?}");
                    return Err(refuse(&name, &reason));
                }
                values.push((id, data));
            }
        }
        let expected = self.parameters().trainable().count();
        if values.len() != expected {
            let reason = format!("{} tensors, and the model trains {expected}", values.len());
            return Err(refuse("its tensors", &reason));
        }
        for (id, data) in values {
            self.parameters_mut().set(id, data)?;
        }
        Ok(())
    }

    /// Writes the adapter as a PEFT folder; `base` is the name or path of the base model. The folder must be there.
    ///
    /// # Errors
    /// When the model has no adapter, or the operating system refuses.
    pub fn write_adapter(&self, folder: &Path, base: &str) -> Result<()> {
        let Some(settings) = &self.options().adapter else {
            return Err(Error::training(
                "adapter",
                "the model has none; write its weights",
            ));
        };
        let adapted: Vec<_> = self
            .parameters()
            .iter()
            .map(|(_, parameter)| parameter)
            .filter(|parameter| parameter.role().is_adapter())
            .collect();
        let modules: BTreeSet<String> = adapted
            .iter()
            .filter_map(|parameter| parameter.name().strip_suffix(".lora_A.weight"))
            .map(last_names)
            .collect();
        let config = config(settings, &modules, base, self.architecture());
        write_text(&folder.join(CONFIG), &format!("{config:#}\n"))?;
        let stored = adapted
            .into_iter()
            .map(|parameter| (parameter.name().to_owned(), Stored::new(parameter)));
        write_tensors(&folder.join(WEIGHTS), stored)
    }
}

/// The last part of a module's name, such as `q_proj`; of a weight's, its module's.
fn last_names(name: &str) -> String {
    let name = name.strip_suffix(".weight").unwrap_or(name);
    name.rsplit('.').next().unwrap_or(name).to_owned()
}

fn config(
    settings: &AdapterSettings,
    modules: &BTreeSet<String>,
    base: &str,
    architecture: &Architecture,
) -> Value {
    let conv1d = matches!(architecture, Architecture::Decoder(config) if config.family == DecoderFamily::Gpt2);
    let task = match architecture {
        Architecture::Decoder(_) => "CAUSAL_LM",
        Architecture::Encoder(_) => "FEATURE_EXTRACTION",
    };
    let whole = settings.lora_alpha.fract() == 0.0 && settings.lora_alpha < 1e15;
    json!({
        "peft_type": "LORA",
        "task_type": task,
        "base_model_name_or_path": base,
        "r": settings.r,
        "lora_alpha": if whole { json!(settings.lora_alpha as u64) } else { json!(settings.lora_alpha) },
        "lora_dropout": settings.lora_dropout,
        "use_rslora": settings.use_rslora,
        "use_dora": settings.use_dora,
        "target_modules": modules,
        "layers_to_transform": settings.layers_to_transform,
        "bias": "none",
        "fan_in_fan_out": conv1d,
        "init_lora_weights": true,
        "inference_mode": true,
    })
}
