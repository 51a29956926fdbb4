//! Every architecture, from checkpoint to logits in our engine, against the reference implementation's.
//!
//! `tests/golden` holds small checkpoints with random weights and what torch, transformers and peft made of them; see
//! `make.py` there.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use furlong_core::{Isa, IsaKind};
use furlong_fine_tune::export::{Request, Weights, ZeroPoints, export};
use furlong_runtime::{Array, Error, Graph, GraphOptions, KvFormat, LoadOptions, Model, Session};
use furlong_tests::plan::Image;
use furlong_tests::reference::Reference;

/// Largest difference from the reference in f32.
const TOLERANCE: f32 = 1e-3;
/// Largest difference of a plan's embedding from the session's: pooling adds in another order than tract.
const POOLED: f32 = 1e-6;
/// The same with an adapter beside the model, whose factors have 15 bits and here are as large as the weights, or larger: rsLoRA's
/// scale falls slower with the rank.
const BESIDE: f32 = 1e-2;

const DECODERS: &[&str] = &[
    "llama",
    "llama3-rope",
    "yarn-rope",
    "qwen2",
    "qwen3",
    "gpt2",
    "sinusoidal",
];
/// Adapters, with the models that they are for.
const ADAPTERS: &[(&str, &str)] = &[("llama", "llama-lora"), ("gpt2", "gpt2-rslora")];
/// Encoders, with the output that they are for.
const ENCODERS: &[(&str, &str)] = &[
    ("bert-mean", "sentence_embedding"),
    ("bert-cls", "sentence_embedding"),
    ("bert-labels", "logits"),
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name)
}

fn request(name: &str, adapter: Option<&str>, weights: Weights, home: &Path) -> Request {
    let out = home.join(format!("{}-{}", adapter.unwrap_or(name), weights.name()));
    Request {
        base: golden(name),
        adapter: adapter.map(golden),
        kept_adapters: Vec::new(),
        weights,
        four_bit_embedding: false,
        zero_points: ZeroPoints::Float,
        calibration: None,
        block: furlong_fine_tune::quantise::BLOCK,
        context: None,
        out,
        force: true,
    }
}

fn exported(name: &str, adapter: Option<&str>, weights: Weights, home: &Path) -> PathBuf {
    let request = request(name, adapter, weights, home);
    export(&request, &|_| ControlFlow::Continue(())).unwrap_or_else(|e| panic!("{name}: {e}"));
    request.out
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
    session_logits(&mut model.session().expect("a decoder"), tokens, chunks)
}

fn session_logits(session: &mut Session, tokens: &[u32], chunks: &[usize]) -> Vec<f32> {
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
    check_sessions(
        name,
        &|| load(folder).session().expect("a decoder"),
        expected,
        TOLERANCE,
    );
}

fn check_sessions(name: &str, fresh: &dyn Fn() -> Session, expected: &Reference, tolerance: f32) {
    let (tokens, expected) = (expected.tokens("input_ids"), expected.floats("logits"));
    for chunks in [vec![24], vec![7, 5, 12], vec![1; 24]] {
        let found = session_logits(&mut fresh(), &tokens, &chunks);
        let worst = largest_difference(&found, &expected);
        println!("{name}, {} chunks: {worst:.1e}", chunks.len());
        assert!(
            worst <= tolerance,
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
    for (base, adapter) in ADAPTERS {
        let folder = exported(base, Some(adapter), Weights::F32, home.path());
        let expected = Reference::open(&golden(adapter).join("expected.safetensors"));
        check_decoder(adapter, &folder, &expected);
    }
}

#[test]
fn an_adapter_beside_the_model_gives_the_reference_logits() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for (base, adapter) in ADAPTERS {
        let model = load(&exported(base, None, Weights::F32, home.path()));
        let loaded = model.load_adapter(&golden(adapter)).expect("an adapter");
        let fresh = || {
            let mut session = model.session().expect("a decoder");
            session
                .set_adapter(Some(&loaded))
                .expect("an empty session");
            session
        };
        let expected = Reference::open(&golden(adapter).join("expected.safetensors"));
        check_sessions(adapter, &fresh, &expected, BESIDE);
    }
}

/// Beside quantised weights an adapter is exact and only the base is rounded; merged, their sum is rounded.
#[test]
fn beside_quantised_weights_an_adapter_is_as_near_as_merged() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for (base, adapter) in ADAPTERS {
        let expected = Reference::open(&golden(adapter).join("expected.safetensors"));
        let (tokens, expected) = (expected.tokens("input_ids"), expected.floats("logits"));
        for (weights, bound) in [
            (Weights::F16, 0.01),
            (Weights::Q8, 0.06),
            (Weights::Q4, 0.5),
        ] {
            let model = load(&exported(base, None, weights, home.path()));
            let loaded = model.load_adapter(&golden(adapter)).expect("an adapter");
            let mut session = model.session().expect("a decoder");
            session
                .set_adapter(Some(&loaded))
                .expect("an empty session");
            let beside = session_logits(&mut session, &tokens, &[24]);
            let merged = load(&exported(base, Some(adapter), weights, home.path()));
            let merged = logits(&merged, &tokens, &[24]);
            let apart = [&beside, &merged].map(|found| relative_difference(found, &expected));
            println!(
                "{adapter} {}: beside {:.1e}, merged {:.1e}",
                weights.name(),
                apart[0],
                apart[1]
            );
            assert!(
                apart[0] <= bound,
                "{adapter} as {}: {}",
                weights.name(),
                apart[0]
            );
            let between = relative_difference(&beside, &merged);
            assert!(
                between <= apart[0] + apart[1] + 1e-6,
                "{adapter}: {between}"
            );
        }
    }
}

/// A graph with slots is the base model to the bit, whatever the slots are for, and the adapter is beside it.
#[test]
fn a_kept_adapter_leaves_the_base_as_it_was_and_gives_the_same_as_its_own_folder() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for (base, adapter) in ADAPTERS {
        for weights in [Weights::F32, Weights::F16, Weights::Q8, Weights::Q4] {
            let plain = load(&exported(base, None, weights, home.path()));
            let request = Request {
                kept_adapters: vec![golden(adapter)],
                out: home
                    .path()
                    .join(format!("{adapter}-kept-{}", weights.name())),
                ..request(base, None, weights, home.path())
            };
            export(&request, &|_| ControlFlow::Continue(())).expect("an export");
            let kept = load(&request.out);
            assert_eq!(kept.report().ops, plain.report().ops);
            let tokens =
                Reference::open(&golden(base).join("expected.safetensors")).tokens("input_ids");
            assert!(logits(&kept, &tokens, &[24]) == logits(&plain, &tokens, &[24]));
            let with = |model: &Model, folder: &Path| {
                let adapter = model.load_adapter(folder).expect("an adapter");
                let mut session = model.session().expect("a decoder");
                session
                    .set_adapter(Some(&adapter))
                    .expect("an empty session");
                session_logits(&mut session, &tokens, &[24])
            };
            let beside = request.out.join("adapters").join(adapter);
            assert!(with(&kept, &beside) == with(&plain, &golden(adapter)));
        }
    }
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
fn encoders_give_the_reference_embeddings_and_logits() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for &(name, wanted) in ENCODERS {
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
            .find(|(output, _)| output == wanted)
            .and_then(|(_, array)| array.as_f32())
            .expect("an output");
        let worst = largest_difference(sentences, &expected.floats(wanted));
        println!("{name}: {worst:.1e}");
        assert!(worst <= TOLERANCE, "{name}: {worst} from the reference");
    }
}

#[test]
fn encoders_as_plans_give_what_they_give_on_linux() {
    let home = tempfile::tempdir().expect("a temporary folder");
    for &(name, _) in ENCODERS {
        let expected = Reference::open(&golden(name).join("expected.safetensors"));
        let (tokens, mask) = (
            expected.tokens("input_ids"),
            expected.tokens("attention_mask"),
        );
        let length = tokens.len() / 2;
        let pairs: Vec<(u32, u32)> = tokens.into_iter().zip(mask).collect();
        // Sentences without their padding, and one of a single token.
        let whole = pairs.chunks(length);
        let kept = whole.map(|row| row.iter().filter(|(_, keep)| *keep == 1));
        let mut sentences: Vec<Vec<u32>> =
            kept.map(|row| row.map(|(id, _)| *id).collect()).collect();
        sentences.push(vec![3]);
        for weights in [Weights::F32, Weights::Q8, Weights::Q4] {
            let folder = exported(name, None, weights, home.path());
            let graph = load(&folder).encode(&sentences).expect("an encoder");
            for isa in [IsaKind::Scalar, Isa::detect().kind()] {
                let plan = Image::of(&folder, isa, length).encode(&sentences);
                let apart = plan
                    .iter()
                    .zip(&graph)
                    .map(|(a, b)| largest_difference(a, b));
                let worst = apart.fold(0.0, f32::max);
                println!("{name} {} {isa:?}: {worst:.1e}", weights.name());
                assert!(worst <= POOLED, "{name} {}: {worst}", weights.name());
            }
        }
    }
}

#[test]
fn a_classifier_knows_its_labels_and_gives_their_probabilities() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let texts = [vec![3, 1, 4, 1, 5], vec![9]];
    let model = load(&exported("bert-labels", None, Weights::Q8, home.path()));
    assert_eq!(model.labels().expect("labels"), ["none", "on", "off"]);
    let all = model.encode(&texts).expect("logits");
    let classes = model.classify(&texts).expect("probabilities");
    for (logits, classes) in all.iter().zip(&classes) {
        let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        let expected = logits.iter().map(|&x| (f64::from(x).exp() / sum) as f32);
        let expected: Vec<f32> = expected.collect();
        assert!(largest_difference(classes, &expected) < 1e-6, "{classes:?}");
    }
    let other = load(&exported("bert-cls", None, Weights::F32, home.path()));
    assert!(matches!(other.classify(&texts), Err(Error::Usage(_))));
}
