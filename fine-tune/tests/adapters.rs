//! LoRA adapters merged into small checkpoints, and adapters that must be refused.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use furlong_fine_tune::checkpoint::{Checkpoint, Tensor};
use furlong_fine_tune::error::Error;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};
use tempfile::TempDir;

const C_ATTN: &str = "transformer.h.0.attn.c_attn";
const GATE: &str = "model.layers.1.mlp.gate_proj";

fn base(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(name)
}

/// Values that differ from each other and from zero.
fn matrix(rows: usize, cols: usize) -> Tensor {
    let data = (0..rows * cols)
        .map(|i| ((i * 7919 % 101) as f32 - 50.0) / 64.0)
        .collect();
    Tensor {
        shape: vec![rows, cols],
        data,
    }
}

/// A PEFT folder with `settings` over plain LoRA of rank 2 and alpha 6.
fn adapter(settings: Value, tensors: &[(String, Tensor)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut config = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 6, "bias": "none" });
    for (field, value) in settings.as_object().unwrap() {
        config[field] = value.clone();
    }
    fs::write(
        folder.path().join("adapter_config.json"),
        config.to_string(),
    )
    .unwrap();
    let bytes: HashMap<&String, (Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let data = tensor
                .data
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            (name, (tensor.shape.clone(), data))
        })
        .collect();
    let views = bytes.iter().map(|(name, (shape, data))| {
        (
            *name,
            TensorView::new(Dtype::F32, shape.clone(), data).unwrap(),
        )
    });
    serialize_to_file(
        views,
        None,
        &folder.path().join("adapter_model.safetensors"),
    )
    .unwrap();
    folder
}

fn pair(module: &str, a: Tensor, b: Tensor) -> Vec<(String, Tensor)> {
    let name = |part: &str| format!("base_model.model.{module}.lora_{part}.weight");
    vec![(name("A"), a), (name("B"), b)]
}

fn merge(name: &str, adapter: &TempDir) -> Result<Checkpoint, Error> {
    let mut checkpoint = Checkpoint::open(&base(name))?;
    checkpoint.merge_adapter(adapter.path())?;
    Ok(checkpoint)
}

/// `weight + scale * b * a`, all `[out, in]`, in f64.
fn expected(weight: &Tensor, scale: f64, a: &Tensor, b: &Tensor) -> Vec<f64> {
    let ([rank, input], out) = ([a.shape[0], a.shape[1]], b.shape[0]);
    let change = |o: usize, i: usize| -> f64 {
        (0..rank)
            .map(|r| f64::from(b.data[o * rank + r]) * f64::from(a.data[r * input + i]))
            .sum()
    };
    (0..out * input)
        .map(|at| f64::from(weight.data[at]) + scale * change(at / input, at % input))
        .collect()
}

fn assert_close(found: &Tensor, expected: &[f64]) {
    assert_eq!(found.data.len(), expected.len());
    for (found, expected) in found.data.iter().zip(expected) {
        assert!(
            (f64::from(*found) - expected).abs() < 1e-5,
            "{found} {expected}"
        );
    }
}

#[test]
fn scales_follow_alpha_rank_and_their_patterns() {
    let original = Checkpoint::open(&base("llama"))
        .unwrap()
        .tensor(&format!("{GATE}.weight"))
        .unwrap();
    for (settings, rank, scale) in [
        (json!({}), 2, 3.0),
        (json!({ "use_rslora": true }), 2, 6.0 / 2f64.sqrt()),
        (json!({ "alpha_pattern": { "gate_proj": 1 } }), 2, 0.5),
        (
            json!({ "rank_pattern": { "layers.1.mlp.gate_proj": 3 } }),
            3,
            2.0,
        ),
        (
            json!({ "rank_pattern": { "^model.layers.1.mlp.gate_proj": 3 }, "alpha_pattern": { "proj": 9 } }),
            3,
            2.0,
        ),
    ] {
        let (a, b) = (matrix(rank, 32), matrix(48, rank));
        let folder = adapter(settings, &pair(GATE, a.clone(), b.clone()));
        let merged = merge("llama", &folder).unwrap();
        assert_close(
            &merged.tensor(&format!("{GATE}.weight")).unwrap(),
            &expected(&original, scale, &a, &b),
        );
        let untouched = "model.layers.0.mlp.gate_proj.weight";
        let plain = Checkpoint::open(&base("llama")).unwrap();
        assert_eq!(
            merged.tensor(untouched).unwrap(),
            plain.tensor(untouched).unwrap()
        );
    }
}

#[test]
fn weights_that_are_stored_transposed_are_merged_so() {
    let name = format!("{C_ATTN}.weight");
    let original = Checkpoint::open(&base("gpt2"))
        .unwrap()
        .tensor(&name)
        .unwrap();
    let (a, b) = (matrix(2, 32), matrix(96, 2));
    let folder = adapter(
        json!({ "fan_in_fan_out": true }),
        &pair(C_ATTN, a.clone(), b.clone()),
    );
    let merged = merge("gpt2", &folder).unwrap().tensor(&name).unwrap();
    assert_eq!(merged.shape, [32, 96]);
    assert_close(
        &merged.transposed(),
        &expected(&original.transposed(), 3.0, &a, &b),
    );
}

#[test]
fn dora_gives_rows_the_length_that_was_trained() {
    let mut tensors = pair(GATE, matrix(2, 32), matrix(48, 2));
    let lengths: Vec<f32> = (0..48).map(|row| 1.0 + row as f32 / 16.0).collect();
    let magnitude = Tensor {
        shape: vec![48],
        data: lengths.clone(),
    };
    tensors.push((
        format!("base_model.model.{GATE}.lora_magnitude_vector"),
        magnitude,
    ));
    let folder = adapter(json!({ "use_dora": true }), &tensors);
    let merged = merge("llama", &folder)
        .unwrap()
        .tensor(&format!("{GATE}.weight"))
        .unwrap();
    for (row, length) in merged.data.chunks(32).zip(lengths) {
        let norm = row.iter().map(|w| w * w).sum::<f32>().sqrt();
        assert!((norm - length).abs() < 1e-4, "{norm} {length}");
    }
}

#[test]
fn a_head_of_its_own_unties_the_embedding() {
    let embedding = "model.embed_tokens.weight";
    let original = Checkpoint::open(&base("llama"))
        .unwrap()
        .tensor(embedding)
        .unwrap();
    let (a, b) = (matrix(2, 32), matrix(128, 2));
    let folder = adapter(json!({}), &pair("lm_head", a.clone(), b.clone()));
    let merged = merge("llama", &folder).unwrap();
    assert_eq!(merged.tensor(embedding).unwrap(), original);
    assert_close(
        &merged.tensor("lm_head.weight").unwrap(),
        &expected(&original, 3.0, &a, &b),
    );
    assert!(
        merged
            .sidecars()
            .config
            .contains("\"tie_word_embeddings\": false")
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let good = || pair(GATE, matrix(2, 32), matrix(48, 2));
    let half = good().into_iter().take(1).collect();
    let mut alien = good();
    alien.push((
        "base_model.model.model.norm.weight".to_owned(),
        matrix(1, 32),
    ));
    for (what, tensors) in [
        ("rank", pair(GATE, matrix(3, 32), matrix(48, 3))),
        ("input", pair(GATE, matrix(2, 31), matrix(48, 2))),
        ("output", pair(GATE, matrix(2, 32), matrix(47, 2))),
        (
            "module",
            pair("model.layers.7.mlp.gate_proj", matrix(2, 32), matrix(48, 2)),
        ),
        ("norm", pair("model.norm", matrix(2, 32), matrix(32, 2))),
        ("half", half),
        ("alien", alien),
        ("nothing", Vec::new()),
    ] {
        let refused = merge("llama", &adapter(json!({}), &tensors));
        assert!(
            matches!(refused, Err(Error::Adapter { .. } | Error::Shape { .. })),
            "{what}: {refused:?}"
        );
    }
    for settings in [
        json!({ "peft_type": "IA3" }),
        json!({ "bias": "lora_only" }),
        json!({ "modules_to_save": ["lm_head"] }),
        json!({ "init_lora_weights": "pissa_niter_4" }),
        json!({ "rank_pattern": { ".*gate.*": 4 } }),
    ] {
        let refused = merge("llama", &adapter(settings.clone(), &good()));
        assert!(
            matches!(refused, Err(Error::Unsupported { .. })),
            "{settings}: {refused:?}"
        );
    }
    let dora = merge("llama", &adapter(json!({ "use_dora": true }), &good()));
    assert!(matches!(dora, Err(Error::Adapter { .. })), "{dora:?}");
}
