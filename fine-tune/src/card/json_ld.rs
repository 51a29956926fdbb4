//! The card for machines: JSON-LD in the vocabularies of schema.org, FAIR4ML 0.1.0 (models) and Croissant 1.0 (data sets).
//!
//! The context stands in the file, so that it is read without fetching anything.

use serde_json::{Map, Value, json};

use super::facts::Facts;
use super::record::Results;
use crate::evaluation::Figure;

/// Licences whose SPDX identifier is written otherwise than Hugging Face's.
const SPDX: [(&str, &str); 7] = [
    ("apache-2.0", "Apache-2.0"),
    ("mit", "MIT"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("cc-by-4.0", "CC-BY-4.0"),
    ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
    ("cc0-1.0", "CC0-1.0"),
];

/// The card as a JSON-LD document.
pub(super) fn card(facts: &Facts) -> Value {
    let mut card = Map::new();
    let mut set = |key: &str, value: Value| {
        card.insert(key.to_owned(), value);
    };
    set(
        "@context",
        json!({
            "@vocab": "https://schema.org/",
            "fair4ml": "https://w3id.org/fair4ml/",
            "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/",
            // What these name are things, not texts.
            "license": { "@type": "@id" },
            "dct:conformsTo": { "@type": "@id" },
        }),
    );
    set("@type", json!("fair4ml:MLModel"));
    set("name", json!(facts.name));
    set("description", json!(facts.description()));
    if let Some(licence) = &facts.licence {
        match SPDX.iter().find(|(name, _)| name == licence) {
            Some((_, spdx)) => set(
                "license",
                json!(format!("https://spdx.org/licenses/{spdx}")),
            ),
            None => set("conditionsOfAccess", json!(licence)),
        }
    }
    set("keywords", json!(facts.tags));
    set("fair4ml:mlTask", json!(facts.task.name()));
    set("fair4ml:modelCategory", json!(facts.architecture));
    let base = json!({
        "@type": "fair4ml:MLModel",
        "name": facts.base,
        "identifier": facts.base_digest,
    });
    match &facts.adapter {
        Some((name, digest)) => {
            set("fair4ml:fineTunedFrom", base);
            set(
                "isBasedOn",
                json!({ "@type": "SoftwareSourceCode", "name": name, "identifier": digest }),
            );
        }
        None => set("isBasedOn", base),
    }
    set(
        "fair4ml:usageInstructions",
        json!("furlong run --model FOLDER PROMPT; or any ONNX runtime"),
    );
    set(
        "creator",
        json!({ "@type": "SoftwareApplication", "name": "furlong fine-tune", "softwareVersion": facts.version }),
    );
    set(
        "encoding",
        Value::Array(facts.files.iter().map(file).collect()),
    );
    let mut properties = vec![
        property(
            "context length",
            json!(facts.context_length),
            Some("tokens"),
        ),
        property("weights", json!(facts.weights), None),
    ];
    properties.extend(
        facts
            .parameters
            .map(|count| property("parameters", json!(count), None)),
    );
    properties.extend(
        facts
            .quantisation
            .as_ref()
            .map(|recipe| property("quantisation", json!(recipe.to_string()), None)),
    );
    if let Some(training) = &facts.training {
        properties.push(property("training", json!(training.description()), None));
        properties.push(property(
            "training settings",
            json!(training.settings.to_string()),
            None,
        ));
        set(
            "fair4ml:trainedOn",
            json!({
                "@type": ["Dataset", "cr:Dataset"],
                "name": training.data,
                "size": format!("{} examples", training.samples),
                "distribution": {
                    "@type": "cr:FileObject",
                    "name": training.data,
                    "encodingFormat": "application/jsonlines",
                    "sha256": hex(&training.data_digest),
                },
            }),
        );
    }
    if let Some(results) = &facts.results {
        properties.extend(scores(results));
        set("fair4ml:evaluatedOn", data_set(results));
    }
    set("additionalProperty", Value::Array(properties));
    Value::Object(card)
}

fn file(file: &super::ModelFile) -> Value {
    json!({
        "@type": "MediaObject",
        "name": file.name,
        "contentSize": format!("{} B", file.bytes),
        "encodingFormat": "application/octet-stream",
        "sha256": hex(&file.digest),
    })
}

fn property(name: &str, value: Value, unit: Option<&str>) -> Value {
    let mut property = json!({ "@type": "PropertyValue", "name": name, "value": value });
    if let (Some(unit), Some(object)) = (unit, property.as_object_mut()) {
        object.insert("unitText".to_owned(), json!(unit));
    }
    property
}

/// The scores of this model, and of its base if they are known.
fn scores(results: &Results) -> Vec<Value> {
    let score = |of: &str, figure: &Figure| {
        let mut value = json!({
            "@type": "PropertyValue",
            "name": format!("{}{of}", figure.metric),
            "measurementTechnique": figure.metric,
            "value": figure.score?,
        });
        if let (Some(interval), Some(object)) = (figure.interval, value.as_object_mut()) {
            object.insert("minValue".to_owned(), json!(interval.low));
            object.insert("maxValue".to_owned(), json!(interval.high));
        }
        Some(value)
    };
    let before = results.before.iter().flat_map(|summary| &summary.metrics);
    let before = before.filter_map(|figure| score(" of the base model", figure));
    before
        .chain(
            results
                .after
                .metrics
                .iter()
                .filter_map(|figure| score("", figure)),
        )
        .collect()
}

/// The test set, as far as it is known, in Croissant's terms.
fn data_set(results: &Results) -> Value {
    json!({
        "@type": ["Dataset", "cr:Dataset"],
        "dct:conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": results.data.name,
        "size": format!("{} lines", results.data.lines),
        "distribution": {
            "@type": "cr:FileObject",
            "name": results.data.name,
            "encodingFormat": "application/jsonlines",
            "sha256": hex(&results.data.digest),
        },
    })
}

fn hex(digest: &str) -> &str {
    digest.strip_prefix("sha256:").unwrap_or(digest)
}
