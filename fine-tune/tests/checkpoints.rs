//! Checkpoint folders as they are found in the wild, and folders that must be refused.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use furlong_fine_tune::architecture::Architecture;
use furlong_fine_tune::checkpoint::Checkpoint;
use furlong_fine_tune::error::Error;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use serde_json::{Value, json};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(name)
}

/// A copy of a golden checkpoint, to be changed.
fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden(name).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

type Tensors = HashMap<String, (Vec<usize>, Vec<f32>)>;

fn write(path: &Path, tensors: &Tensors) {
    let bytes: HashMap<&String, (&Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (
                name,
                (
                    shape,
                    values
                        .iter()
                        .flat_map(|value| value.to_le_bytes())
                        .collect(),
                ),
            )
        })
        .collect();
    let views = bytes.iter().map(|(name, (shape, data))| {
        (
            *name,
            TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap(),
        )
    });
    serialize_to_file(views, None, path).unwrap();
}

fn all_tensors(checkpoint: &Checkpoint) -> Tensors {
    let specs = checkpoint.architecture().tensors().into_iter();
    specs
        .map(|spec| {
            let tensor = checkpoint.tensor(&spec.name).unwrap();
            (spec.name, (tensor.shape, tensor.data))
        })
        .collect()
}

fn open(folder: &Path) -> Result<Checkpoint, Error> {
    Checkpoint::open(folder)
}

/// The golden Llama with its tensors in two shards, and an index that says `second` of the second.
fn sharded(second: &str) -> TempDir {
    let folder = copy("llama");
    let tensors = all_tensors(&open(folder.path()).unwrap());
    let (mut parts, mut map) = ([Tensors::new(), Tensors::new()], serde_json::Map::new());
    for (i, (name, tensor)) in tensors.into_iter().enumerate() {
        let shard = if i % 2 == 0 {
            "model-1.safetensors"
        } else {
            second
        };
        map.insert(name.clone(), json!(shard));
        parts[i % 2].insert(name, tensor);
    }
    for (part, name) in parts
        .iter()
        .zip(["model-1.safetensors", "model-2.safetensors"])
    {
        write(&folder.path().join(name), part);
    }
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let index = json!({ "weight_map": map }).to_string();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    folder
}

#[test]
fn shards_give_the_same_tensors_as_one_file() {
    let folder = sharded("model-2.safetensors");
    let whole = open(&golden("llama")).unwrap();
    assert_eq!(
        all_tensors(&open(folder.path()).unwrap()),
        all_tensors(&whole)
    );
}

#[test]
fn shards_stay_in_the_folder() {
    for name in [
        "../model-2.safetensors",
        "/etc/passwd",
        "",
        "absent.safetensors",
    ] {
        let folder = sharded(name);
        assert!(
            matches!(open(folder.path()), Err(Error::Malformed { .. })),
            "{name}"
        );
    }
}

#[cfg(unix)]
#[test]
fn links_lead_into_the_folder_or_into_the_cache_that_it_is_part_of() {
    use std::os::unix::fs::symlink;
    let folder = copy("llama");
    let weights = folder.path().join("model.safetensors");
    fs::remove_file(&weights).unwrap();
    symlink(golden("llama").join("model.safetensors"), &weights).unwrap();
    assert!(matches!(open(folder.path()), Err(Error::Malformed { .. })));

    let cache = tempfile::tempdir().unwrap();
    let repository = cache.path().join("models--someone--small-llama");
    let (snapshot, blobs) = (repository.join("snapshots/0123"), repository.join("blobs"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(golden("llama").join(file), blobs.join(file)).unwrap();
        symlink(Path::new("../../blobs").join(file), snapshot.join(file)).unwrap();
    }
    assert_eq!(open(&snapshot).unwrap().name(), "someone/small-llama");
}

#[test]
fn names_without_the_prefix_of_the_full_model_are_understood() {
    for (name, prefix) in [
        ("llama", "model."),
        ("gpt2", "transformer."),
        ("bert-mean", ""),
    ] {
        let folder = copy(name);
        let tensors = all_tensors(&open(folder.path()).unwrap());
        let renamed = tensors.iter().map(|(name, tensor)| {
            let name = match name.strip_prefix(prefix) {
                Some(name) if prefix.is_empty() => format!("bert.{name}"),
                Some(name) => name.to_owned(),
                None => name.clone(),
            };
            (name, tensor.clone())
        });
        write(&folder.path().join("model.safetensors"), &renamed.collect());
        assert_eq!(
            all_tensors(&open(folder.path()).unwrap()),
            tensors,
            "{name}"
        );
    }
}

#[test]
fn weights_that_are_not_the_configs_are_refused() {
    let folder = copy("llama");
    let path = folder.path().join("model.safetensors");
    let good = all_tensors(&open(folder.path()).unwrap());
    let norm = "model.norm.weight".to_owned();

    let mut tensors = good.clone();
    tensors.remove(&norm);
    write(&path, &tensors);
    assert!(matches!(open(folder.path()), Err(Error::MissingTensor { name, .. }) if name == norm));

    tensors.insert(norm.clone(), (vec![31], vec![1.0; 31]));
    write(&path, &tensors);
    assert!(matches!(open(folder.path()), Err(Error::Shape { name, .. }) if name == norm));

    let mut tensors = good;
    tensors.insert(
        "model.layers.0.self_attn.q_proj.bias".to_owned(),
        (vec![32], vec![0.0; 32]),
    );
    write(&path, &tensors);
    assert!(matches!(
        open(folder.path()),
        Err(Error::Unsupported { .. })
    ));
}

#[test]
fn licence_and_chat_template_are_found_where_repositories_keep_them() {
    let folder = copy("llama");
    let licence = |folder: &TempDir| open(folder.path()).unwrap().licence().map(str::to_owned);
    assert_eq!(licence(&folder), None);
    let apache = "                                 Apache License\n                           Version 2.0, January 2004\n";
    fs::write(folder.path().join("LICENSE"), apache).unwrap();
    assert_eq!(licence(&folder).as_deref(), Some("apache-2.0"));
    fs::write(
        folder.path().join("README.md"),
        "---\ntags:\n- x\nlicense: mit\n---\n# Model\n",
    )
    .unwrap();
    assert_eq!(licence(&folder).as_deref(), Some("mit"));

    fs::write(
        folder.path().join("tokenizer_config.json"),
        r#"{"eos_token":"</s>"}"#,
    )
    .unwrap();
    fs::write(folder.path().join("chat_template.jinja"), "{{ messages }}").unwrap();
    let checkpoint = open(folder.path()).unwrap();
    let config = checkpoint.sidecars().tokenizer_config.as_deref().unwrap();
    let config: Value = serde_json::from_str(config).unwrap();
    assert_eq!(
        config,
        json!({ "eos_token": "</s>", "chat_template": "{{ messages }}" })
    );
}

/// The golden config of `name` with one field changed (or, where the value is null, taken out).
fn with(name: &str, field: &str, value: Value) -> Result<Architecture, Error> {
    let path = golden(name).join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config[field] = value;
    Architecture::from_config(
        &path,
        &config,
        furlong_fine_tune::architecture::config::SentenceHead::NONE,
    )
}

#[test]
fn what_would_be_another_model_is_refused_by_its_field() {
    let cases = [
        ("llama", "model_type", json!("mixtral"), "model_type"),
        (
            "llama",
            "architectures",
            json!(["LlamaForSequenceClassification"]),
            "architectures",
        ),
        (
            "llama",
            "quantization_config",
            json!({ "quant_method": "gptq" }),
            "quantization_config",
        ),
        ("llama", "num_local_experts", json!(8), "num_local_experts"),
        ("llama", "hidden_act", json!("gelu"), "hidden_act"),
        (
            "llama",
            "rope_parameters",
            json!({ "rope_type": "longrope" }),
            "rope_parameters.rope_type",
        ),
        (
            "llama",
            "rope_parameters",
            json!({ "rope_type": "linear" }),
            "rope_parameters.factor",
        ),
        (
            "llama",
            "partial_rotary_factor",
            json!(0.4),
            "partial_rotary_factor",
        ),
        (
            "llama",
            "num_key_value_heads",
            json!(3),
            "num_key_value_heads",
        ),
        (
            "qwen2",
            "layer_types",
            json!(["full_attention", "sliding_attention"]),
            "layer_types",
        ),
        (
            "gpt2",
            "activation_function",
            json!("quick_gelu"),
            "activation_function",
        ),
        (
            "gpt2",
            "scale_attn_by_inverse_layer_idx",
            json!(true),
            "scale_attn_by_inverse_layer_idx",
        ),
        (
            "bert-mean",
            "position_embedding_type",
            json!("relative_key"),
            "position_embedding_type",
        ),
        ("bert-mean", "is_decoder", json!(true), "is_decoder"),
    ];
    for (name, field, value, wanted) in cases {
        match with(name, field, value) {
            Err(Error::Unsupported { field, .. }) => assert_eq!(field, wanted),
            other => panic!("{wanted}: {other:?}"),
        }
    }
    for (field, value) in [
        ("hidden_size", json!(0)),
        ("num_hidden_layers", json!(1u64 << 40)),
        ("vocab_size", json!(-1)),
        ("max_position_embeddings", json!(null)),
        ("rms_norm_eps", json!("small")),
    ] {
        assert!(
            matches!(with("llama", field, value), Err(Error::Malformed { .. })),
            "{field}"
        );
    }
}

#[test]
fn a_window_matters_only_where_it_is_on_and_shorter_than_the_context() {
    let window = |on: bool, width: usize| {
        let path = golden("qwen2").join("config.json");
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        config["layer_types"] = Value::Null;
        config["use_sliding_window"] = json!(on);
        config["sliding_window"] = json!(width);
        let head = furlong_fine_tune::architecture::config::SentenceHead::NONE;
        Architecture::from_config(&path, &config, head).is_ok()
    };
    assert!(window(false, 8));
    assert!(window(true, 64));
    assert!(!window(true, 8));
}
