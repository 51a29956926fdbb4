//! Whole models: reading a prompt, decoding a token, embedding a sentence, each with one thread.

use criterion::{BenchmarkId, SamplingMode, Throughput};
use furlong_benches::{Clock, Suite, inputs};
use furlong_runtime::{LoadOptions, Model};
use std::num::NonZeroUsize;
use std::process::exit;

/// The decoder's exports.
const DECODERS: [&str; 2] = ["smollm2-q4", "smollm2-q8"];
/// The encoder's exports.
const ENCODERS: [&str; 2] = ["minilm-q8", "minilm-f32"];
/// Tokens of the prompt, and of context when one token is decoded.
const PROMPT: usize = 32;

fn main() {
    let clock = Clock::from_environment();
    let mut suite = clock.suite();
    for name in DECODERS {
        decoder(&clock, &mut suite, name);
    }
    for name in ENCODERS {
        encoder(&clock, &mut suite, name);
    }
    suite.final_summary();
}

/// Loads a model, or ends the program: results with models missing would look complete.
fn load(name: &str) -> Model {
    let options = LoadOptions {
        threads: Some(NonZeroUsize::MIN),
        ..LoadOptions::default()
    };
    let model = inputs::model(name).and_then(|folder| {
        Model::load(&folder, &options).map_err(|error| format!("{name}: {error}"))
    });
    model.unwrap_or_else(|message| {
        eprintln!("{message}");
        exit(1)
    })
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32)
        .map(|index| 1000 + index * 37 % 9000)
        .collect()
}

fn decoder(clock: &Clock, suite: &mut Suite, name: &str) {
    let model = load(name);
    let prompt = tokens(PROMPT);
    let mut session = model.session().expect("a decoder");
    let mut group = suite.benchmark_group("model");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.throughput(Throughput::Elements(PROMPT as u64));
    let mut meter = clock.meter();
    group.bench_function(
        BenchmarkId::new(format!("{name}/prompt"), PROMPT),
        |bencher| {
            meter.measure(bencher, || {
                session.reset();
                session.extend(&prompt).expect("room for the prompt").len()
            });
        },
    );
    session.reset();
    session.extend(&prompt).expect("room for the prompt");
    group.throughput(Throughput::Elements(1));
    let mut meter = clock.meter();
    group.bench_function(
        BenchmarkId::new(format!("{name}/decode"), PROMPT),
        |bencher| {
            meter.measure(bencher, || {
                session.truncate(PROMPT);
                session.extend(&[4000]).expect("room for a token").len()
            });
        },
    );
}

fn encoder(clock: &Clock, suite: &mut Suite, name: &str) {
    let model = load(name);
    let mut group = suite.benchmark_group("model");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    for length in [32, 128] {
        let sentence = vec![tokens(length)];
        group.throughput(Throughput::Elements(length as u64));
        let mut meter = clock.meter();
        group.bench_function(
            BenchmarkId::new(format!("{name}/embed"), length),
            |bencher| {
                meter.measure(bencher, || model.encode(&sentence).expect("an encoder"));
            },
        );
    }
}
