//! What `adapter_config.json` says of rank and scale, and what of it is more than a low-rank change. The host's `fine-tune`
//! reads it here too, so that both understand an adapter alike.

use serde::Deserialize;
use serde_json::{Map, Value};

/// The largest rank that is read.
const MAX_RANK: usize = 1 << 16;

/// Fields that ask for more when they say anything.
const MORE: [&str; 10] = [
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
const CHANGES_BASE: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

/// Why an `adapter_config.json` can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeftFault {
    /// It isn't what PEFT writes.
    #[error("{place}: {reason}")]
    Invalid {
        /// Where in it.
        place: &'static str,
        /// What is wrong there.
        reason: String,
    },
    /// It asks for more than low-rank changes of weight matrices.
    #[error("{field} is {value}, which is more than low-rank changes of weight matrices")]
    Unsupported {
        /// The field that asks.
        field: String,
        /// Its value.
        value: String,
    },
}

/// The settings of a LoRA adapter.
#[derive(Debug, Clone, Deserialize)]
pub struct PeftSettings {
    peft_type: String,
    r: usize,
    #[serde(default = "alpha")]
    lora_alpha: f64,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default)]
    use_dora: Option<bool>,
    /// The scale is alpha over the root of the rank: D. Kalajdzievski, «A Rank Stabilization Scaling Factor for
    /// Fine-Tuning with LoRA», 2023, arXiv 2312.03732.
    #[serde(default)]
    use_rslora: Option<bool>,
    #[serde(default)]
    rank_pattern: Option<Map<String, Value>>,
    #[serde(default)]
    alpha_pattern: Option<Map<String, Value>>,
    /// The numbers of the changed layers; all that have the module's name if absent.
    #[serde(default)]
    layers_to_transform: Option<Layers>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// PEFT's own default.
fn alpha() -> f64 {
    8.0
}

/// PEFT takes a list or one number.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Layers {
    One(usize),
    Many(Vec<usize>),
}

impl PeftSettings {
    /// Reads the text of an `adapter_config.json`.
    ///
    /// # Errors
    /// What isn't valid, and what is more than LoRA. DoRA is read: see [`PeftSettings::is_dora`].
    pub fn parse(text: &str) -> Result<PeftSettings, PeftFault> {
        let settings: PeftSettings =
            serde_json::from_str(text).map_err(|error| PeftFault::Invalid {
                place: "JSON",
                reason: error.to_string(),
            })?;
        let unsupported = |field: &str, value: &dyn std::fmt::Display| {
            Err(PeftFault::Unsupported {
                field: field.to_owned(),
                value: value.to_string(),
            })
        };
        if settings.peft_type != "LORA" {
            return unsupported("peft_type", &settings.peft_type);
        }
        for name in MORE {
            if let Some(value) = settings
                .rest
                .get(name)
                .filter(|value| says_something(value))
            {
                return unsupported(name, value);
            }
        }
        if let Some(bias) = settings.rest.get("bias").filter(|bias| *bias != "none") {
            return unsupported("bias", bias);
        }
        if let Some(Value::String(start)) = settings.rest.get("init_lora_weights")
            && CHANGES_BASE.iter().any(|name| start.starts_with(name))
        {
            return unsupported("init_lora_weights", start);
        }
        let patterns = [&settings.rank_pattern, &settings.alpha_pattern];
        for (key, number) in patterns.into_iter().flatten().flatten() {
            let plain = key
                .chars()
                .all(|c| c.is_alphanumeric() || "._^".contains(c));
            if !plain || !number.as_f64().is_some_and(is_positive) {
                return unsupported("a pattern", &format!("{key:?}: {number}"));
            }
        }
        if settings.r == 0 || settings.r > MAX_RANK || !is_positive(settings.lora_alpha) {
            let reason = format!(
                "a rank of {} and an alpha of {}; ranks are 1 to {MAX_RANK}, alpha is positive",
                settings.r, settings.lora_alpha
            );
            return Err(PeftFault::Invalid {
                place: "r, lora_alpha",
                reason,
            });
        }
        if !(0.0..=1.0).contains(&settings.lora_dropout) {
            return Err(PeftFault::Invalid {
                place: "lora_dropout",
                reason: format!("{} is no share", settings.lora_dropout),
            });
        }
        Ok(settings)
    }

    /// The base model's name, if it is given.
    pub fn base(&self) -> Option<&str> {
        self.base_model_name_or_path.as_deref()
    }

    /// The rank of every module that has none of its own.
    pub fn rank(&self) -> usize {
        self.r
    }

    /// The numerator of the scale of every module that has none of its own.
    pub fn alpha(&self) -> f64 {
        self.lora_alpha
    }

    /// Share of the side path's inputs that was dropped in training.
    pub fn dropout(&self) -> f64 {
        self.lora_dropout
    }

    /// Whether the scale is alpha over the root of the rank, rather than over the rank.
    pub fn is_rank_stabilised(&self) -> bool {
        self.use_rslora == Some(true)
    }

    /// Whether rows are rescaled to a trained length.
    pub fn is_dora(&self) -> bool {
        self.use_dora == Some(true)
    }

    /// The numbers of the only layers that are changed, if not all are.
    pub fn layers(&self) -> Option<&[usize]> {
        match self.layers_to_transform.as_ref()? {
            Layers::One(layer) => Some(std::slice::from_ref(layer)),
            Layers::Many(layers) => Some(layers),
        }
    }

    /// Whether some modules have a rank or alpha of their own.
    pub fn has_patterns(&self) -> bool {
        let patterns = [&self.rank_pattern, &self.alpha_pattern];
        patterns.into_iter().flatten().any(|map| !map.is_empty())
    }

    /// The rank of the change of `module`.
    pub fn rank_of(&self, module: &str) -> usize {
        matching(&self.rank_pattern, module).map_or(self.r, |rank| rank as usize)
    }

    /// What `B · A` of `module` is multiplied by.
    pub fn scale_of(&self, module: &str) -> f32 {
        let alpha = matching(&self.alpha_pattern, module).unwrap_or(self.lora_alpha);
        let rank = self.rank_of(module) as f64;
        let divisor = if self.is_rank_stabilised() {
            rank.sqrt()
        } else {
            rank
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
