//! What a sentence-transformers folder says about pooling and normalisation.

use std::path::Path;

use serde_json::Value;

use super::files::{self, SETTINGS_LIMIT};
use crate::architecture::Pooling;
use crate::architecture::config::{Fields, SentenceHead};
use crate::error::{Error, Result};

/// Reads `modules.json` and the pooling module's config; no sentence embedding where there is no such file.
pub fn read(folder: &Path) -> Result<SentenceHead> {
    let mut head = SentenceHead::NONE;
    let path = folder.join("modules.json");
    let Some(modules) = files::json(folder, "modules.json", SETTINGS_LIMIT)? else {
        return Ok(head);
    };
    let modules = modules
        .as_array()
        .ok_or_else(|| Error::malformed(&path, "first byte", "not a list of modules"))?;
    for (index, module) in modules.iter().enumerate() {
        let fields = Fields::new(&path, module)?;
        let kind = fields.text("type")?.unwrap_or("");
        match kind.rsplit('.').next().unwrap_or("") {
            "Transformer" if index == 0 => {}
            "Pooling" if index == 1 => {
                head.pooling = pooling(folder, fields.text("path")?.unwrap_or("1_Pooling"))?;
            }
            "Normalize" if index > 0 => head.normalise = true,
            _ => {
                return Err(fields.unsupported(
                    &format!("module {index}"),
                    kind,
                    "Transformer, then Pooling, then Normalize",
                ));
            }
        }
    }
    Ok(head)
}

fn pooling(folder: &Path, module: &str) -> Result<Pooling> {
    let name = format!("{module}/config.json");
    let path = folder.join(&name);
    let config = files::json(folder, &name, SETTINGS_LIMIT)?
        .ok_or_else(|| Error::malformed(&path, "file", "the pooling module has no config"))?;
    let fields = Fields::new(&path, &config)?;
    let supported =
        "one of pooling_mode_mean_tokens, pooling_mode_cls_token, pooling_mode_max_tokens";
    if let Some(mode) = fields.text("pooling_mode")? {
        return match mode {
            "mean" => Ok(Pooling::Mean),
            "cls" => Ok(Pooling::Cls),
            "max" => Ok(Pooling::Max),
            other => Err(fields.unsupported("pooling_mode", other, "mean, cls, max")),
        };
    }
    let on: Vec<&str> = fields
        .iter()
        .filter(|(name, value)| name.starts_with("pooling_mode_") && **value == Value::Bool(true))
        .map(|(name, _)| name.as_str())
        .collect();
    match on[..] {
        ["pooling_mode_mean_tokens"] => Ok(Pooling::Mean),
        ["pooling_mode_cls_token"] => Ok(Pooling::Cls),
        ["pooling_mode_max_tokens"] => Ok(Pooling::Max),
        _ => Err(fields.unsupported("pooling_mode", on.join(" and "), supported)),
    }
}
