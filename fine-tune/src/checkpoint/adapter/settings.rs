//! What `adapter_config.json` says about rank and scale, and what of it merging can't do.

use serde_json::Value;

use crate::architecture::config::Fields;
use crate::error::Result;

/// The largest rank that is read.
const MAX_RANK: usize = 1 << 16;

/// The settings of a LoRA adapter.
#[derive(Debug)]
pub struct Settings {
    /// Rank of every module that has none of its own.
    pub rank: usize,
    /// Numerator of the scale of every module that has none of its own.
    pub alpha: f64,
    /// Share of the side path's inputs that was dropped in training.
    pub dropout: f32,
    /// Whether the scale is alpha over the root of the rank, rather than over the rank.
    pub rank_stabilised: bool,
    /// Whether rows are rescaled to a trained length.
    pub dora: bool,
    ranks: Vec<(String, f64)>,
    alphas: Vec<(String, f64)>,
}

impl Settings {
    /// Reads the settings, and refuses those that change more than `W + scale · B · A` does.
    pub fn read(fields: &Fields) -> Result<Settings> {
        let kind = fields.text("peft_type")?.unwrap_or("missing");
        if kind != "LORA" {
            return Err(fields.unsupported("peft_type", kind, "LORA"));
        }
        let bias = fields.text("bias")?.unwrap_or("none");
        if bias != "none" {
            return Err(fields.unsupported("bias", bias, "none"));
        }
        if let Some(start @ Value::String(kind)) = fields.get("init_lora_weights") {
            let changes_base = ["pissa", "olora", "corda", "loftq", "lora_ga"];
            if changes_base.iter().any(|name| kind.starts_with(name)) {
                return Err(fields.unsupported(
                    "init_lora_weights",
                    start,
                    "initialisations that leave the base weights alone: convert the adapter to plain LoRA when saving it",
                ));
            }
        }
        for name in [
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
        ] {
            fields.refuse(name, "low-rank changes of weight matrices only")?;
        }
        Ok(Settings {
            rank: fields.size("r", MAX_RANK)?,
            alpha: fields.positive("lora_alpha")?.unwrap_or(8.0),
            dropout: fields.share("lora_dropout")?,
            rank_stabilised: fields.flag_or("use_rslora", false)?,
            dora: fields.flag_or("use_dora", false)?,
            ranks: pattern(fields, "rank_pattern")?,
            alphas: pattern(fields, "alpha_pattern")?,
        })
    }

    /// Whether some modules have a rank or alpha of their own.
    pub fn has_patterns(&self) -> bool {
        !self.ranks.is_empty() || !self.alphas.is_empty()
    }

    /// The rank of the adapter of `module`.
    pub fn rank_of(&self, module: &str) -> usize {
        matching(&self.ranks, module).map_or(self.rank, |rank| rank as usize)
    }

    /// What `B · A` of `module` is multiplied by.
    pub fn scale_of(&self, module: &str, rank: usize) -> f32 {
        let alpha = matching(&self.alphas, module).unwrap_or(self.alpha);
        let rank = rank as f64;
        (alpha
            / if self.rank_stabilised {
                rank.sqrt()
            } else {
                rank
            }) as f32
    }
}

/// The entries of a pattern, in their order. PEFT takes the keys for regular expressions; plain names are what it writes.
fn pattern(fields: &Fields, name: &str) -> Result<Vec<(String, f64)>> {
    let Some(map) = fields.object(name)? else {
        return Ok(Vec::new());
    };
    map.iter()
        .map(|(key, _)| {
            let plain = key
                .chars()
                .all(|c| c.is_alphanumeric() || "._^".contains(c));
            match map.positive(key)? {
                Some(number) if plain => Ok((key.clone(), number)),
                _ => Err(map.unsupported(
                    key,
                    "present",
                    "names of modules, without regular expressions",
                )),
            }
        })
        .collect()
}

/// The number for the first key that is the module's name or its end.
fn matching(pattern: &[(String, f64)], module: &str) -> Option<f64> {
    let matches = |key: &str| match key.strip_prefix('^') {
        Some(key) => module == key,
        None => module
            .strip_suffix(key)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    };
    pattern
        .iter()
        .find(|(key, _)| matches(key))
        .map(|(_, number)| *number)
}
