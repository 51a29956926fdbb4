//! Graphs in other people's dialects, against what ONNX Runtime made of them (`tests/foreign/make.py` and
//! `tests/foreign/torch_bert.py`). Decoders go through a session: a prompt at once, then token by token, with its own cache.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use furlong_runtime::{
    Array, ArrayData, Graph, GraphOptions, KvFormat, LoadOptions, Model, OnnxModel,
};
use prost::Message;
use tract_onnx::pb;

/// How many tokens the reference read at once, before it went on one by one.
const PREFILL: usize = 9;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/foreign")
        .join(name)
}

fn stored(io: &OnnxModel, name: &str) -> Array {
    Array::from_data(&io.initialiser(name).unwrap().unwrap()).unwrap()
}

/// The least cosine and the largest difference between our logits and the stored ones, over all positions.
fn compare(name: &str) -> (f64, f32) {
    let io = OnnxModel::open(&file(&format!("{name}.io"))).unwrap();
    let tokens: Vec<u32> = stored(&io, "tokens")
        .as_i64()
        .unwrap()
        .iter()
        .map(|&t| t.try_into().unwrap())
        .collect();
    let logits = stored(&io, "logits");
    let expected = logits.as_f32().unwrap();
    let options = LoadOptions {
        kv: KvFormat::F32,
        threads: Some(NonZeroUsize::MIN),
        ..LoadOptions::default()
    };
    let model = Model::load(&file(&format!("{name}.onnx")), &options).unwrap();
    let mut session = model.session().unwrap();
    let mut found = Vec::new();
    session
        .extend_all(&tokens[..PREFILL], |_, logits| {
            found.extend_from_slice(logits)
        })
        .unwrap();
    for &token in &tokens[PREFILL..] {
        found.extend_from_slice(session.extend(&[token]).unwrap());
    }
    assert_eq!(found.len(), expected.len());
    let vocabulary = model.vocab_size();
    let mut worst = (1.0f64, 0.0f32);
    for (ours, theirs) in found.chunks(vocabulary).zip(expected.chunks(vocabulary)) {
        let dot =
            |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let cosine = dot(ours, theirs) / (dot(ours, ours) * dot(theirs, theirs)).sqrt();
        let difference = ours
            .iter()
            .zip(theirs)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        worst = (worst.0.min(cosine), worst.1.max(difference));
    }
    worst
}

/// What goes into a stored graph, and the cosine of what comes out with what must.
fn run(name: &str, stock: bool) -> f64 {
    let io = OnnxModel::open(&file(&format!("{name}.io"))).unwrap();
    let options = GraphOptions {
        stock,
        threads: Some(NonZeroUsize::MIN),
    };
    let graph = Graph::load(&file(&format!("{name}.onnx")), &options).unwrap();
    assert!(graph.is_symbolic(), "{name} needs a plan for each shape");
    let inputs = graph.inputs().iter().map(|input| {
        (
            input.name.clone(),
            stored(&io, &format!("in:{}", input.name)),
        )
    });
    let outputs = graph.run(inputs.collect()).unwrap();
    let mut worst = 1.0f64;
    for (name, found) in outputs {
        let expected = stored(&io, &format!("out:{name}"));
        assert_eq!(found.shape(), expected.shape());
        let (found, expected) = (floats(&found), floats(&expected));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let lengths = dot(&found, &found) * dot(&expected, &expected);
        worst = worst.min(dot(&found, &expected) / lengths.sqrt());
    }
    worst
}

fn floats(array: &Array) -> Vec<f64> {
    match array.data() {
        ArrayData::F16(values) => values.iter().map(|v| v.to_f64()).collect(),
        ArrayData::F32(values) => values.iter().map(|&v| f64::from(v)).collect(),
        other => panic!("{other:?} are not floats"),
    }
}

#[test]
fn encoders_agree_as_the_quantisers_leave_them() {
    // With stale shapes (f32), MatMulInteger per tensor and per column, quantise-dequantise pairs.
    for (name, least) in [
        ("encoder_f32", 0.999_999),
        ("encoder_f16", 0.9999),
        ("encoder_dynamic_i8", 0.9999),
        ("encoder_dynamic_u8_channel", 0.9999),
        ("encoder_qdq", 0.9999),
    ] {
        let cosine = run(name, false);
        assert!(cosine >= least, "{name}: cosine {cosine}");
    }
}

/// A BERT of two layers by each of PyTorch's exporters: norms and GELU written out (opset 11), with scaled queries and keys and
/// a guard against hidden rows (opset 14), and the one that doesn't trace, whose keys are turned by way of three axes.
const BERTS: [&str; 3] = ["bert_opset11", "bert_opset14", "bert_dynamo"];

#[test]
fn encoders_that_pytorch_writes_out_become_our_ops() {
    for name in BERTS {
        let cosine = run(name, false);
        assert!(cosine > 0.999_999_9, "{name}: cosine {cosine}");
        let model = Model::load(&file(&format!("{name}.onnx")), &LoadOptions::default()).unwrap();
        let ops = model.report().ops;
        let ours = [
            ("QuantLinear", 8),
            ("SelfAttention", 2),
            ("Gelu", 2),
            ("LayerNorm", 1),
            ("AddLayerNorm", 4),
        ];
        for (op, count) in ours {
            assert_eq!(ops.get(op), Some(&count), "{name}: {op} of {ops:?}");
        }
        let written_out = [
            "Erf", "Reduce", "Softmax", "MatMul", "EinSum", "Sqrt", "Pow",
        ];
        let left = ops
            .keys()
            .find(|op| written_out.iter().any(|part| op.contains(part)));
        assert_eq!(left, None, "{name}");
    }
}

/// Changes of one node each, after which it does something else, or something that only looks like it.
fn changes(node: &pb::NodeProto) -> Vec<pb::NodeProto> {
    let mut all = Vec::new();
    for (index, attribute) in node.attribute.iter().enumerate() {
        let mut changed = node.clone();
        let to = &mut changed.attribute[index];
        match attribute.name.as_str() {
            "perm" => to.ints.rotate_right(1),
            "axis" | "axes" => {
                to.i = 1;
                to.ints.iter_mut().for_each(|axis| *axis = 1);
            }
            "keepdims" => to.i = 1 - to.i,
            "epsilon" => to.f = 0.5,
            "value" => {
                let tensor = to.t.as_mut().unwrap();
                if tensor.data_type == pb::tensor_proto::DataType::Float as i32 {
                    for number in tensor.raw_data.chunks_exact_mut(4) {
                        let value = f32::from_le_bytes(number.try_into().unwrap());
                        number.copy_from_slice(&(value * 1.5 + 0.25).to_le_bytes());
                    }
                } else if let [low, ..] = &mut tensor.raw_data[..] {
                    *low ^= 1;
                }
            }
            _ => continue,
        }
        all.push(changed);
    }
    let other = match node.op_type.as_str() {
        "Add" => "Sub",
        "Sub" => "Add",
        "Mul" => "Div",
        "Div" => "Mul",
        "Erf" => "Tanh",
        "Softmax" => "LogSoftmax",
        _ => "",
    };
    if !other.is_empty() {
        let mut changed = node.clone();
        changed.op_type = other.to_owned();
        all.push(changed);
    }
    if node.input.len() == 2 {
        let mut changed = node.clone();
        changed.input.swap(0, 1);
        all.push(changed);
    }
    all
}

#[test]
fn what_only_looks_like_a_pattern_stays_what_it_is() {
    let bytes = std::fs::read(file("bert_opset14.onnx")).unwrap();
    let whole = pb::ModelProto::decode(bytes.as_slice()).unwrap();
    let io = OnnxModel::open(&file("bert_opset14.io")).unwrap();
    let answer = |model: &pb::ModelProto, stock: bool| {
        let options = GraphOptions {
            stock,
            threads: Some(NonZeroUsize::MIN),
        };
        let graph = Graph::from_model(OnnxModel::from_bytes(&model.encode_to_vec())?, &options)?;
        let inputs = graph.inputs().iter().map(|input| {
            let array = stored(&io, &format!("in:{}", input.name));
            (input.name.clone(), array)
        });
        graph.run(inputs.collect())
    };
    let nodes = whole.graph.as_ref().unwrap().node.clone();
    let (mut compared, mut refused) = (0, 0);
    // What makes the mask is left to tract, whatever it is.
    let in_layers = |(_, node): &(usize, &pb::NodeProto)| {
        ["embeddings/LayerNorm", "layer.0"]
            .iter()
            .any(|part| node.output[0].contains(part))
    };
    for (index, node) in nodes.iter().enumerate().filter(in_layers) {
        for changed in changes(node) {
            let mut model = whole.clone();
            let what = format!("{node:?} as {changed:?}");
            model.graph.as_mut().unwrap().node[index] = changed;
            // What tract can't run either says nothing.
            let Ok(expected) = answer(&model, true) else {
                refused += 1;
                continue;
            };
            let found = answer(&model, false).unwrap_or_else(|error| panic!("{what}: {error}"));
            for ((_, found), (_, expected)) in found.iter().zip(&expected) {
                assert_eq!(found.shape(), expected.shape(), "{what}");
                let pairs = floats(found).into_iter().zip(floats(expected));
                let near = |(a, b): (f64, f64)| {
                    (a - b).abs() <= 1e-3 * (1.0 + b.abs()) || !a.is_finite() || !b.is_finite()
                };
                assert!(pairs.into_iter().all(near), "{what}");
            }
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared} compared, {refused} refused");
}

#[test]
fn stock_tract_is_there_to_compare_with() {
    assert!(run("encoder_f32", true) > 0.999_999);
}

#[test]
fn attention_of_genai_graphs_is_exact() {
    // Packed and separate queries, biases, rotary positions inside (interleaved, partial) and before
    // the node, a window, a soft cap, normalised heads.
    for name in ["gqa_packed", "gqa_separate", "gqa_rotary_node"] {
        let (_, difference) = compare(name);
        assert!(difference < 1e-4, "{name}: logits differ by {difference}");
    }
}

#[test]
fn block_quantised_layers_of_all_forms_agree() {
    // 4 and 8 bits, blocks of 16 to 128 (longer than the row too), no, packed and float zero points,
    // quantised look-ups. Ours rounds activations to 8 bits, which ONNX Runtime doesn't: a wrong zero
    // point or nibble costs far more than that.
    for name in ["nbits_4_block32", "nbits_mixed"] {
        let (cosine, _) = compare(name);
        assert!(cosine > 0.999, "{name}: cosine {cosine}");
    }
}

#[test]
fn a_cache_that_the_caller_keeps_goes_in_and_out() {
    assert!(run("gqa_packed", false) > 0.999_999);
}
