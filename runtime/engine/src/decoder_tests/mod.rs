//! Small decoders, made in memory, through our ops and through stock tract.

mod builder;
mod plan;

use std::num::NonZeroUsize;
use std::time::Instant;

use furlong_core::Isa;

use crate::{
    Array, ArrayData, Error, Graph, GraphOptions, KvFormat, LoadOptions, Model, OnnxModel, Session,
};
use builder::{Builder, CONTEXT, HEAD_DIM, KV_HEADS, LAYERS, Stored, VOCAB};

fn load(stored: Stored, threads: usize, isa: Isa) -> Model {
    load_with(stored, threads, isa, KvFormat::F32)
}

fn load_with(stored: Stored, threads: usize, isa: Isa, kv: KvFormat) -> Model {
    let options = LoadOptions {
        kv,
        threads: NonZeroUsize::new(threads),
        isa: Some(isa),
        ..LoadOptions::default()
    };
    let onnx = OnnxModel::from_bytes(&Builder::decoder(stored)).unwrap();
    Model::from_onnx(onnx, &options).unwrap()
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32)
        .map(|i| (i * i * 7 + 3) % VOCAB as u32)
        .collect()
}

/// The logits of all positions, tokens given in chunks of `chunk`.
fn all_logits(session: &mut Session, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for chunk in tokens.chunks(chunk) {
        session
            .extend_all(chunk, |_, logits| all.extend_from_slice(logits))
            .unwrap();
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

#[test]
fn logits_are_those_of_stock_tract() {
    let tokens = tokens(13);
    let onnx = OnnxModel::from_bytes(&Builder::decoder(Stored::F32)).unwrap();
    let graph = Graph::from_model(
        onnx,
        &GraphOptions {
            stock: true,
            threads: None,
        },
    )
    .unwrap();
    let numbers = |values: Vec<i64>| Array::new(vec![1, 13], ArrayData::I64(values)).unwrap();
    let mut inputs = vec![
        (
            "input_ids".to_string(),
            numbers(tokens.iter().map(|&t| i64::from(t)).collect()),
        ),
        ("position_ids".to_string(), numbers((0..13).collect())),
    ];
    for layer in 0..LAYERS {
        for part in ["key", "value"] {
            let empty = Array::new(vec![1, KV_HEADS, 0, HEAD_DIM], ArrayData::F32(vec![])).unwrap();
            inputs.push((format!("past_key_values.{layer}.{part}"), empty));
        }
    }
    let outputs = graph.run(inputs).unwrap();
    let (_, logits) = outputs
        .into_iter()
        .find(|(name, _)| name == "logits")
        .unwrap();
    let ArrayData::F32(expected) = logits.data() else {
        panic!("logits are f32")
    };
    for isa in Isa::available() {
        for threads in [1, 3] {
            let model = load(Stored::F32, threads, isa);
            for chunk in [13, 5, 1] {
                let found = all_logits(&mut model.session().unwrap(), &tokens, chunk);
                let apart = largest_difference(&found, expected);
                assert!(
                    apart < 1e-4,
                    "{} {threads} threads, chunks of {chunk}: {apart}",
                    isa.name()
                );
            }
        }
    }
}

#[test]
fn quantised_layers_are_near_what_they_stand_for_and_alike_everywhere() {
    let tokens = tokens(20);
    for bits in [4, 8] {
        let run = |stored, threads, isa, chunk| {
            all_logits(
                &mut load(stored, threads, isa).session().unwrap(),
                &tokens,
                chunk,
            )
        };
        let expected = run(Stored::Widened(bits), 1, Isa::SCALAR, 20);
        let scalar = run(Stored::Bits(bits), 1, Isa::SCALAR, 20);
        let size = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(largest_difference(&scalar, &expected) < 0.05 * size);
        for isa in Isa::available() {
            for (threads, chunk) in [(1, 20), (3, 20), (2, 7), (1, 1)] {
                assert_eq!(
                    run(Stored::Bits(bits), threads, isa, chunk),
                    scalar,
                    "{}",
                    isa.name()
                );
            }
        }
    }
}

#[test]
fn an_8_bit_cache_is_near_and_alike_everywhere() {
    let tokens = tokens(38);
    let run = |threads, isa, kv, chunk| {
        let model = load_with(Stored::F32, threads, isa, kv);
        let mut session = model.session().unwrap();
        let logits = all_logits(&mut session, &tokens, chunk);
        (logits, session.cache_bytes())
    };
    let (expected, bytes) = run(1, Isa::SCALAR, KvFormat::F32, 38);
    let (scalar, fewer) = run(1, Isa::SCALAR, KvFormat::Q8, 38);
    let size = expected.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(largest_difference(&scalar, &expected) < 0.02 * size);
    // Heads of sixteen columns, padded to 32.
    assert!(fewer < bytes);
    for isa in Isa::available() {
        for (threads, chunk) in [(3, 38), (2, 9), (4, 1)] {
            let (found, _) = run(threads, isa, KvFormat::Q8, chunk);
            assert_eq!(found, scalar, "{} {threads} {chunk}", isa.name());
        }
    }
}

#[test]
fn sessions_of_one_model_run_at_the_same_time() {
    let model = load(Stored::Bits(4), 3, Isa::detect());
    let expected = all_logits(&mut model.session().unwrap(), &tokens(30), 11);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for chunk in [30, 11, 1] {
                    let mut session = model.session().unwrap();
                    assert_eq!(all_logits(&mut session, &tokens(30), chunk), expected);
                }
            });
        }
    });
}

#[test]
fn the_plan_is_made_of_our_ops() {
    let report = load(Stored::Bits(4), 1, Isa::SCALAR).report();
    let count = |op: &str| report.ops.get(op).copied().unwrap_or(0);
    // Each layer: queries, keys and values in one, attention, output, norm, gated, down, norm.
    assert_eq!(
        (
            count("KvAttention"),
            count("GatedLinear"),
            count("QuantLinear")
        ),
        (2, 2, 6)
    );
    assert_eq!(
        (count("RmsNorm"), count("AddRmsNorm"), count("QuantGather")),
        (1, 4, 1)
    );
    assert_eq!(report.ops.values().sum::<usize>(), 17, "{:?}", report.ops);
    assert_eq!(
        report.kv_bytes_per_token,
        LAYERS * 2 * KV_HEADS * HEAD_DIM * 4
    );
    assert_eq!(report.context_length, CONTEXT);
}

#[test]
fn a_profile_adds_up_to_the_time_and_the_weights() {
    const DECODED: usize = 10;
    let model = load(Stored::Bits(8), 1, Isa::detect());
    let mut session = model.session().unwrap();
    assert!(session.profile().is_none());
    session.start_profile();
    let prompt = tokens(20);
    let start = Instant::now();
    let mut logits = session.extend(&prompt).unwrap().to_vec();
    for token in tokens(DECODED) {
        logits = session.extend(&[token]).unwrap().to_vec();
    }
    let whole = start.elapsed().as_secs_f64();
    let profile = session.profile().unwrap();
    let sum = profile.prompt.seconds() + profile.decode.seconds();
    assert!(
        sum <= whole && sum >= 0.9 * whole,
        "{sum} of {whole} seconds"
    );
    for (phase, reads, read) in [
        (&profile.prompt, 1, prompt.len()),
        (&profile.decode, DECODED, DECODED),
    ] {
        assert_eq!((phase.reads, phase.tokens), (reads, read));
        let layers = phase.rows.iter().filter(|row| row.op != "QuantGather");
        let bytes: u64 = layers.map(|row| row.weights_bytes).sum();
        assert_eq!(bytes, (reads * model.weights_bytes()) as u64);
        let by_op = phase.by_op();
        let calls = |op: &str| by_op.iter().find(|row| row.op == op).map(|row| row.calls);
        assert_eq!(calls("KvAttention"), Some(LAYERS * reads));
        assert_eq!(calls("Head"), Some(reads));
        let summed: f64 = by_op.iter().map(|row| row.seconds).sum();
        assert!((summed - phase.seconds()).abs() < 1e-9);
    }
    let mut plain = model.session().unwrap();
    plain
        .extend(&[prompt, tokens(DECODED - 1)].concat())
        .unwrap();
    let last = tokens(DECODED)[DECODED - 1];
    assert_eq!(logits, plain.extend(&[last]).unwrap());
}

#[test]
fn truncated_and_forked_sessions_go_on_as_if_nothing_else_had_been() {
    let model = load(Stored::Bits(8), 1, Isa::detect());
    let (first, second, other) = (tokens(10), [5, 6, 7], [9, 8]);
    let expect = |parts: &[&[u32]]| {
        let mut session = model.session().unwrap();
        session.extend(&parts.concat()).unwrap().to_vec()
    };
    let mut session = model.session().unwrap();
    session.extend(&first).unwrap();
    let mut fork = session.fork();
    // The two go on in threads of their own.
    let forked = std::thread::scope(|scope| {
        let forked = scope.spawn(|| fork.extend(&other).unwrap().to_vec());
        assert_eq!(session.extend(&second).unwrap(), expect(&[&first, &second]));
        forked.join().unwrap()
    });
    assert_eq!(forked, expect(&[&first, &other]));
    session.truncate(4);
    assert_eq!(session.len(), 4);
    assert_eq!(
        session.extend(&other).unwrap(),
        expect(&[&first[..4], &other])
    );
    session.reset();
    assert_eq!(session.extend(&second).unwrap(), expect(&[&second]));
}

#[test]
fn what_does_not_fit_leaves_a_session_as_it_was() {
    let model = load(Stored::F32, 1, Isa::detect());
    let mut session = model.session().unwrap();
    session.extend(&tokens(CONTEXT - 2)).unwrap();
    assert!(matches!(
        session.extend(&[1, 2, 3]),
        Err(Error::ContextFull {
            len: 38,
            asked: 3,
            limit: CONTEXT
        })
    ));
    assert!(matches!(
        session.extend(&[VOCAB as u32]),
        Err(Error::Token { .. })
    ));
    assert!(matches!(session.extend(&[]), Err(Error::Usage(_))));
    assert_eq!((session.len(), session.room()), (38, 2));
    let mut other = model.session().unwrap();
    other.extend(&tokens(CONTEXT - 2)).unwrap();
    assert_eq!(
        session.extend(&[1, 2]).unwrap(),
        other.extend(&[1, 2]).unwrap()
    );
    assert_eq!(session.room(), 0);
}
