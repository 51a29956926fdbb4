//! A plan of three ops, made by hand: what is checked, and that it computes what its ops say. Whole models are compared with
//! the host's runtime where they are lowered.

use super::*;
use crate::rope::RopePairs;
use crate::sampler::SamplingParams;
use crate::{DenseWeights, Floats, IsaKind, PackedLayout, WeightFormat};
use std::vec::Vec;

const VOCABULARY: usize = 20;
const HIDDEN: usize = 8;
const CONTEXT: u32 = 6;

/// An image at an address that plans may have.
#[repr(align(64))]
struct Image([u8; 4096]);

impl Image {
    fn bytes(&self, len: usize) -> &[u8] {
        &self.0[..len]
    }
}

fn embedding() -> Vec<f32> {
    (0..VOCABULARY * HIDDEN)
        .map(|i| ((i * 37 % 41) as f32 - 20.0) * 0.05)
        .collect()
}

/// Logits are the products of the last token's embedding with all embeddings, which are there once, packed.
fn plan_of_three(ops: &[Op]) -> (Image, usize) {
    let values = embedding();
    let layout = PackedLayout::of(WeightFormat::F32, IsaKind::Scalar).unwrap();
    let weights = DenseWeights::new(VOCABULARY, HIDDEN, Floats::F32(&values)).unwrap();
    let mut packed = std::vec![0; layout.packed_bytes(VOCABULARY, HIDDEN).unwrap()];
    layout
        .pack(&weights.into(), 0..VOCABULARY, &mut packed)
        .unwrap();
    let buffer = |content, offset, rows, columns, first, last| Buffer {
        content,
        offset,
        bytes: Buffer::bytes_of(content, CacheFormat::F16, rows, columns).unwrap(),
        rows,
        columns,
        first,
        last,
    };
    let buffers = [
        buffer(Content::Words, 0, CONTEXT, 1, 0, u16::MAX),
        buffer(Content::Floats, 32, 2, HIDDEN as u32, 0, 1),
        buffer(Content::Bytes, 96, 1, 4 * HIDDEN as u32, 1, 2),
        buffer(Content::Floats, 128, 1, VOCABULARY as u32, 2, 3),
    ];
    let table = |at: usize, count: usize| Table {
        at: at as u32,
        count: count as u32,
    };
    let buffers_at = HEADER_BYTES + ops.len() * OP_BYTES;
    let tensors_at = buffers_at + buffers.len() * BUFFER_BYTES;
    let data_at = (tensors_at + TENSOR_BYTES).next_multiple_of(TENSOR_ALIGN);
    let tensor = Tensor {
        format: TensorFormat::Packed(WeightFormat::F32),
        offset: data_at as u32,
        bytes: packed.len() as u32,
        rows: VOCABULARY as u32,
        columns: HIDDEN as u32,
    };
    let size = data_at + packed.len();
    let header = Header {
        size: size as u32,
        isa: IsaKind::Scalar,
        cache: CacheFormat::F16,
        kind: PlanKind::Decoder,
        context: CONTEXT,
        tile: 2,
        vocabulary: VOCABULARY as u32,
        arena_bytes: 208,
        ops: table(HEADER_BYTES, ops.len()),
        buffers: table(buffers_at, buffers.len()),
        tensors: table(tensors_at, 1),
        tokenizer: Table::default(),
        head: 1,
        tokens: BufferId(0),
        output: BufferId(3),
        candidates: None,
        text: None,
        ends: [NO_TOKEN; 4],
        sampling: SamplingParams::GREEDY,
        source: [7; 32],
    };
    let mut bytes = header.encode(0).to_vec();
    ops.iter().for_each(|op| bytes.extend(op.encode()));
    buffers
        .iter()
        .for_each(|buffer| bytes.extend(buffer.encode()));
    bytes.extend(tensor.encode());
    bytes.resize(data_at, 0);
    bytes.extend(&packed);
    seal(&mut bytes).unwrap();
    assert_eq!(Header::decode(&bytes), Ok(header));
    let mut image = Image([0; 4096]);
    image.0[..size].copy_from_slice(&bytes);
    (image, size)
}

fn three_ops() -> [Op; 3] {
    let weights = TensorId(0);
    let rows = Rows::Last;
    [
        Op::Gather {
            table: weights,
            index: Index::Token,
            out: BufferId(1),
        },
        Op::Prepare {
            x: BufferId(1),
            weights,
            out: BufferId(2),
            rows,
        },
        Op::Multiply {
            activations: BufferId(2),
            weights,
            bias: None,
            out: Columns {
                buffer: BufferId(3),
                column: 0,
            },
            rows,
        },
    ]
}

#[test]
fn reads_in_tiles_and_computes_what_its_ops_say() {
    let (image, size) = plan_of_three(&three_ops());
    let plan = Plan::check(image.bytes(size)).unwrap();
    let mut arena = std::vec![1; plan.arena_bytes()];
    let mut session = Session::new(plan, &mut arena).unwrap();
    session.feed(&[3, 1, 4, 1, 5]).unwrap();
    let mut worked = Vec::new();
    loop {
        match session.step().unwrap() {
            Step::Worked { op, done } => worked.push((op, done)),
            step => break assert_eq!(step, Step::Ready),
        }
    }
    // Two tiles of two tokens stop before the head, the last one goes through it.
    assert_eq!(
        worked,
        [(0, true), (0, true), (0, true), (1, true), (2, true)]
    );
    let values = embedding();
    let row = |token: usize| &values[token * HIDDEN..][..HIDDEN];
    let logits = session.output().unwrap();
    for (token, &logit) in logits.iter().enumerate() {
        let want = row(token)
            .iter()
            .zip(row(5))
            .fold(0.0f32, |sum, (&w, &x)| w.mul_add(x, sum));
        assert_eq!(logit, want);
    }
    let mut answer = Answer::to_tokens(&mut session, &[2], 3, None).unwrap();
    let mut tokens = 0;
    while !matches!(
        answer.step(&mut session).unwrap(),
        Event::Finished(Finish::Length)
    ) {
        tokens += usize::from(!session.is_empty());
    }
    assert!(tokens > 0 && session.len() == 3);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (image, size) = plan_of_three(&three_ops());
    assert!(matches!(Plan::check(&[]), Err(PlanError::Magic)));
    assert!(matches!(
        Plan::check(image.bytes(size - 1)),
        Err(PlanError::Size { .. })
    ));
    assert!(matches!(
        Plan::check(&image.bytes(size)[1..]),
        Err(PlanError::Magic)
    ));
    let mut damaged = Image(image.0);
    damaged.0[size - 1] ^= 1;
    assert!(matches!(
        Plan::check(damaged.bytes(size)),
        Err(PlanError::Checksum)
    ));
    let plan = Plan::check(image.bytes(size)).unwrap();
    let short = Session::new(plan, &mut [0; 100]).map(|_| ());
    assert!(matches!(short, Err(PlanError::Arena { .. })));

    let [gather, prepare, multiply] = three_ops();
    let elsewhere = Op::Add {
        to: BufferId(1),
        from: BufferId(3),
    };
    let itself = Op::Copy {
        to: BufferId(1),
        from: BufferId(1),
    };
    for (ops, wrong) in [
        // Buffer 3 is not in use yet.
        ([gather, elsewhere, multiply], 1),
        ([gather, itself, multiply], 1),
        ([gather, prepare, gather], 2),
        ([multiply, prepare, multiply], 0),
    ] {
        let (image, size) = plan_of_three(&ops);
        assert_eq!(
            Plan::check(image.bytes(size)).err(),
            Some(PlanError::Op(wrong))
        );
    }
}

#[test]
fn ops_are_read_as_they_were_written() {
    let [b, c, d] = [1, 2, 3].map(BufferId);
    let [t, u] = [4, 5].map(TensorId);
    let columns = |buffer, column| Columns { buffer, column };
    let heads = Heads { count: 6, dim: 7 };
    let pairs = RopePairs::Neighbours;
    let ops = [
        Op::Gather {
            table: t,
            index: Index::Position,
            out: b,
        },
        Op::Add { to: b, from: c },
        Op::Copy { to: c, from: b },
        Op::Norm {
            centred: true,
            x: b,
            gain: t,
            bias: Some(u),
            epsilon: 1e-5,
            out: c,
        },
        Op::Prepare {
            x: b,
            weights: t,
            out: c,
            rows: Rows::Last,
        },
        Op::Multiply {
            activations: b,
            weights: t,
            bias: None,
            out: columns(c, 9),
            rows: Rows::All,
        },
        Op::Gated {
            activation: Activation::GeluTanh,
            activations: b,
            gate: t,
            up: u,
            gate_bias: None,
            up_bias: Some(t),
            scratch: c,
            out: d,
        },
        Op::Activate {
            activation: Activation::GeluErf,
            x: d,
        },
        Op::Place {
            x: columns(b, 3),
            heads,
            gain: Some(t),
            epsilon: 2.0,
            rope: Some(Rope {
                cos: t,
                sin: u,
                pairs,
            }),
        },
        Op::Append {
            from: columns(b, 1),
            heads,
            cache: c,
            kept: Kept::Values,
        },
        Op::Attend {
            queries: columns(b, 2),
            heads,
            kv_heads: 3,
            keys: c,
            values: d,
            out: b,
            scale: 0.5,
            softcap: 30.0,
            window: 8,
        },
        Op::SelfAttend {
            queries: columns(b, 0),
            keys: columns(b, 1),
            values: columns(c, 2),
            heads,
            kv_heads: 6,
            value_dim: 5,
            scale: 0.25,
            scratch: c,
            out: d,
        },
        Op::Unfold {
            x: b,
            out: c,
            patches: Patches {
                size: [10, 11, 12],
                strides: [132, 12, 1],
                kernel: [3, 2],
                step: [2, 1],
                pad: [1, 0],
                places: [5, 10],
            },
        },
        Op::Prepend {
            table: t,
            x: b,
            out: c,
        },
        Op::Pool {
            x: b,
            out: c,
            first: true,
            normalise: true,
        },
    ];
    for op in ops {
        assert_eq!(Op::decode(&op.encode()), Some(op), "{}", op.name());
    }
}
