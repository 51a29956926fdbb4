//! One training step against torch, transformers and peft, and what a step must not depend on.
//!
//! `tests/golden/training` holds their losses and gradients; see `make_training.py` there.
#![cfg(feature = "train")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData, activation};
use furlong_fine_tune::architecture::config::SentenceHead;
use furlong_fine_tune::architecture::{Activation, Architecture};
use furlong_fine_tune::checkpoint::{Adapter, Checkpoint};
use furlong_fine_tune::export::{Request, Weights, ZeroPoints, export};
use furlong_fine_tune::train::adapter::AdapterSettings;
use furlong_fine_tune::train::layers::Mlp;
use furlong_fine_tune::train::model::{Batch, Gradients, Loss, Model, ModelOptions, Precision};
use furlong_runtime::LoadOptions;
use safetensors::SafeTensors;

/// How far a loss or gradient may be from the reference, relative to its length.
const TOLERANCE: f64 = 1e-5;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/golden")
        .join(name)
}

/// The tensors of a safetensors file, as f64.
fn tensors(path: &Path) -> BTreeMap<String, Vec<f64>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let values = match view.dtype() {
                safetensors::Dtype::I64 => view
                    .data()
                    .as_chunks::<8>()
                    .0
                    .iter()
                    .map(|&b| i64::from_le_bytes(b) as f64)
                    .collect(),
                _ => view
                    .data()
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&b| f64::from(f32::from_le_bytes(b)))
                    .collect(),
            };
            (name, values)
        })
        .collect()
}

/// The reference's examples.
fn examples() -> Vec<(Vec<u32>, Vec<f32>)> {
    let stored = tensors(&golden("training/batch.safetensors"));
    (0..)
        .map_while(|i| {
            let ids = stored.get(&format!("ids.{i}"))?;
            let weights = &stored[&format!("weights.{i}")];
            Some((
                ids.iter().map(|&id| id as u32).collect(),
                weights.iter().map(|&w| w as f32).collect(),
            ))
        })
        .collect()
}

/// Examples in rows of `tokens`: each element of `rows` lists those of one row.
fn packed(rows: &[&[usize]], tokens: usize) -> Batch {
    let examples = examples();
    let rows: Vec<Vec<_>> = rows
        .iter()
        .map(|list| list.iter().map(|&i| examples[i].clone()).collect())
        .collect();
    let ids: Vec<Vec<Vec<u32>>> = rows
        .iter()
        .map(|row| row.iter().map(|(ids, _)| ids.clone()).collect())
        .collect();
    let ids: Vec<&[Vec<u32>]> = ids.iter().map(Vec::as_slice).collect();
    laid_out(&ids, tokens, |(row, example), i| rows[row][example].1[i])
}

/// Sequences in rows of `tokens`, with the weight that `weight` gives place `i` of sequence `(row, n)`.
fn laid_out(
    rows: &[&[Vec<u32>]],
    tokens: usize,
    weight: impl Fn((usize, usize), usize) -> f32,
) -> Batch {
    let cells = rows.len() * tokens;
    let mut batch = Batch {
        rows: rows.len(),
        tokens,
        ids: vec![0; cells],
        positions: vec![0; cells],
        segments: vec![0; cells],
        targets: vec![u32::MAX; cells],
        weights: vec![0.0; cells],
    };
    for (row, list) in rows.iter().enumerate() {
        let mut cell = row * tokens;
        for (example, ids) in list.iter().enumerate() {
            for (i, &id) in ids.iter().enumerate() {
                batch.ids[cell] = id;
                batch.positions[cell] = i as u32;
                batch.segments[cell] = example as u32 + 1;
                batch.weights[cell] = weight((row, example), i);
                if let Some(&next) = ids.get(i + 1) {
                    batch.targets[cell] = next;
                }
                cell += 1;
            }
        }
    }
    batch
}

fn whole_batch() -> Batch {
    packed(&[&[0, 1], &[2]], 17)
}

fn model(base: &str, adapter: Option<&str>, mut options: ModelOptions, device: &Device) -> Model {
    let checkpoint = Checkpoint::open(&golden(base)).unwrap();
    let adapter =
        adapter.map(|folder| Adapter::open(&golden(folder), checkpoint.architecture()).unwrap());
    options.adapter = adapter
        .as_ref()
        .map(|adapter| AdapterSettings::of(adapter).unwrap());
    let mut model = Model::from_checkpoint(&checkpoint, &options, 1, device).unwrap();
    if let Some(adapter) = &adapter {
        model.load_adapter(adapter).unwrap();
    }
    model
}

/// Loss and gradients by name, after the check that exactly the trained parameters have one.
fn step(model: &Model, batches: &[Batch], seed: Option<u64>) -> (Loss, BTreeMap<String, Vec<f64>>) {
    let mut gradients = Gradients::new();
    let mut loss = Loss::default();
    for batch in batches {
        loss += model.backward(batch, seed, &mut gradients).unwrap();
    }
    (loss, by_name(model, &gradients))
}

fn by_name(model: &Model, gradients: &Gradients) -> BTreeMap<String, Vec<f64>> {
    gradients.check(model.parameters()).unwrap();
    gradients
        .iter()
        .map(|(id, gradient)| {
            let name = model.parameters()[id].name().to_owned();
            (name, gradient.to_data().iter::<f64>().collect())
        })
        .collect()
}

/// How far two gradients are apart, relative to the expected one's length, or to `least` if that is longer.
fn distance(found: &[f64], expected: &[f64], least: f64) -> f64 {
    assert_eq!(found.len(), expected.len());
    let apart: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
    length(&apart) / length(expected).max(least)
}

fn length(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn check(name: &str, found: &(Loss, BTreeMap<String, Vec<f64>>), tolerance: f64) {
    let mut expected = tensors(&golden("training").join(name).join("expected.safetensors"));
    let loss = expected.remove("loss").unwrap();
    let mut worst = (distance(&[found.0.sum], &loss, 0.0), "loss");
    // Some gradients are zero but for rounding, as those of biases that softmax doesn't see.
    let least = expected.values().map(|x| length(x)).fold(0.0, f64::max) * 1e-2;
    assert_eq!(
        found.1.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{name}"
    );
    for (key, expected) in &expected {
        let apart = distance(&found.1[key], expected, least);
        if apart > worst.0 {
            worst = (apart, key);
        }
    }
    println!("{name}: {:.1e} at {}", worst.0, worst.1);
    assert!(worst.0 <= tolerance, "{name}: {} at {}", worst.0, worst.1);
}

#[test]
fn full_training_has_the_reference_gradients() {
    for base in ["llama", "qwen3", "gpt2", "sinusoidal"] {
        let model = model(base, None, ModelOptions::default(), &Device::flex());
        let found = step(&model, &[whole_batch()], None);
        check(&format!("full-{base}"), &found, TOLERANCE);
    }
}

#[test]
fn pairs_of_sentences_have_the_reference_gradients() {
    let stored = tensors(&golden("training/batch.safetensors"));
    let side = |name: &str| {
        let ids = (0..).map_while(|i| stored.get(&format!("{name}.{i}")));
        let ids: Vec<Vec<u32>> = ids
            .map(|ids| ids.iter().map(|&id| id as u32).collect())
            .collect();
        laid_out(&[&ids[..2], &ids[2..]], 17, |_, _| 0.0)
    };
    for base in ["bert-mean", "bert-cls"] {
        let model = model(base, None, ModelOptions::default(), &Device::flex());
        let mut gradients = Gradients::new();
        let (left, right) = (side("left"), side("right"));
        let loss = model
            .backward_pairs(&left, &right, 20.0, None, &mut gradients)
            .unwrap();
        assert_eq!(model.loss_pairs(&left, &right, 20.0).unwrap(), loss);
        let found = (loss, by_name(&model, &gradients));
        check(&format!("pairs-{base}"), &found, TOLERANCE);
    }
}

#[test]
fn classes_have_the_reference_gradients() {
    let stored = tensors(&golden("training/batch.safetensors"));
    let ids: Vec<Vec<u32>> = (0..)
        .map_while(|i| stored.get(&format!("left.{i}")))
        .map(|ids| ids.iter().map(|&id| id as u32).collect())
        .collect();
    let mut batch = laid_out(&[&ids[..2], &ids[2..]], 17, |_, place| {
        if place == 0 { 1.0 } else { 0.0 }
    });
    let targets = batch.targets.iter_mut().zip(&batch.weights);
    for (class, (target, _)) in (0..).zip(targets.filter(|(_, weight)| **weight > 0.0)) {
        *target = class;
    }
    let options = ModelOptions::default();
    let model = model("bert-labels", None, options, &Device::flex());
    let found = step(&model, &[batch.clone()], None);
    check("classes-bert", &found, TOLERANCE);
    assert_eq!(model.loss(&batch).unwrap(), found.0);
}

const ADAPTERS: [(&str, &str); 4] = [
    ("llama", "lora-llama"),
    ("llama", "dora-llama"),
    ("qwen2", "lora-qwen2"),
    ("gpt2", "dora-gpt2"),
];

#[test]
fn adapters_have_the_reference_gradients() {
    for (base, name) in ADAPTERS {
        let folder = format!("training/{name}");
        let model = model(
            base,
            Some(&folder),
            ModelOptions::default(),
            &Device::flex(),
        );
        check(name, &step(&model, &[whole_batch()], None), TOLERANCE);
    }
}

/// In bf16 gradients are near the reference's, as near as 8 bits of mantissa let them be: these random weights are large, and errors
/// of 4 in 1000 grow on their way back.
#[test]
fn gradients_in_bf16_are_near_the_reference() {
    for (base, adapter, name) in [
        ("llama", None, "full-llama"),
        ("gpt2", None, "full-gpt2"),
        ("llama", Some("training/lora-llama"), "lora-llama"),
        ("llama", Some("training/dora-llama"), "dora-llama"),
    ] {
        let options = ModelOptions {
            precision: Precision::Bf16,
            ..ModelOptions::default()
        };
        let model = model(base, adapter, options, &Device::flex());
        let found = step(&model, &[whole_batch()], None);
        let loss = tensors(&golden("training").join(name).join("expected.safetensors"))["loss"][0];
        let apart = (found.0.sum / loss - 1.0).abs();
        assert!(apart > 1e-6 && apart < 1e-2, "{name}: loss {apart}");
        check(name, &found, 0.12);
    }
}

#[test]
fn a_step_does_not_depend_on_how_its_batch_is_cut_or_computed() {
    let options = |recompute| ModelOptions {
        recompute,
        residual_dropout: 0.1,
        attention_dropout: 0.1,
        ..ModelOptions::default()
    };
    let plain = model("llama", None, options(false), &Device::flex());
    // Without dropout: rows packed otherwise, and in two parts.
    let parts = [packed(&[&[2, 0]], 23), packed(&[&[1]], 6)];
    check("full-llama", &step(&plain, &parts, None), TOLERANCE);
    // With it: the same masks when blocks are computed twice, others with another seed.
    let recomputed = model("llama", None, options(true), &Device::flex());
    let batch = [whole_batch()];
    let expected = step(&plain, &batch, Some(7));
    assert_eq!(step(&recomputed, &batch, Some(7)), expected);
    assert_ne!(step(&plain, &batch, Some(8)).0, expected.0);
}

/// With all layers adapted and with the upper one alone: what both train has the same gradients, if what only one of them trains
/// changes nothing.
#[test]
fn an_adapter_of_upper_layers_has_the_gradients_of_the_whole() {
    let options = |layers: Option<Vec<usize>>| ModelOptions {
        adapter: Some(AdapterSettings {
            r: 4,
            layers_to_transform: layers,
            ..AdapterSettings::default()
        }),
        ..ModelOptions::default()
    };
    let checkpoint = Checkpoint::open(&golden("llama")).unwrap();
    let build = |layers| {
        let options = options(layers);
        Model::from_checkpoint(&checkpoint, &options, 1, &Device::flex())
    };
    let (mut whole, mut upper) = (build(None).unwrap(), build(Some(vec![1])).unwrap());
    let trained: Vec<_> = upper
        .parameters()
        .trainable()
        .map(|(id, parameter)| (id, parameter.name().to_owned()))
        .collect();
    assert!(trained.len() == 14 && trained.iter().all(|(_, name)| name.contains(".layers.1.")));
    for (seed, (id, name)) in trained.iter().enumerate() {
        let count = upper.parameters()[*id].shape().iter().product();
        let values: Vec<f32> = (0..count)
            .map(|i| ((i * 31 + seed * 7) % 19) as f32 / 190.0 - 0.05)
            .collect();
        let other = whole.parameters().find(name).unwrap();
        whole.parameters_mut().set(other, values.clone()).unwrap();
        upper.parameters_mut().set(*id, values).unwrap();
    }
    let batch = [whole_batch()];
    let (expected, found) = (step(&whole, &batch, None), step(&upper, &batch, None));
    assert_eq!(found.0, expected.0);
    for (name, gradient) in &found.1 {
        assert_eq!(gradient, &expected.1[name], "{name}");
    }
    let beyond = build(Some(vec![1, 2])).unwrap_err();
    assert!(matches!(
        beyond,
        furlong_fine_tune::error::Error::Training { .. }
    ));
}

/// The frozen weights under an adapter are those of the export: the exported model's logits in the runtime are nearer to them
/// than to those of the unrounded weights, for each kind of rounding.
#[test]
fn base_weights_are_those_of_the_export() {
    let config = serde_json::json!({
        "model_type": "llama", "vocab_size": 96, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": true,
    });
    let device = Device::flex();
    let path = Path::new("config.json");
    let architecture = Architecture::from_config(path, &config, SentenceHead::NONE).unwrap();
    let plain = ModelOptions {
        initial_deviation: 0.2,
        ..ModelOptions::default()
    };
    let random = Model::random(&architecture, &plain, 5, &device).unwrap();
    let home = tempfile::tempdir().unwrap();
    let base = home.path().join("base");
    std::fs::create_dir(&base).unwrap();
    let mut sidecars = Checkpoint::open(&golden("llama"))
        .unwrap()
        .sidecars()
        .clone();
    sidecars.config = config.to_string();
    random.write_checkpoint(&base, &sidecars).unwrap();
    let checkpoint = Checkpoint::open(&base).unwrap();
    let tokens: Vec<u32> = (0..40).map(|i| i * 37 % 96).collect();
    let batch = Batch::of_sequences(std::slice::from_ref(&tokens)).unwrap();
    let logits = |model: &Model| -> Vec<f64> {
        let logits = model.logits(&batch).unwrap();
        logits.to_data().iter::<f64>().collect()
    };
    let unrounded = logits(&random);
    for (weights, block) in [(Weights::Q4, 32), (Weights::Q8, 32)] {
        let out = home.path().join(format!("{}-{block}", weights.name()));
        let request = Request {
            base: base.clone(),
            adapter: None,
            kept_adapters: Vec::new(),
            weights,
            four_bit_embedding: false,
            zero_points: ZeroPoints::Float,
            calibration: None,
            block,
            context: None,
            out: out.clone(),
            force: false,
        };
        export(&request, &|_| std::ops::ControlFlow::Continue(())).unwrap();
        let exported = furlong_runtime::Model::load(&out, &LoadOptions::default()).unwrap();
        let mut found = Vec::new();
        let mut session = exported.session().unwrap();
        session
            .extend_all(&tokens, |_, row| {
                found.extend(row.iter().map(|&x| f64::from(x)));
            })
            .unwrap();
        let options = ModelOptions {
            adapter: Some(AdapterSettings::default()),
            base_weights: weights,
            block,
            ..ModelOptions::default()
        };
        let model = Model::from_checkpoint(&checkpoint, &options, 1, &device).unwrap();
        let (rounded, plain) = (
            distance(&found, &logits(&model), 0.0),
            distance(&found, &unrounded, 0.0),
        );
        eprintln!(
            "{} in blocks of {block}: {rounded} from its own, {plain} from f32",
            weights.name()
        );
        assert!(
            rounded < 0.1 && (weights == Weights::Q8 || plain > 4.0 * rounded),
            "{rounded} {plain}"
        );
    }
}

#[test]
fn a_written_adapter_is_the_one_that_was_read() {
    for (base, name) in ADAPTERS {
        let folder = golden("training").join(name);
        let model = model(
            base,
            Some(&format!("training/{name}")),
            ModelOptions::default(),
            &Device::flex(),
        );
        let out = tempfile::tempdir().unwrap();
        model.write_adapter(out.path(), base).unwrap();
        let weights = "adapter_model.safetensors";
        assert_eq!(
            tensors(&out.path().join(weights)),
            tensors(&folder.join(weights))
        );
        let again = Adapter::open(out.path(), model.architecture()).unwrap();
        assert_eq!(
            Some(AdapterSettings::of(&again).unwrap()),
            model.options().adapter
        );
    }
}

#[test]
fn a_written_model_is_the_one_that_was_trained() {
    let options = ModelOptions::default();
    let device = Device::flex();
    for base in ["qwen3", "bert-mean"] {
        let checkpoint = Checkpoint::open(&golden(base)).unwrap();
        let random = Model::random(checkpoint.architecture(), &options, 3, &device).unwrap();
        let out = tempfile::tempdir().unwrap();
        random
            .write_checkpoint(out.path(), checkpoint.sidecars())
            .unwrap();
        let written = Checkpoint::open(out.path()).unwrap();
        let read = Model::from_checkpoint(&written, &options, 9, &device).unwrap();
        assert_eq!(read.architecture(), random.architecture());
        for ((_, a), (_, b)) in read.parameters().iter().zip(random.parameters().iter()) {
            assert_eq!((a.name(), a.to_vec()), (b.name(), b.to_vec()));
        }
    }
}

/// The reference checkpoints don't have every activation: both ways through the layer, gated and not, against burn's automatic
/// differentiation.
#[test]
fn activations_have_the_gradients_of_automatic_differentiation() {
    let values = |seed: usize| {
        let list: Vec<f32> = (0..60)
            .map(|i| ((i * 53 + seed * 31) % 97) as f32 / 16.0 - 3.0)
            .collect();
        TensorData::new(list, [4, 15])
    };
    let (plain, taped) = (Device::flex(), Device::flex().autodiff());
    let reference = |kind: Activation, x: Tensor<2>| match kind {
        Activation::Silu => activation::silu(x),
        Activation::GeluTanh => activation::gelu_approximate(x),
        Activation::GeluErf => activation::gelu(x),
        Activation::Relu => activation::relu(x),
    };
    let kinds = [
        Activation::Silu,
        Activation::GeluTanh,
        Activation::GeluErf,
        Activation::Relu,
    ];
    for (activation, gated) in kinds
        .into_iter()
        .flat_map(|kind| [(kind, true), (kind, false)])
    {
        let leaf = |seed| Tensor::<2>::from_data(values(seed), &taped).require_grad();
        let (gate, up, by) = (leaf(1), leaf(2), leaf(3));
        let y = if gated {
            reference(activation, gate.clone()) * up.clone()
        } else {
            reference(activation, up.clone())
        };
        let tape = (y.clone() * by).sum().backward();

        let mlp = Mlp { activation };
        let own = |seed| Tensor::<2>::from_data(values(seed), &plain);
        let (mut own_gate, mut own_up) = (gated.then(|| own(1)), own(2));
        let own_y = mlp.forward(own_gate.as_mut(), &mut own_up);
        let (dgate, dup) = mlp.backward(own_gate, own_up, own(3));
        let close = |found: Tensor<2>, wanted: Tensor<2>| {
            let apart: f32 = (found - wanted).abs().max().into_scalar();
            assert!(apart < 1e-5, "{activation:?}, gated {gated}: {apart}");
        };
        close(own_y, y.inner());
        close(dup, up.grad(&tape).unwrap());
        if let Some(dgate) = dgate {
            close(dgate, gate.grad(&tape).unwrap());
        }
    }
}

/// The same on the GPU's code path, which needs no more than a software device (Debian: `mesa-vulkan-drivers`).
#[cfg(feature = "gpu")]
#[test]
fn a_vulkan_device_has_the_reference_gradients() {
    let device = Device::wgpu(burn::tensor::DeviceKind::Cpu);
    let options = ModelOptions::default();
    let gpt2 = model("gpt2", None, options.clone(), &device);
    check("full-gpt2", &step(&gpt2, &[whole_batch()], None), 1e-4);
    let llama = model("llama", Some("training/dora-llama"), options, &device);
    check("dora-llama", &step(&llama, &[whole_batch()], None), 1e-4);
}
