//! What `adapter_config.json` says of rank and scale, and what of it is more than a low-rank change.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Error;

/// The largest rank that is read.
const MAX_RANK: usize = 1 << 16;

/// What a user can do about an adapter that is more than that.
const MERGE: &str = "merge it into the model instead: fine-tune export --adapter DIR";

/// Fields that ask for more when they say anything.
const MORE: [&str; 11] = [
    "use_dora",
    "modules_to_save",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "lora_bias",
    "alora_invocation_tokens",
    "arrow_config",
    "use_qalora",
    "use_bdlora",
    "ensure_weight_tying",
];

/// Initialisations that change the base weights as well.
const CHANGES_BASE: [&str; 6] = ["pissa", "olora", "corda", "loftq", "lora_ga", "eva"];

/// The settings of a LoRA adapter.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    peft_type: String,
    r: usize,
    #[serde(default = "alpha")]
    lora_alpha: f64,
    /// The scale is alpha over the root of the rank: D. Kalajdzievski, «A Rank Stabilization Scaling Factor for
    /// Fine-Tuning with LoRA», 2023, arXiv 2312.03732.
    #[serde(default)]
    use_rslora: Option<bool>,
    #[serde(default)]
    rank_pattern: Option<Map<String, Value>>,
    #[serde(default)]
    alpha_pattern: Option<Map<String, Value>>,
    /// The base model's name.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// PEFT's own default.
fn alpha() -> f64 {
    8.0
}

impl Config {
    /// Reads the text of the file `path`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what isn't valid; [`Error::Unsupported`] for what is more than LoRA.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Config, Error> {
        let config: Config = serde_json::from_str(text)
            .map_err(|error| Error::invalid(path, "JSON", error.to_string()))?;
        let unsupported = |what: String| Err(Error::unsupported(path, format!("{what}; {MERGE}")));
        if config.peft_type != "LORA" {
            return unsupported(format!(
                "an adapter of type {:?}, not LORA",
                config.peft_type
            ));
        }
        for name in MORE {
            if config.rest.get(name).is_some_and(says_something) {
                return unsupported(format!("{name:?}, which is more than a low-rank change"));
            }
        }
        if let Some(bias) = config.rest.get("bias").filter(|bias| *bias != "none") {
            return unsupported(format!("\"bias\": {bias}"));
        }
        if let Some(Value::String(start)) = config.rest.get("init_lora_weights")
            && CHANGES_BASE.iter().any(|name| start.starts_with(name))
        {
            return unsupported(format!(
                "{start:?} as initialisation, which changes the base weights"
            ));
        }
        let patterns = [&config.rank_pattern, &config.alpha_pattern];
        for (key, number) in patterns.into_iter().flatten().flatten() {
            let plain = key
                .chars()
                .all(|c| c.is_alphanumeric() || "._^".contains(c));
            if !plain || !number.as_f64().is_some_and(is_positive) {
                return unsupported(format!("the pattern {key:?}: {number}"));
            }
        }
        if config.r == 0 || config.r > MAX_RANK || !is_positive(config.lora_alpha) {
            let reason = format!(
                "a rank of {} and an alpha of {}; ranks are 1 to {MAX_RANK}, alpha is positive",
                config.r, config.lora_alpha
            );
            return Err(Error::invalid(path, "r, lora_alpha", reason));
        }
        Ok(config)
    }

    /// The rank of the change of `module`.
    pub(super) fn rank_of(&self, module: &str) -> usize {
        matching(&self.rank_pattern, module).map_or(self.r, |rank| rank as usize)
    }

    /// What `B · A` of `module` is multiplied by.
    pub(super) fn scale_of(&self, module: &str) -> f32 {
        let alpha = matching(&self.alpha_pattern, module).unwrap_or(self.lora_alpha);
        let rank = self.rank_of(module) as f64;
        let divisor = match self.use_rslora {
            Some(true) => rank.sqrt(),
            _ => rank,
        };
        (alpha / divisor) as f32
    }
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

fn is_positive(number: f64) -> bool {
    number > 0.0 && number <= f64::from(f32::MAX)
}

/// The number for the first key that is the module's name or its end. PEFT takes keys for regular expressions; plain
/// names are what it writes.
fn matching(pattern: &Option<Map<String, Value>>, module: &str) -> Option<f64> {
    let matches = |key: &str| match key.strip_prefix('^') {
        Some(key) => module == key,
        None => module
            .strip_suffix(key)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    };
    let (_, number) = pattern.iter().flatten().find(|(key, _)| matches(key))?;
    number.as_f64()
}
