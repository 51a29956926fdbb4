//! Exports of the small checkpoints in `tests/golden`: what is in the folder, and what happens when it can't be written.
//! That the graphs compute the right thing is tested where there is a runtime: `tests/tests/decoder_families.rs` runs them in
//! ours, `tests/parity/check_export.py` in ONNX Runtime.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use furlong_fine_tune::export::{DATA_FILE, MODEL_FILE, Request, Weights, ZeroPoints, export};
use furlong_fine_tune::onnx::proto::{GraphProto, ModelProto, TensorProto};
use prost::Message;

fn request(name: &str, weights: Weights, out: PathBuf) -> Request {
    Request {
        base: Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/golden")
            .join(name),
        adapter: None,
        kept_adapters: Vec::new(),
        weights,
        four_bit_embedding: false,
        zero_points: ZeroPoints::Float,
        calibration: None,
        block: furlong_fine_tune::quantise::BLOCK,
        context: None,
        out,
        force: false,
    }
}

fn exported(name: &str, weights: Weights, home: &Path) -> PathBuf {
    let out = home.join(format!("{name}-{}", weights.name()));
    export(&request(name, weights, out.clone()), &|_| {
        ControlFlow::Continue(())
    })
    .unwrap();
    out
}

fn model(folder: &Path) -> ModelProto {
    ModelProto::decode(std::fs::read(folder.join(MODEL_FILE)).unwrap().as_slice()).unwrap()
}

fn graph(folder: &Path) -> GraphProto {
    model(folder).graph.unwrap()
}

fn operators(graph: &GraphProto) -> BTreeMap<&str, usize> {
    let mut count = BTreeMap::new();
    for node in &graph.node {
        *count.entry(node.op_type.as_str()).or_insert(0) += 1;
    }
    count
}

fn place(tensor: &TensorProto) -> Vec<(String, String)> {
    tensor
        .external_data
        .iter()
        .map(|entry| (entry.key.clone(), entry.value.clone()))
        .collect()
}

fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

#[test]
fn a_block_is_few_operators_and_every_linear_layer_is_one() {
    let home = tempfile::tempdir().unwrap();
    let f32 = graph(&exported("llama", Weights::F32, home.path()));
    let count = operators(&f32);
    // Two layers of seven linear layers, and the head.
    assert_eq!(count["MatMul"], 2 * 7 + 1);
    assert_eq!((count["Attention"], count["RotaryEmbedding"]), (2, 4));
    assert_eq!(count["RMSNormalization"], 2 * 2 + 1);

    let q4 = graph(&exported("llama", Weights::Q4, home.path()));
    let count = operators(&q4);
    assert_eq!(
        (count["MatMulNBits"], count["GatherBlockQuantized"]),
        (2 * 7 + 1, 1)
    );
    assert!(!count.contains_key("MatMul") && !count.contains_key("Gather"));
}

#[test]
fn a_tied_embedding_is_stored_once_and_an_untied_one_leaves_nothing_unused() {
    let home = tempfile::tempdir().unwrap();
    let tied = graph(&exported("llama", Weights::Q8, home.path()));
    let named = |name: &str| tied.initializer.iter().find(|t| t.name == name).unwrap();
    let (table, head) = (named("model.embed_tokens.weight"), named("lm_head.weight"));
    assert_eq!(place(table), place(head));
    assert!(!place(table).is_empty());

    for name in [
        "llama",
        "llama3-rope",
        "gpt2",
        "qwen3",
        "bert-mean",
        "bert-labels",
    ] {
        for weights in [Weights::F32, Weights::F16, Weights::Q8, Weights::Q4] {
            let graph = graph(&exported(name, weights, &home.path().join("all")));
            for tensor in &graph.initializer {
                let used = graph
                    .node
                    .iter()
                    .any(|node| node.input.contains(&tensor.name));
                assert!(
                    used,
                    "{name} as {}: {} is not used",
                    weights.name(),
                    tensor.name
                );
            }
        }
    }
}

#[test]
fn the_same_checkpoint_gives_the_same_bytes() {
    let home = tempfile::tempdir().unwrap();
    for name in ["qwen2", "bert-mean"] {
        let one = exported(name, Weights::Q4, &home.path().join("one"));
        let two = exported(name, Weights::Q4, &home.path().join("two"));
        assert!(bytes(&one) == bytes(&two), "{name} differs");
    }
}

#[test]
fn the_model_says_where_it_comes_from() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("with-adapter");
    let mut request = request("llama", Weights::Q8, out.clone());
    request.adapter = Some(request.base.with_file_name("llama-lora"));
    let report = export(&request, &|_| ControlFlow::Continue(())).unwrap();
    let metadata: BTreeMap<_, _> = model(&out)
        .metadata_props
        .into_iter()
        .map(|entry| (entry.key, entry.value))
        .collect();
    assert_eq!(metadata["furlong.kind"], "decoder");
    assert_eq!(metadata["furlong.weights"], "q8");
    assert_eq!(metadata["furlong.base_model"], "llama");
    assert_eq!(metadata["furlong.base_digest"], report.base_digest);
    assert!(metadata["furlong.adapter"].contains("llama-lora"));
    assert_eq!(
        metadata["furlong.parameters"],
        report.parameters.to_string()
    );
    let card = std::fs::read_to_string(out.join("model.jsonld")).unwrap();
    let card: serde_json::Value = serde_json::from_str(&card).unwrap();
    assert_eq!(
        card["fair4ml:fineTunedFrom"]["identifier"],
        report.base_digest
    );
    let recipe: serde_json::Value =
        serde_json::from_str(&metadata["furlong.quantisation"]).unwrap();
    assert_eq!(recipe["linear"]["bits"], 8);
    for file in &report.files {
        assert!(out.join(file).is_file(), "{file}");
    }
    assert_eq!(
        report.data_bytes,
        out.join(DATA_FILE).metadata().unwrap().len()
    );
}

#[test]
fn a_shorter_context_shortens_the_tables() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("short");
    let mut request = request("llama", Weights::F32, out.clone());
    request.context = Some(16);
    export(&request, &|_| ControlFlow::Continue(())).unwrap();
    let graph = graph(&out);
    let cos = graph
        .initializer
        .iter()
        .find(|tensor| tensor.name == "rotary.cos")
        .unwrap();
    assert_eq!(cos.dims, [16, 4]);
}

#[test]
fn what_fails_or_is_stopped_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("model");
    let request = request("gpt2", Weights::Q8, out.clone());
    export(&request, &|progress| {
        if progress.tensor == 9 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    })
    .unwrap_err();
    let missing = Request {
        base: home.path().join("nothing"),
        ..request
    };
    export(&missing, &|_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
