//! What a model says about itself: `metadata_props` of the ONNX file.

use std::collections::BTreeMap;

use serde_json::json;

use super::Request;
use crate::architecture::{Architecture, TensorSpec};
use crate::card::TrainingRecord;
use crate::checkpoint::Checkpoint;
use crate::graph::{Precision, Storage};
use crate::quantise::Recipe;

/// The metadata of an export, by key.
pub(super) fn of(
    checkpoint: &Checkpoint,
    architecture: &Architecture,
    request: &Request,
    precision: Precision,
    base_digest: &str,
    training: Option<&TrainingRecord>,
) -> BTreeMap<String, String> {
    let kind = match architecture {
        Architecture::Decoder(_) => "decoder",
        Architecture::Encoder(_) => "encoder",
    };
    let mut metadata = BTreeMap::new();
    let mut set = |key: &str, value: &str| {
        metadata.insert(format!("furlong.{key}"), value.to_owned());
    };
    set("kind", kind);
    set("architecture", architecture.model_type());
    if let Architecture::Encoder(config) = architecture
        && !config.labels.is_empty()
    {
        set("labels", &json!(config.labels).to_string());
    }
    set("context_length", &architecture.context_length().to_string());
    set("weights", request.weights.name());
    set("version", env!("CARGO_PKG_VERSION"));
    set("base_model", checkpoint.name());
    set("base_digest", base_digest);
    if let Some(licence) = checkpoint.licence() {
        set("license", licence);
    }
    if let Some(adapter) = checkpoint.adapter() {
        let adapter = json!({ "name": adapter.name(), "digest": adapter.digest() });
        set("adapter", &adapter.to_string());
    }
    if let Some(text) = training.and_then(|training| serde_json::to_string(training).ok()) {
        set("training", &text);
    }
    let mut linear = recipe(precision.linear, precision.block);
    if let Some(calibration) = &request.calibration {
        let text = calibration.text.file_name().unwrap_or_default();
        linear["rounding"] = json!({
            "method": "GPTQ: errors are made up for, columns in the order of their inputs' size",
            "text": text.to_string_lossy(),
            "tokens": calibration.tokens,
        });
    }
    let recipe = json!({
        "linear": linear,
        "embedding": recipe(precision.embedding, precision.block),
    });
    set("quantisation", &recipe.to_string());
    let specs = architecture.tensors();
    set("parameters", &parameters(&specs).to_string());
    let tags = [
        "onnx",
        "furlong",
        kind,
        architecture.model_type(),
        request.weights.name(),
    ];
    set("tags", &tags.join(","));
    metadata
}

/// How many weights tensors have in all.
pub(super) fn parameters(specs: &[TensorSpec]) -> u64 {
    specs
        .iter()
        .map(|spec| spec.shape.iter().product::<usize>() as u64)
        .sum()
}

/// How a kind of weight was stored, for people and tools.
fn recipe(storage: Storage, block: usize) -> serde_json::Value {
    let blocks = |bits: usize, zero_points: &str| {
        json!({
            "bits": bits,
            "block": block,
            "zero_points": zero_points,
            "method": "least squared error, scales in f16",
        })
    };
    match storage {
        Storage::F32 => json!({ "bits": 32 }),
        Storage::F16 => json!({ "bits": 16 }),
        Storage::Blocks(Recipe::EightBits) => blocks(8, "none"),
        Storage::Blocks(Recipe::FourBits) => blocks(4, "packed"),
        Storage::Blocks(Recipe::FourBitsFloatZero) => blocks(4, "float"),
    }
}
