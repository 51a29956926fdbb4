//! Every reader of outside input, on damaged input: it may refuse, it may not panic, hang or eat memory.
//!
//! `FURLONG_FUZZ_SECONDS` says for how long each is fuzzed; `cargo xtask fuzz` sets it.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::SystemTime;

use furlong::npz;
use furlong_core::plan::{Answer, Event, Plan, PlanError, PlanKind, Session, seal};
use furlong_fine_tune::checkpoint::Checkpoint;
use furlong_fine_tune::comparison::preferences;
use furlong_fine_tune::data::DataFile;
use furlong_fine_tune::evaluation::read_answers;
use furlong_fine_tune::export::{Request, Weights, ZeroPoints, export};
use furlong_fine_tune::hygiene;
use furlong_fine_tune::metrics::{self, Sample};
use furlong_runtime::text::{ChatTemplate, Message, Tokenizer};
use furlong_runtime::{Graph, GraphOptions, LoadOptions, Model, OnnxModel};
use furlong_tests::fuzz::Target;
use furlong_tests::memory::PeakAllocator;

#[global_allocator]
static MEMORY: PeakAllocator = PeakAllocator::new();

/// Memory is measured for the whole process, so one target runs at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn fuzz(name: &str, read: fn(&[u8])) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    Target {
        name,
        memory: &MEMORY,
        read,
    }
    .run();
}

/// A folder with `contents` as the file `name` in it, for readers that start from a path.
fn in_folder(name: &str, contents: &[u8], read: impl FnOnce(&Path)) {
    let folder = tempfile::tempdir().expect("temporary folder");
    std::fs::write(folder.path().join(name), contents).expect("input written");
    read(folder.path());
}

fn read_all_tensors(path: &Path) {
    let Ok(checkpoint) = Checkpoint::open(path) else {
        return;
    };
    for spec in checkpoint.architecture().tensors() {
        // Refusing a damaged tensor is as good as reading it.
        let _ = checkpoint.tensor(&spec.name);
    }
}

#[test]
fn onnx() {
    fuzz("onnx", |bytes| {
        if let Ok(model) = OnnxModel::from_bytes(bytes) {
            let _ = Graph::from_model(model, &GraphOptions::default());
        }
    });
}

#[test]
fn external_data() {
    fuzz("external_data", |bytes| {
        in_folder("model.onnx", bytes, |folder| {
            std::fs::write(folder.join("model.onnx.data"), [0u8; 4096]).expect("data written");
            let _ = Graph::load(folder, &GraphOptions::default());
        });
    });
}

#[test]
fn safetensors() {
    fuzz("safetensors", |bytes| {
        in_folder("model.safetensors", bytes, |folder| {
            let config = include_bytes!("../golden/llama/config.json");
            std::fs::write(folder.join("config.json"), config).expect("config written");
            read_all_tensors(folder);
        });
    });
}

/// The model that adapters are loaded beside: an adapter that fits must run, too.
static ADAPTED: LazyLock<Model> = LazyLock::new(|| {
    let home = tempfile::tempdir().expect("temporary folder");
    let request = Request {
        base: Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/llama"),
        adapter: None,
        kept_adapters: Vec::new(),
        weights: Weights::Q8,
        four_bit_embedding: false,
        zero_points: ZeroPoints::Float,
        calibration: None,
        block: furlong_fine_tune::quantise::BLOCK,
        context: None,
        out: home.path().join("model"),
        force: false,
    };
    export(&request, &|_| ControlFlow::Continue(())).expect("a model");
    Model::load(&request.out, &LoadOptions::default()).expect("a model")
});

fn run_adapter(folder: &Path) {
    let Ok(adapter) = ADAPTED.load_adapter(folder) else {
        return;
    };
    let mut session = ADAPTED.session().expect("a decoder");
    session
        .set_adapter(Some(&adapter))
        .expect("an empty session");
    session.extend(&[3, 4, 5]).expect("logits");
}

#[test]
fn adapter() {
    LazyLock::force(&ADAPTED);
    fuzz("adapter", |bytes| {
        in_folder("adapter_model.safetensors", bytes, |folder| {
            let config = include_bytes!("../golden/llama-lora/adapter_config.json");
            std::fs::write(folder.join("adapter_config.json"), config).expect("config written");
            run_adapter(folder);
        });
    });
}

#[test]
fn adapter_config() {
    LazyLock::force(&ADAPTED);
    fuzz("adapter_config", |bytes| {
        in_folder("adapter_config.json", bytes, |folder| {
            let weights = include_bytes!("../golden/llama-lora/adapter_model.safetensors");
            let path = folder.join("adapter_model.safetensors");
            std::fs::write(path, weights).expect("weights written");
            run_adapter(folder);
        });
    });
}

#[test]
fn gguf() {
    fuzz("gguf", |bytes| {
        in_folder("model.gguf", bytes, |folder| {
            read_all_tensors(&folder.join("model.gguf"))
        });
    });
}

#[test]
fn tokenizer() {
    fuzz("tokenizer", |bytes| {
        if let Ok(tokenizer) = Tokenizer::from_bytes(Path::new("tokenizer.json"), bytes) {
            let _ = tokenizer.encode("Hello, wörld: 42 東京\n", true);
            let _ = tokenizer.decode(&[0, 1, 2, u32::MAX], false);
        }
    });
}

#[test]
fn template() {
    fuzz("template", |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        if let Ok(template) =
            ChatTemplate::new(Path::new("tokenizer_config.json"), text, Vec::new())
        {
            let messages = [
                Message::new("system", "Be brief."),
                Message::new("user", "Hello"),
            ];
            let _ = template.render(&messages, true, SystemTime::UNIX_EPOCH);
        }
    });
}

#[test]
fn npz() {
    fuzz("npz", |bytes| {
        let _ = npz::read_from(
            Cursor::new(bytes),
            Path::new("in.npz"),
            npz::Limits {
                arrays: 64,
                bytes: 16 << 20,
            },
        );
    });
}

#[test]
fn data() {
    fuzz("data", |bytes| {
        in_folder("data.jsonl", bytes, |folder| {
            let path = folder.join("data.jsonl");
            let _ = DataFile::read_requests(&path);
            let _ = read_answers(&path);
            let _ = preferences::read(&path, None);
            let Ok(data) = DataFile::read(&path) else {
                return;
            };
            let _ = hygiene::check(&data, Some(&data), None, None, 1);
            let texts: Vec<[String; 1]> =
                data.examples.iter().map(|e| [e.content.whole()]).collect();
            let pairs = texts.iter().zip(texts.iter().rev());
            let samples: Vec<Sample<'_>> = pairs
                .map(|(references, [answer])| Sample {
                    answer,
                    references,
                    loss: None,
                })
                .collect();
            for metric in metrics::all() {
                let _ = metric.score(&metric.measure(&samples).sum());
            }
        });
    });
}

/// Bytes of arena that a plan gets, whatever it asks for.
const ARENA_BYTES: usize = 1 << 20;

/// Answers a prompt with what passes the check.
fn answer(image: &[u8]) -> Result<(), PlanError> {
    let plan = Plan::check(image)?;
    let mut arena = vec![0; plan.arena_bytes().min(ARENA_BYTES)];
    let mut session = Session::new(plan, &mut arena)?;
    match plan.header().kind {
        PlanKind::Decoder => {}
        PlanKind::Encoder => {
            // A sentence, or what the tokenizer makes of one.
            session.feed(&[1, 2, 3])?;
            session.finish()?;
            return session.encode("Off!").map(|_| ());
        }
        PlanKind::Features => {
            session.features_mut()?.fill(0.5);
            return session.finish().map(|_| ());
        }
    }
    let mut answer = match Answer::to_text(&mut session, "Off!", 3, None) {
        Ok(answer) => answer,
        Err(_) => Answer::to_tokens(&mut session, &[1, 2, 3], 3, None)?,
    };
    while !matches!(answer.step(&mut session)?, Event::Finished(_)) {}
    Ok(())
}

#[test]
fn plan() {
    fuzz("plan", |bytes| {
        let _ = answer(bytes);
        // A wrong checksum would hide all else.
        let mut forged = bytes.to_vec();
        if seal(&mut forged).is_ok() {
            let _ = answer(&forged);
        }
    });
}
