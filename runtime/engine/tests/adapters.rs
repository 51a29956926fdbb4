//! Adapters beside a loaded model: several at once, each session with its own, and back to none as if nothing had been.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use furlong_core::Isa;
use furlong_runtime::{Adapter, Error, LoadOptions, Model, OnnxModel, Session};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

#[path = "../src/decoder_tests/builder.rs"]
#[allow(dead_code, reason = "each test needs a part of it")]
mod builder;
use builder::{Builder, Stored, VOCAB};

/// Outputs and inputs of the test model's layers.
const HIDDEN: usize = 64;
const INNER: usize = 96;
const KEYS: usize = 32;

/// A PEFT folder, removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

type Matrix = (String, [usize; 2], Vec<f32>);

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count)
        .map(|i| ((i * 7919 + seed * 104_729) % 1013) as f32 / 1013.0 - 0.5)
        .collect()
}

/// A and B of a layer.
fn pair(module: &str, out: usize, input: usize, rank: usize, seed: usize) -> [Matrix; 2] {
    let name = |part: &str| format!("base_model.model.{module}.lora_{part}.weight");
    [
        (name("A"), [rank, input], numbers(rank * input, seed)),
        (name("B"), [out, rank], numbers(out * rank, seed + 1)),
    ]
}

fn write(name: &str, settings: &str, matrices: &[Matrix]) -> Folder {
    let path = std::env::temp_dir().join(format!("furlong-{name}-{}", std::process::id()));
    let folder = Folder(path);
    fs::create_dir_all(&folder.0).unwrap();
    let config = format!(r#"{{"peft_type":"LORA","r":4,"lora_alpha":2{settings}}}"#);
    fs::write(folder.0.join("adapter_config.json"), config).unwrap();
    let bytes =
        |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let stored: Vec<_> = matrices
        .iter()
        .map(|(name, shape, values)| (name.clone(), shape.to_vec(), bytes(values)))
        .collect();
    let views = stored.iter().map(|(name, shape, bytes)| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    serialize_to_file(views, None, &folder.0.join("adapter_model.safetensors")).unwrap();
    folder
}

/// Changes layers of every kind: parts of the joined queries, keys and values, single ones, gated ones, the head.
fn everywhere(name: &str, seed: usize) -> Folder {
    let all = [
        pair("0.query.out", HIDDEN, HIDDEN, 4, seed),
        pair("0.value.out", KEYS, HIDDEN, 4, seed + 2),
        pair("0.output.out", HIDDEN, HIDDEN, 4, seed + 4),
        pair("1.key.out", KEYS, HIDDEN, 4, seed + 6),
        pair("1.up.out", INNER, HIDDEN, 4, seed + 8),
        pair("1.gate.out", INNER, HIDDEN, 4, seed + 10),
        pair("1.down.out", HIDDEN, INNER, 4, seed + 12),
        pair("lm_head", VOCAB, HIDDEN, 4, seed + 14),
    ];
    write(name, "", &all.concat())
}

fn load(stored: Stored, threads: usize, isa: Isa) -> Model {
    let options = LoadOptions {
        threads: NonZeroUsize::new(threads),
        isa: Some(isa),
        ..LoadOptions::default()
    };
    let onnx = OnnxModel::from_bytes(&Builder::decoder(stored)).unwrap();
    Model::from_onnx(onnx, &options).unwrap()
}

fn session(model: &Model, adapter: Option<&Adapter>) -> Session {
    let mut session = model.session().unwrap();
    session.set_adapter(adapter).unwrap();
    session
}

fn tokens(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * i * 7 + 3) % VOCAB as u32).collect()
}

fn all_logits(session: &mut Session, tokens: &[u32], chunk: usize) -> Vec<f32> {
    let mut all = Vec::new();
    for chunk in tokens.chunks(chunk) {
        session
            .extend_all(chunk, |_, logits| all.extend_from_slice(logits))
            .unwrap();
    }
    all
}

#[test]
fn sessions_with_different_adapters_do_not_disturb_each_other() {
    let (one, two) = (everywhere("one", 1), everywhere("two", 100));
    let model = load(Stored::Bits(4), 2, Isa::detect());
    let adapters = [&one, &two].map(|folder| model.load_adapter(&folder.0).unwrap());
    let choices = [None, Some(&adapters[0]), Some(&adapters[1])];
    let alone = choices.map(|choice| all_logits(&mut session(&model, choice), &tokens(20), 20));
    assert!(alone[0] != alone[1] && alone[1] != alone[2] && alone[0] != alone[2]);
    let mut sessions = choices.map(|choice| session(&model, choice));
    let mut found: [Vec<f32>; 3] = Default::default();
    for token in tokens(20) {
        for (session, found) in sessions.iter_mut().zip(&mut found) {
            found.extend_from_slice(session.extend(&[token]).unwrap());
        }
    }
    assert!(found == alone);
    // Back to none, and to the other one, in the very sessions that had an adapter.
    sessions.rotate_left(1);
    for (index, session) in sessions.iter_mut().enumerate() {
        session.reset();
        session.set_adapter(choices[index]).unwrap();
        assert!(all_logits(session, &tokens(20), 7) == alone[index]);
        let mut fork = session.fork();
        assert_eq!(fork.extend(&[5]).unwrap(), session.extend(&[5]).unwrap());
    }
}

#[test]
fn every_instruction_set_and_any_threads_give_the_same_bits() {
    let folder = everywhere("isa", 5);
    for stored in [Stored::F32, Stored::Bits(4), Stored::Bits(8)] {
        let run = |threads, isa, chunk| {
            let model = load(stored, threads, isa);
            let adapter = model.load_adapter(&folder.0).unwrap();
            all_logits(&mut session(&model, Some(&adapter)), &tokens(20), chunk)
        };
        let scalar = run(1, Isa::SCALAR, 20);
        for isa in Isa::available() {
            for (threads, chunk) in [(1, 20), (3, 20), (2, 7), (1, 1)] {
                assert!(
                    run(threads, isa, chunk) == scalar,
                    "{} {threads} {chunk}",
                    isa.name()
                );
            }
        }
    }
}

#[test]
fn an_adapter_changes_only_in_an_empty_session_of_its_own_model() {
    let folder = everywhere("usage", 7);
    let model = load(Stored::Bits(8), 1, Isa::detect());
    let adapter = model.load_adapter(&folder.0).unwrap();
    assert_eq!(adapter.modules(), 8);
    let mut session = session(&model, Some(&adapter));
    session.extend(&[1, 2, 3]).unwrap();
    // The same again is no change.
    session.set_adapter(Some(&adapter.clone())).unwrap();
    assert!(matches!(session.set_adapter(None), Err(Error::Usage(_))));
    assert!(session.adapter().is_some());
    session.reset();
    session.set_adapter(None).unwrap();
    let other = load(Stored::Bits(8), 1, Isa::detect());
    let mut foreign = other.session().unwrap();
    assert!(matches!(
        foreign.set_adapter(Some(&adapter)),
        Err(Error::Usage(_))
    ));
    // The adapter outlives its model, and doesn't fit the next one at its address.
    drop((session, model));
    assert!(matches!(
        foreign.set_adapter(Some(&adapter)),
        Err(Error::Usage(_))
    ));
}

#[test]
fn what_does_not_fit_is_refused_with_module_and_shapes() {
    let model = load(Stored::Bits(4), 1, Isa::detect());
    let good = || pair("0.query.out", HIDDEN, HIDDEN, 4, 1).to_vec();
    let refused = |name: &str, settings: &str, matrices: &[Matrix]| -> (Error, String) {
        let folder = write(name, settings, matrices);
        let error = model.load_adapter(&folder.0).expect_err(name);
        let text = error.to_string();
        (error, text)
    };
    assert!(model.load_adapter(&write("good", "", &good()).0).is_ok());
    for (name, matrices, words) in [
        (
            "cols",
            pair("0.query.out", HIDDEN, 63, 4, 1).to_vec(),
            ["0.query.out", "[4, 63]", "[4, 64]"],
        ),
        (
            "rows",
            pair("1.up.out", 95, HIDDEN, 4, 1).to_vec(),
            ["1.up.out", "[95, 4]", "[96, 4]"],
        ),
        (
            "rank",
            pair("1.up.out", INNER, HIDDEN, 3, 1).to_vec(),
            ["1.up.out", "[3, 64]", "[4, 64]"],
        ),
        (
            "module",
            pair("9.up.out", INNER, HIDDEN, 4, 1).to_vec(),
            ["9.up.out", "no linear layer", "0.query.out"],
        ),
        (
            "half",
            good()[..1].to_vec(),
            ["0.query.out", "B", "missing"],
        ),
        (
            "none",
            vec![],
            ["adapter_model.safetensors", "tensors", "none"],
        ),
        (
            "alien",
            vec![("model.norm.weight".to_owned(), [1, 4], numbers(4, 1))],
            ["model.norm.weight", "merge", "--adapter"],
        ),
        (
            "nan",
            pair("0.query.out", HIDDEN, HIDDEN, 4, 1)
                .map(|(n, s, v)| (n, s, v.iter().map(|_| f32::NAN).collect()))
                .to_vec(),
            ["0.query.out", "A", "finite"],
        ),
    ] {
        let (error, text) = refused(name, "", &matrices);
        assert!(matches!(error, Error::Invalid { .. }), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
    for (name, settings) in [
        ("dora", r#","use_dora":true"#),
        ("bias", r#","bias":"all""#),
        ("saved", r#","modules_to_save":["lm_head"]"#),
        ("start", r#","init_lora_weights":"pissa_niter_4""#),
        ("pattern", r#","rank_pattern":{".*":4}"#),
    ] {
        let (error, text) = refused(name, settings, &good());
        assert!(matches!(error, Error::Unsupported { .. }), "{text}");
        assert!(text.contains("fine-tune export --adapter"), "{text}");
    }
    let (error, _) = refused("alpha", r#","lora_alpha":-1"#, &good());
    assert!(matches!(error, Error::Invalid { .. }));
    assert!(matches!(
        model.load_adapter(Path::new("no/such/folder")),
        Err(Error::Io { .. })
    ));
}
