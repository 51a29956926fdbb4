//! Files that lie: cut off, flipped, absurd, or reaching out of their folder. Each must end in an error or
//! in a graph that runs; none may panic, hang, or take the machine's memory.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use furlong_runtime::{Array, ArrayData, ElementType, Error, Graph, GraphOptions, OnnxModel};
use prost::Message;
use tract_onnx::pb;

/// The longest that one small file may keep us.
const SLOWEST: Duration = Duration::from_secs(5);

fn seed(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/foreign");
    std::fs::read(folder.join(name)).unwrap()
}

/// Reads, prepares and runs a model, with open dimensions of 2. Any error will do.
fn try_all(bytes: &[u8]) {
    let start = Instant::now();
    let Ok(model) = OnnxModel::from_bytes(bytes) else {
        return;
    };
    for stock in [false, true] {
        let options = GraphOptions {
            stock,
            threads: Some(NonZeroUsize::MIN),
        };
        let Ok(graph) = Graph::from_model(model.clone(), &options) else {
            continue;
        };
        let mut inputs = Vec::new();
        for input in graph.inputs() {
            let shape: Vec<usize> = input
                .shape
                .iter()
                .map(|d| d.parse().unwrap_or(2).min(64))
                .collect();
            let count = shape.iter().product();
            let data: ArrayData = match input.element.as_str() {
                "INT64" => vec![1i64; count].into(),
                "INT32" => vec![1i32; count].into(),
                "BOOL" => vec![true; count].into(),
                _ => vec![0.5f32; count].into(),
            };
            inputs.push((input.name.clone(), Array::new(shape, data).unwrap()));
        }
        let _ = graph.run(inputs);
    }
    assert!(
        start.elapsed() < SLOWEST,
        "a file of {} bytes took {:?}",
        bytes.len(),
        start.elapsed()
    );
}

#[test]
fn cut_off_files_are_refused() {
    let whole = seed("gqa_separate.onnx");
    for step in 1..200 {
        let end = whole.len() * step / 200;
        assert!(
            OnnxModel::from_bytes(&whole[..end]).is_err(),
            "{end} of {} bytes",
            whole.len()
        );
    }
}

#[test]
fn flipped_bytes_never_panic() {
    for name in ["encoder_f32.onnx", "gqa_separate.onnx"] {
        let whole = seed(name);
        // The structure is at both ends, the weights between: a step that meets all of it.
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..3 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let at = (random >> 33) as usize % bytes.len().min(6000);
                bytes[at] ^= 1 << (random & 7);
            }
            try_all(&bytes);
        }
    }
}

/// A graph from `x`, `[2, 2]` of f32, to `y`, with constants by name.
fn graph(nodes: Vec<pb::NodeProto>, constants: Vec<pb::TensorProto>) -> pb::ModelProto {
    let value = |name: &str, dims: &[i64]| {
        use pb::tensor_shape_proto::{Dimension, dimension::Value};
        let dim = |d: &i64| Dimension {
            value: Some(Value::DimValue(*d)),
            ..Default::default()
        };
        let shape = pb::TensorShapeProto {
            dim: dims.iter().map(dim).collect(),
        };
        let tensor = pb::type_proto::Tensor {
            elem_type: 1,
            shape: Some(shape),
        };
        let value = Some(pb::type_proto::Value::TensorType(tensor));
        let r#type = Some(pb::TypeProto {
            value,
            ..Default::default()
        });
        pb::ValueInfoProto {
            name: name.into(),
            r#type,
            ..Default::default()
        }
    };
    let output = pb::ValueInfoProto {
        name: "y".into(),
        ..Default::default()
    };
    let graph = pb::GraphProto {
        node: nodes,
        initializer: constants,
        input: vec![value("x", &[2, 2])],
        output: vec![output],
        ..Default::default()
    };
    let opset = pb::OperatorSetIdProto {
        version: 18,
        ..Default::default()
    };
    pb::ModelProto {
        ir_version: 8,
        opset_import: vec![opset],
        graph: Some(graph),
        ..Default::default()
    }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> pb::NodeProto {
    let own = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
    pb::NodeProto {
        op_type: op.into(),
        input: own(inputs),
        output: own(outputs),
        ..Default::default()
    }
}

fn int64(name: &str, dims: &[i64], values: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        data_type: ElementType::Int64 as i32,
        dims: dims.to_vec(),
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

fn refused(model: pb::ModelProto) -> Error {
    let start = Instant::now();
    let options = GraphOptions {
        stock: false,
        threads: Some(NonZeroUsize::MIN),
    };
    let x = Array::new(vec![2, 2], vec![1.0f32; 4]).unwrap();
    let outcome = OnnxModel::from_bytes(&model.encode_to_vec())
        .and_then(|model| Graph::from_model(model, &options))
        .and_then(|graph| graph.run(vec![("x".into(), x)]));
    assert!(start.elapsed() < SLOWEST);
    outcome.expect_err("a hostile graph ran")
}

#[test]
fn absurd_sizes_are_refused_before_memory_is_asked_for() {
    // Dimensions that their bytes don't fill.
    for dims in [
        vec![1 << 40],
        vec![1 << 31, 1 << 31],
        vec![i64::MAX, i64::MAX],
        vec![-1],
        vec![0, i64::MAX],
    ] {
        let model = graph(
            vec![node("Add", &["x", "c"], &["y"])],
            vec![int64("c", &dims, &[1])],
        );
        refused(model);
    }
    // Constants that an operator would blow up while the graph is read, or while it runs.
    let huge = int64("c", &[3], &[100_000, 100_000, 100_000]);
    for op in ["Expand", "Tile"] {
        let mut long = huge.clone();
        if op == "Tile" {
            long = int64("c", &[2], &[1 << 30, 1 << 30]);
        }
        refused(graph(vec![node(op, &["x", "c"], &["y"])], vec![long]));
    }
    refused(graph(
        vec![node("ConstantOfShape", &["c"], &["y"])],
        vec![huge.clone()],
    ));
    let nodes = vec![
        node("ConstantOfShape", &["c"], &["z"]),
        node("ReduceSum", &["z"], &["y"]),
    ];
    refused(graph(nodes, vec![huge.clone()]));
    // The same with a shape that is itself computed.
    let nodes = vec![
        node("Mul", &["c", "c"], &["d"]),
        node("ConstantOfShape", &["d"], &["z"]),
        node("Add", &["x", "z"], &["y"]),
    ];
    refused(graph(nodes, vec![int64("c", &[2], &[100_000, 100_000])]));
    let range = vec![node("Range", &["a", "b", "d"], &["y"])];
    let numbers = vec![
        int64("a", &[], &[0]),
        int64("b", &[], &[1 << 45]),
        int64("d", &[], &[1]),
    ];
    refused(graph(range, numbers));
}

#[test]
fn what_cannot_run_is_named_all_at_once() {
    let mut other = node("Add", &["b", "x"], &["y"]);
    other.domain = "someone.else".into();
    let mut named = node("Frobnicate", &["x"], &["b"]);
    named.name = "the one".into();
    match refused(graph(vec![named, other], vec![])) {
        Error::UnsupportedOps { ops, .. } => {
            let found: Vec<_> = ops
                .0
                .iter()
                .map(|o| (o.node.as_str(), o.op.as_str(), o.domain.as_str(), o.opset))
                .collect();
            assert_eq!(
                found,
                [
                    ("the one", "Frobnicate", "ai.onnx", 18),
                    ("y", "Add", "someone.else", 0)
                ]
            );
        }
        other => panic!("{other}"),
    }
}

/// A model in `folder` whose constant is external data at `location`, with other entries as given.
fn external(
    folder: &Path,
    location: &str,
    entries: &BTreeMap<&str, &str>,
) -> Result<OnnxModel, Error> {
    let pair = |key: &str, value: &str| pb::StringStringEntryProto {
        key: key.into(),
        value: value.into(),
    };
    let mut data = vec![pair("location", location)];
    data.extend(entries.iter().map(|(k, v)| pair(k, v)));
    let constant = pb::TensorProto {
        name: "c".into(),
        data_type: ElementType::Float as i32,
        dims: vec![2, 2],
        data_location: Some(1),
        external_data: data,
        ..Default::default()
    };
    let model = graph(vec![node("Add", &["x", "c"], &["y"])], vec![constant]);
    let path = folder.join("model.onnx");
    std::fs::write(&path, model.encode_to_vec()).unwrap();
    OnnxModel::open(&path)
}

#[test]
fn external_data_stays_in_the_folder() {
    let root: PathBuf =
        std::env::temp_dir().join(format!("furlong-external-{}", std::process::id()));
    let folder = root.join("model");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    std::fs::write(root.join("secret"), [0u8; 16]).unwrap();
    std::fs::write(folder.join("data"), [0u8; 20]).unwrap();
    std::fs::write(folder.join("sub/data"), [0u8; 16]).unwrap();
    let none = BTreeMap::new();
    assert!(external(&folder, "data", &none).is_ok());
    assert!(external(&folder, "./sub/data", &BTreeMap::from([("length", "16")])).is_ok());
    let outside = root.join("secret");
    for location in [
        "../secret",
        "sub/../../secret",
        outside.to_str().unwrap(),
        "",
        "missing",
        "sub",
        "a\0b",
    ] {
        assert!(external(&folder, location, &none).is_err(), "{location:?}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&outside, folder.join("link")).unwrap();
        std::os::unix::fs::symlink(&root, folder.join("up")).unwrap();
        std::os::unix::fs::symlink("data", folder.join("inside")).unwrap();
        assert!(external(&folder, "link", &none).is_err());
        assert!(external(&folder, "up/secret", &none).is_err());
        assert!(external(&folder, "inside", &none).is_ok());
        assert!(external(&folder, "/dev/zero", &none).is_err());
    }
    for (key, value) in [
        ("offset", "8"),
        ("offset", "18446744073709551615"),
        ("offset", "-4"),
        ("length", "15"),
        ("length", "99999999999999999999999"),
    ] {
        assert!(
            external(&folder, "data", &BTreeMap::from([(key, value)])).is_err(),
            "{key} {value}"
        );
    }
    std::fs::remove_dir_all(&root).unwrap();
}
