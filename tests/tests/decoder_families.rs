//! Every architecture, from checkpoint to logits in our engine, against the reference implementation's.
//!
//! `tests/golden` holds small checkpoints with random weights and what torch, transformers and peft made of them; see
//! `make.py` there.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use furlong_fine_tune::export::{Request, Weights, ZeroPoints, export};
use furlong_runtime::{Array, Graph, GraphOptions, KvFormat, LoadOptions, Model};
use furlong_tests::reference::Reference;

/// Largest difference from the reference in f32.
const TOLERANCE: f32 = 1e-3;

const DECODERS: &[&str] = &[
    "llama",
    "llama3-rope",
    "yarn-rope",
    "qwen2",
    "qwen3",
    "gpt2",
    "sinusoidal",
];
const ENCODERS: &[&str] = &["bert-mean", "bert-cls"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name)
}

fn exported(name: &str, adapter: Option<&str>, weights: Weights, home: &Path) -> PathBuf {
    let out = home.join(format!("{name}-{}", weights.name()));
    let request = Request {
        base: golden(name),
        adapter: adapter.map(golden),
        weights,
        four_bit_embedding: false,
        zero_points: ZeroPoints::Float,
        block: furlong_fine_tune::quantise::BLOCK,
        context: None,
        out: out.clone(),
        force: false,
    };
    export(&request, &|_| ControlFlow::Continue(())).unwrap_or_else(|e| panic!("{name}: {e}"));
    out
}

fn load(folder: &Path) -> Model {
    let options = LoadOptions {
        kv: KvFormat::F32,
        threads: NonZeroUsize::new(1),
        ..LoadOptions::default()
    };
    Model::load(folder, &options).unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
}

/// Logits of all positions, `[tokens, vocab]`, given in chunks of these lengths.
fn logits(model: &Model, tokens: &[u32], chunks: &[usize]) -> Vec<f32> {
    let mut session = model.session().expect("a decoder");
    let mut all = Vec::new();
    let mut rest = tokens;
    for &length in chunks {
        let (chunk, left) = rest.split_at(length.min(rest.len()));
        session
            .extend_all(chunk, |_, logits| all.extend_from_slice(logits))
            .expect("logits");
        rest = left;
    }
    all
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// How far `a` is from `b`, relative to the size of `b`.
fn relative_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |x: f32| f64::from(x).powi(2);
    let apart: f64 = a.iter().zip(b).map(|(a, b)| square(a - b)).sum();
    (apart / b.iter().map(|b| square(*b)).sum::<f64>()).sqrt()
}

fn check_decoder(name: &str, folder: &Path, expected: &Reference) {
    let (tokens, expected) = (expected.tokens("input_ids"), expected.floats("logits"));
    let model = load(folder);
    for chunks in [vec![24], vec![7, 5, 12], vec![1; 24]] {
        let found = logits(&model, &tokens, &chunks);
        let worst = largest_difference(&found, &expected);
        println!("{name}, {} chunks: {worst:.1e}", chunks.len());
        assert!(
            worst <= TOLERANCE,
            "{name} in {} chunks: {worst} from the reference",
            chunks.len()
        );
    }
}

#[test]
fn decoders_give_the_reference_logits() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for name in DECODERS {
        let folder = exported(name, None, Weights::F32, home.path());
        check_decoder(
            name,
            &folder,
            &Reference::open(&golden(name).join("expected.safetensors")),
        );
    }
}

#[test]
fn a_merged_adapter_gives_the_reference_logits() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let folder = exported("llama", Some("llama-lora"), Weights::F32, home.path());
    let expected = Reference::open(&golden("llama-lora").join("expected.safetensors"));
    check_decoder("llama-lora", &folder, &expected);
}

#[test]
fn smaller_weights_stay_close() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for name in DECODERS {
        let expected = Reference::open(&golden(name).join("expected.safetensors"));
        let (tokens, expected) = (expected.tokens("input_ids"), expected.floats("logits"));
        // Random weights have no slack: these bounds catch a wrong layout, not a loss of quality.
        for (weights, bound) in [
            (Weights::F16, 0.01),
            (Weights::Q8, 0.06),
            (Weights::Q4, 0.5),
        ] {
            let model = load(&exported(name, None, weights, home.path()));
            let found = logits(&model, &tokens, &[24]);
            let apart = relative_difference(&found, &expected);
            println!("{name} {}: {apart:.1e}", weights.name());
            assert!(
                apart <= bound,
                "{name} as {}: {apart} from the reference",
                weights.name()
            );
        }
    }
}

#[test]
fn encoders_give_the_reference_embeddings() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for name in ENCODERS {
        let folder = exported(name, None, Weights::F32, home.path());
        let expected = Reference::open(&golden(name).join("expected.safetensors"));
        let graph = Graph::load(&folder.join("model.onnx"), &GraphOptions::default())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let inputs = ["input_ids", "attention_mask", "token_type_ids"].map(|input| {
            let values: Vec<i64> = expected.tokens(input).into_iter().map(i64::from).collect();
            (
                input.to_owned(),
                Array::new(vec![2, values.len() / 2], values).expect("two rows"),
            )
        });
        let outputs = graph
            .run(inputs.into())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let sentences = outputs
            .iter()
            .find(|(output, _)| output == "sentence_embedding")
            .and_then(|(_, array)| array.as_f32())
            .expect("sentence embeddings");
        let worst = largest_difference(sentences, &expected.floats("sentence_embedding"));
        println!("{name}: {worst:.1e}");
        assert!(worst <= TOLERANCE, "{name}: {worst} from the reference");
    }
}
