//! Writes the small decoder that the tests run.

use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_proto::DataType,
    tensor_shape_proto::{Dimension, dimension::Value},
    type_proto,
};

const HIDDEN: usize = 64;
const HEADS: usize = 4;
pub(super) const KV_HEADS: usize = 2;
pub(super) const HEAD_DIM: usize = 16;
const INNER: usize = 96;
pub(super) const VOCAB: usize = 50;
pub(super) const LAYERS: usize = 2;
pub(super) const CONTEXT: usize = 40;

/// How the linear layers of a test model are stored.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Stored {
    F32,
    /// Codes with zero points, 32 columns a block.
    Bits(usize),
    /// What `Bits` stands for, written out in f32.
    Widened(usize),
}

/// Writes a Llama-like decoder (grouped queries, normalised heads, rotary positions, biases on queries).
pub(super) struct Builder {
    graph: GraphProto,
    seed: u32,
    stored: Stored,
}

impl Builder {
    fn number(&mut self) -> f32 {
        self.seed = self
            .seed
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        (self.seed >> 8) as f32 / (1 << 24) as f32 - 0.5
    }

    fn tensor(&mut self, name: &str, kind: DataType, dims: &[usize], raw: Vec<u8>) -> String {
        self.graph.initializer.push(TensorProto {
            name: name.into(),
            data_type: kind as i32,
            dims: dims.iter().map(|&d| d as i64).collect(),
            raw_data: raw,
            ..Default::default()
        });
        name.into()
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, DataType::Float, dims, raw)
    }

    fn random(&mut self, name: &str, dims: &[usize], around: f32, spread: f32) -> String {
        let values: Vec<f32> = (0..dims.iter().product())
            .map(|_| around + spread * self.number())
            .collect();
        self.floats(name, dims, &values)
    }

    fn op(
        &mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        let microsoft = matches!(op, "MatMulNBits" | "GatherBlockQuantized");
        self.graph.node.push(NodeProto {
            name: outputs[0].into(),
            op_type: op.into(),
            domain: if microsoft { "com.microsoft" } else { "" }.into(),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: outputs.iter().map(|s| s.to_string()).collect(),
            attribute: attributes,
            ..Default::default()
        });
        outputs[0].into()
    }

    fn linear(&mut self, name: &str, x: &str, rows: usize, cols: usize) -> String {
        let out = format!("{name}.out");
        let (bits, widened) = match self.stored {
            Stored::F32 => {
                let weights = self.random(name, &[cols, rows], 0.0, 0.5);
                return self.op("MatMul", &[x, &weights], &[&out], vec![]);
            }
            Stored::Bits(bits) => (bits, false),
            Stored::Widened(bits) => (bits, true),
        };
        let blocks = cols / 32;
        let codes: Vec<u8> = (0..rows * cols * bits / 8)
            .map(|_| (self.number() * 256.0) as i32 as u8)
            .collect();
        let scales: Vec<f32> = (0..rows * blocks)
            .map(|_| (0.3 + self.number() * 0.1) / (1 << bits) as f32)
            .collect();
        let point_bytes = (blocks * bits).div_ceil(8);
        let points: Vec<u8> = (0..rows * point_bytes)
            .map(|i| if bits == 4 { 0x79 } else { 120 + (i % 9) as u8 })
            .collect();
        if widened {
            let code = |bytes: &[u8], i: usize| match bits {
                4 => f32::from(bytes[i / 2] >> (4 * (i % 2)) & 15),
                _ => f32::from(bytes[i]),
            };
            let mut weights = vec![0.0; rows * cols];
            for row in 0..rows {
                for col in 0..cols {
                    let block = col / 32;
                    let point = code(&points[row * point_bytes..], block);
                    let code = code(&codes[row * cols * bits / 8..], col);
                    weights[col * rows + row] = scales[row * blocks + block] * (code - point);
                }
            }
            let weights = self.floats(name, &[cols, rows], &weights);
            return self.op("MatMul", &[x, &weights], &[&out], vec![]);
        }
        let codes = self.tensor(name, DataType::Uint8, &[rows, blocks, 4 * bits], codes);
        let scales = self.floats(&format!("{name}.scales"), &[rows * blocks], &scales);
        let points = self.tensor(
            &format!("{name}.points"),
            DataType::Uint8,
            &[rows * point_bytes],
            points,
        );
        let attributes = vec![
            int("N", rows),
            int("K", cols),
            int("bits", bits),
            int("block_size", 32),
        ];
        self.op(
            "MatMulNBits",
            &[x, &codes, &scales, &points],
            &[&out],
            attributes,
        )
    }

    fn norm(&mut self, name: &str, x: &str, width: usize) -> String {
        let gain = self.random(name, &[width], 1.0, 0.2);
        self.op(
            "RMSNormalization",
            &[x, &gain],
            &[&format!("{name}.out")],
            vec![int_signed("axis", -1)],
        )
    }

    /// Normalised heads that are turned to their position.
    fn placed(&mut self, name: &str, x: &str, heads: usize) -> String {
        let split = self.shape(
            &format!("{name}.split"),
            &[0, 0, heads as i64, HEAD_DIM as i64],
        );
        let x = self.op(
            "Reshape",
            &[x, &split],
            &[&format!("{name}.split.out")],
            vec![],
        );
        let x = self.norm(&format!("{name}.norm"), &x, HEAD_DIM);
        let join = self.shape(&format!("{name}.join"), &[0, 0, (heads * HEAD_DIM) as i64]);
        let x = self.op(
            "Reshape",
            &[&x, &join],
            &[&format!("{name}.join.out")],
            vec![],
        );
        let inputs = [&x, "cos", "sin", "position_ids"];
        self.op(
            "RotaryEmbedding",
            &inputs,
            &[&format!("{name}.placed")],
            vec![int("num_heads", heads)],
        )
    }

    fn shape(&mut self, name: &str, dims: &[i64]) -> String {
        let raw = dims.iter().flat_map(|d| d.to_le_bytes()).collect();
        self.tensor(name, DataType::Int64, &[dims.len()], raw)
    }

    fn layer(&mut self, layer: usize, x: &str) -> String {
        let l = |name: &str| format!("{layer}.{name}");
        let normed = self.norm(&l("norm1"), x, HIDDEN);
        let query = self.linear(&l("query"), &normed, HEADS * HEAD_DIM, HIDDEN);
        let key = self.linear(&l("key"), &normed, KV_HEADS * HEAD_DIM, HIDDEN);
        let value = self.linear(&l("value"), &normed, KV_HEADS * HEAD_DIM, HIDDEN);
        let query = self.placed(&l("q"), &query, HEADS);
        let key = self.placed(&l("k"), &key, KV_HEADS);
        let past = ["key", "value"].map(|part| format!("past_key_values.{layer}.{part}"));
        let present = ["key", "value"].map(|part| format!("present.{layer}.{part}"));
        for (past, present) in past.iter().zip(&present) {
            let dims = |name| [Err("batch"), Ok(KV_HEADS), Err(name), Ok(HEAD_DIM)];
            self.graph
                .input
                .push(info(past, DataType::Float, &dims("past")));
            self.graph
                .output
                .push(info(present, DataType::Float, &dims("total")));
        }
        let attributes = vec![
            int("is_causal", 1),
            int("q_num_heads", HEADS),
            int("kv_num_heads", KV_HEADS),
        ];
        let inputs = [&query, &key, &value, "", &past[0], &past[1]];
        let mixed = self.op(
            "Attention",
            &inputs,
            &[&l("mixed"), &present[0], &present[1]],
            attributes,
        );
        let out = self.linear(&l("output"), &mixed, HIDDEN, HEADS * HEAD_DIM);
        let bias = self.random(&l("bias"), &[HIDDEN], 0.0, 0.2);
        let out = self.op("Add", &[&out, &bias], &[&l("biased")], vec![]);
        let x = self.op("Add", &[x, &out], &[&l("sum1")], vec![]);
        let normed = self.norm(&l("norm2"), &x, HIDDEN);
        let gate = self.linear(&l("gate"), &normed, INNER, HIDDEN);
        let up = self.linear(&l("up"), &normed, INNER, HIDDEN);
        let sigmoid = self.op("Sigmoid", &[&gate], &[&l("sigmoid")], vec![]);
        let gate = self.op("Mul", &[&gate, &sigmoid], &[&l("silu")], vec![]);
        let gated = self.op("Mul", &[&gate, &up], &[&l("gated")], vec![]);
        let out = self.linear(&l("down"), &gated, HIDDEN, INNER);
        self.op("Add", &[&x, &out], &[&l("sum2")], vec![])
    }

    pub(super) fn decoder(stored: Stored) -> Vec<u8> {
        let mut b = Builder {
            graph: GraphProto::default(),
            seed: 7,
            stored,
        };
        let tokens = [Err("batch"), Err("sequence")];
        b.graph
            .input
            .push(info("input_ids", DataType::Int64, &tokens));
        b.graph
            .input
            .push(info("position_ids", DataType::Int64, &tokens));
        let angle = |i: usize| (i / 8) as f32 / 100f32.powf((i % 8) as f32 / 8.0);
        let table = |f: fn(f32) -> f32| (0..CONTEXT * 8).map(|i| f(angle(i))).collect::<Vec<_>>();
        b.floats("cos", &[CONTEXT, 8], &table(f32::cos));
        b.floats("sin", &[CONTEXT, 8], &table(f32::sin));
        let embedding = b.random("embedding", &[VOCAB, HIDDEN], 0.0, 2.0);
        let mut x = b.op("Gather", &[&embedding, "input_ids"], &["x"], vec![]);
        for layer in 0..LAYERS {
            x = b.layer(layer, &x);
        }
        let x = b.norm("norm", &x, HIDDEN);
        let perm = AttributeProto {
            name: "perm".into(),
            r#type: AttributeType::Ints as i32,
            ints: vec![1, 0],
            ..Default::default()
        };
        let head = b.op("Transpose", &[&embedding], &["head"], vec![perm]);
        b.op("MatMul", &[&x, &head], &["logits"], vec![]);
        b.graph.output.insert(
            0,
            info(
                "logits",
                DataType::Float,
                &[Err("batch"), Err("sequence"), Ok(VOCAB)],
            ),
        );
        let opset = |domain: &str, version| OperatorSetIdProto {
            domain: domain.into(),
            version,
        };
        let model = ModelProto {
            ir_version: 10,
            opset_import: vec![opset("", 23), opset("com.microsoft", 1)],
            graph: Some(b.graph),
            metadata_props: vec![StringStringEntryProto {
                key: "furlong.kind".into(),
                value: "decoder".into(),
            }],
            ..Default::default()
        };
        model.encode_to_vec()
    }
}

fn int(name: &str, value: usize) -> AttributeProto {
    int_signed(name, value as i64)
}

fn int_signed(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: name.into(),
        r#type: AttributeType::Int as i32,
        i,
        ..Default::default()
    }
}

fn info(name: &str, kind: DataType, dims: &[Result<usize, &str>]) -> ValueInfoProto {
    let dim = dims.iter().map(|dim| Dimension {
        value: Some(match dim {
            Ok(size) => Value::DimValue(*size as i64),
            Err(name) => Value::DimParam(name.to_string()),
        }),
        ..Default::default()
    });
    let shape = Some(TensorShapeProto { dim: dim.collect() });
    let tensor = type_proto::Tensor {
        elem_type: kind as i32,
        shape,
    };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto {
            value,
            ..Default::default()
        }),
        ..Default::default()
    }
}
