//! SmolLM2-135M, a real decoder, from its exported folders: against ONNX Runtime on the same f32 file, and
//! between processors on the quantised ones.
//!
//! `cargo xtask test` makes what these tests read, sets `FURLONG_MODELS` to the folder that holds it, and runs
//! them on this machine and on emulated ones:
//!
//! - `smollm2-f32`, `smollm2-q8`, `smollm2-q4`: exports
//! - `references/smollm2.safetensors`: what `tests/parity/decoder_reference.py` says of `smollm2-f32`
//! - `references/smollm2-QUANTISED.json`: greedy tokens and logits of this library on the host. They are
//!   written when `FURLONG_RECORD` is set, and compared with otherwise.

use std::path::PathBuf;

use furlong_core::{Isa, argmax::argmax};
use furlong_runtime::{KvFormat, LoadOptions, Model};
use furlong_tests::reference::{Reference, models_folder};

/// How much of the reference's five prompts and 48 greedy tokens f32 has to follow. Other processors are emulated, which computes
/// each float in software: there a token takes over a second.
const PROMPTS: usize = if cfg!(target_arch = "x86_64") { 5 } else { 2 };
const TOKENS: usize = if cfg!(target_arch = "x86_64") { 48 } else { 10 };

/// Greedy tokens of each of the quantised models' two prompts.
const QUANTISED_TOKENS: usize = 24;

fn load(name: &str, kv: KvFormat) -> Model {
    let options = LoadOptions {
        kv,
        ..LoadOptions::default()
    };
    Model::load(&models_folder().join(name), &options).expect("the export loads")
}

/// Greedy continuation of `prompt`, and the logits at its last position.
fn greedy(model: &Model, prompt: &[u32], tokens: usize) -> (Vec<u32>, Vec<f32>) {
    let mut session = model.session().expect("a decoder");
    let first = session
        .extend(prompt)
        .expect("room for the prompt")
        .to_vec();
    let mut chosen = vec![argmax(Isa::detect(), &first).expect("logits") as u32];
    while chosen.len() < tokens {
        let logits = session
            .extend(&chosen[chosen.len() - 1..])
            .expect("room for one more");
        chosen.push(argmax(Isa::detect(), logits).expect("logits") as u32);
    }
    (chosen, first)
}

fn reference() -> Reference {
    Reference::open(&models_folder().join("references/smollm2.safetensors"))
}

#[test]
#[ignore = "reads models that `cargo xtask test` makes"]
fn f32_follows_onnx_runtime_token_for_token() {
    // The reference keeps its keys and values in f32.
    let model = load("smollm2-f32", KvFormat::F32);
    let reference = reference();
    for index in 0..PROMPTS {
        let prompt = reference.tokens(&format!("prompt.{index}"));
        let (tokens, logits) = greedy(&model, &prompt, TOKENS);
        let expected = reference.floats(&format!("logits.{index}"));
        assert_eq!(logits.len(), expected.len());
        let furthest = logits
            .iter()
            .zip(&expected)
            .map(|(ours, theirs)| (ours - theirs).abs())
            .fold(0f32, f32::max);
        println!("prompt {index}: logits within {furthest:e}");
        assert!(
            furthest <= 1e-3,
            "prompt {index}: logits differ by {furthest}"
        );
        let followed = reference.tokens(&format!("greedy.{index}"));
        assert_eq!(Some(&*tokens), followed.get(..TOKENS), "prompt {index}");
    }
}

/// What one processor made of a quantised model.
type Run = Vec<(Vec<u32>, Vec<u32>)>;

fn quantised_run(name: &str) -> Run {
    let (model, reference) = (load(name, KvFormat::F16), reference());
    (0..2)
        .map(|index| {
            let prompt = reference.tokens(&format!("prompt.{index}"));
            let (tokens, logits) = greedy(&model, &prompt, QUANTISED_TOKENS);
            (tokens, logits.iter().map(|logit| logit.to_bits()).collect())
        })
        .collect()
}

fn same_on_every_processor(name: &str) {
    let run = quantised_run(name);
    let file: PathBuf = models_folder().join(format!("references/{name}.json"));
    if std::env::var_os("FURLONG_RECORD").is_some() {
        std::fs::write(&file, serde_json::to_vec(&run).expect("JSON")).expect("reference written");
        return;
    }
    let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let recorded: Run = serde_json::from_slice(&bytes).expect("the reference is JSON");
    for (index, ((tokens, logits), (tokens_then, logits_then))) in
        run.iter().zip(&recorded).enumerate()
    {
        assert_eq!(
            tokens, tokens_then,
            "{name}, prompt {index}: other tokens than on the host"
        );
        assert!(
            logits == logits_then,
            "{name}, prompt {index}: other logits than on the host"
        );
    }
}

#[test]
#[ignore = "reads models that `cargo xtask test` makes"]
fn q8_is_the_same_on_every_processor() {
    same_on_every_processor("smollm2-q8");
}

#[test]
#[ignore = "reads models that `cargo xtask test` makes"]
fn q4_is_the_same_on_every_processor() {
    same_on_every_processor("smollm2-q4");
}
