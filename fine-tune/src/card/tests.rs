use super::*;
use crate::comparison::Interval;
use crate::evaluation::{Evaluation, Figure, Summary, TestSet};
use crate::onnx::proto::{GraphProto, ModelProto, StringStringEntryProto};
use prost::Message;
use serde_json::Value;

fn summary(score: f64) -> Summary {
    Summary {
        answers: 100,
        too_long: 0,
        cut_off: 0,
        tokens: 1000,
        seconds: 1.0,
        metrics: vec![Figure {
            metric: "exact-match".to_owned(),
            score: Some(score),
            interval: Some(Interval {
                low: score - 2.0,
                high: score + 2.0,
            }),
        }],
    }
}

const TRAINING: &str = r#"{"method":"lora","data":"<script>.jsonl","data_digest":"sha256:33","samples":20,"tokens":400,"steps":7,
    "trained_parameters":64,"eval_digest":null,"eval_loss_before":2.5,"eval_loss":0.125,"settings":{"rank":4}}"#;

/// A model folder whose base has a hostile name, with results recorded twice.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: format!("furlong.{key}"),
        value: value.to_owned(),
    };
    let model = ModelProto {
        metadata_props: vec![
            entry("kind", "decoder"),
            entry("architecture", "llama"),
            entry("base_model", "evil\"\n---\n<script>|[x](y)"),
            entry("base_digest", "sha256:00"),
            entry("license", "apache-2.0"),
            entry("weights", "q4"),
            entry("context_length", "64"),
            entry("parameters", "123"),
            entry("tags", "onnx,llama"),
            entry("adapter", r#"{"name":"home","digest":"sha256:11"}"#),
            entry("training", TRAINING),
            entry("version", "1.2.3"),
        ],
        graph: Some(GraphProto::default()),
        ..ModelProto::default()
    };
    std::fs::write(folder.path().join(MODEL_FILE), model.encode_to_vec()).unwrap();
    let evaluation = |score| Evaluation {
        model: folder.path().to_owned(),
        adapter: None,
        data: TestSet {
            name: "test.jsonl".to_owned(),
            digest: "sha256:22".to_owned(),
            lines: 100,
        },
        bad_lines: Vec::new(),
        bad_count: 0,
        interrupted: false,
        summary: summary(score),
    };
    record(folder.path(), &evaluation(10.0), None).unwrap();
    record(folder.path(), &evaluation(90.0), Some(summary(50.0))).unwrap();
    folder
}

#[test]
fn results_stand_in_the_metadata_and_in_all_files_once() {
    let folder = folder();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let model = ModelProto::decode(read(MODEL_FILE).as_slice()).unwrap();
    let recorded: Vec<&str> = model
        .metadata_props
        .iter()
        .filter(|entry| entry.key == "furlong.evaluation")
        .map(|entry| entry.value.as_str())
        .collect();
    let results: Results = serde_json::from_str(recorded[0]).unwrap();
    assert_eq!(recorded.len(), 1);
    assert_eq!(results.after, summary(90.0));
    assert_eq!(
        results,
        serde_json::from_slice(&read(RESULTS_FILE)).unwrap()
    );

    let card = String::from_utf8(read(CARD_FILE)).unwrap();
    assert!(card.contains("| 50.00 (48.00 to 52.00) | 90.00 (88.00 to 92.00) |"));
    assert!(card.contains("2.500 before, 0.125 after"));
    // The base's name ends no front matter, no row, and opens no tag.
    assert_eq!(card.lines().filter(|line| *line == "---").count(), 2);
    assert!(
        !card
            .split("\n---\n")
            .nth(1)
            .unwrap()
            .replace("\\<", "")
            .contains('<')
    );
}

#[test]
fn the_card_for_machines_is_json_ld() {
    let folder = folder();
    let text = std::fs::read_to_string(folder.path().join(JSON_LD_FILE)).unwrap();
    let card: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(card["license"], "https://spdx.org/licenses/Apache-2.0");
    assert_eq!(card["fair4ml:fineTunedFrom"]["identifier"], "sha256:00");
    assert_eq!(card["fair4ml:trainedOn"]["distribution"]["sha256"], "33");
    assert_eq!(card["fair4ml:evaluatedOn"]["distribution"]["sha256"], "22");
    // Every prefix is declared, and every thing has a type.
    fn walk(value: &Value, context: &Value) {
        match value {
            Value::Object(object) => {
                assert!(object.contains_key("@type"), "{value}");
                for (key, value) in object.iter().filter(|(key, _)| *key != "@context") {
                    if let Some((prefix, _)) = key.split_once(':') {
                        assert!(context.get(prefix).is_some(), "{key}");
                    }
                    walk(value, context);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| walk(value, context)),
            _ => {}
        }
    }
    walk(&card, &card["@context"]);
}

#[test]
fn a_model_of_others_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(MODEL_FILE);
    // Field 100, which our exports don't have.
    let foreign = [0xa0, 0x06, 0x01];
    std::fs::write(&path, foreign).unwrap();
    let evaluation = Evaluation {
        model: folder.path().to_owned(),
        adapter: None,
        data: TestSet {
            name: String::new(),
            digest: String::new(),
            lines: 1,
        },
        bad_lines: Vec::new(),
        bad_count: 0,
        interrupted: false,
        summary: summary(1.0),
    };
    record(folder.path(), &evaluation, None).unwrap_err();
    assert_eq!(std::fs::read(&path).unwrap(), foreign);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
