//! Single ops of furlong-core at the shapes of SmolLM2-135M, with the fastest instruction set of the machine.

use criterion::{BenchmarkId, Throughput};
use furlong_benches::{Clock, Suite, inputs};
use furlong_core::attention::{
    AttentionShape, Q8_POSITIONS, Q8Groups, Visible, attend, attend_q8, q8_columns, q8_scales,
    store_key, store_value,
};
use furlong_core::{
    BlockWeights, Error, Floats, Isa, LinearKernel, MatrixMut, Weights, ZeroPoints, activation,
    argmax, f16, norm,
};

/// The linear maps of a layer and the head: output rows, input columns.
const SHAPES: [(usize, usize); 4] = [(576, 576), (1536, 576), (576, 1536), (49152, 576)];
/// Tokens of a prompt that are multiplied together.
const PROMPT: usize = 32;
/// Columns that share a scale.
const BLOCK: usize = 32;

fn main() {
    let clock = Clock::from_environment();
    let mut suite = clock.suite();
    let isa = Isa::detect();
    linear(&clock, &mut suite, isa);
    attention(&clock, &mut suite, isa);
    small(&clock, &mut suite, isa);
    suite.final_summary();
}

/// Quantised matrix × vector (decoding) and × several tokens (reading a prompt), activations prepared beforehand or not.
fn linear(clock: &Clock, suite: &mut Suite, isa: Isa) {
    let mut group = suite.benchmark_group("linear");
    for bits in [4, 8] {
        for (rows, columns) in SHAPES {
            let weights = Quantised::new(bits, rows, columns);
            let weights = weights.view();
            let kernel = LinearKernel::select(weights.format(), isa).expect("a format there is");
            let mut packed = vec![0; kernel.packed_bytes(rows, columns).expect("small")];
            kernel
                .pack(&weights, 0..rows, &mut packed)
                .expect("sizes agree");
            // Only the last position of a prompt goes through the head.
            let tokens: &[usize] = if rows > 10_000 { &[1] } else { &[1, PROMPT] };
            for &tokens in tokens {
                let x = inputs::floats(tokens * columns);
                let mut activations =
                    vec![0; kernel.activation_bytes(tokens, columns).expect("small")];
                let mut out = vec![0.0; tokens * rows];
                group.throughput(Throughput::Elements((tokens * rows * columns) as u64));
                let mut meter = clock.meter();
                group.bench_function(
                    BenchmarkId::new(format!("q{bits}/{rows}x{columns}"), tokens),
                    |bencher| {
                        meter.measure(bencher, || {
                            kernel
                                .prepare(&x, tokens, columns, &mut activations)
                                .expect("sizes agree");
                            let out = MatrixMut::new(&mut out, tokens, rows).expect("sizes agree");
                            kernel
                                .multiply(
                                    &packed,
                                    rows,
                                    columns,
                                    &activations,
                                    tokens,
                                    0..rows,
                                    out,
                                )
                                .expect("sizes agree");
                        });
                    },
                );
            }
        }
    }
}

/// Made-up weights, quantised as exports are: 4 bits with a zero point of its own for each block, 8 bits without.
struct Quantised {
    bits: u8,
    rows: usize,
    columns: usize,
    codes: Vec<u8>,
    scales: Vec<f32>,
    zero_points: Option<Vec<f32>>,
}

impl Quantised {
    fn new(bits: u8, rows: usize, columns: usize) -> Self {
        let blocks = rows * columns.div_ceil(BLOCK);
        let codes = inputs::bytes(blocks * BLOCK * usize::from(bits) / 8);
        Self {
            bits,
            rows,
            columns,
            codes,
            scales: inputs::floats(blocks),
            zero_points: (bits == 4).then(|| inputs::floats(blocks)),
        }
    }

    fn view(&self) -> Weights<'_> {
        let zero_points = self
            .zero_points
            .as_ref()
            .map_or(ZeroPoints::Middle, |values| {
                ZeroPoints::Float(Floats::F32(values))
            });
        let scales = Floats::F32(&self.scales);
        let block = BlockWeights::new(
            self.bits,
            BLOCK,
            self.rows,
            self.columns,
            &self.codes,
            scales,
            zero_points,
        );
        Weights::Block(block.expect("sizes agree"))
    }
}

/// All heads of a layer for one token, over a cache of f16 and one of 8 bits.
fn attention(clock: &Clock, suite: &mut Suite, isa: Isa) {
    const KV_HEADS: usize = 3;
    const GROUP: usize = 3;
    const DIM: usize = 64;
    let mut group = suite.benchmark_group("attention");
    for positions in [64, 512, 2048] {
        let shape = AttentionShape {
            tokens: 1,
            group: GROUP,
            head_dim: DIM,
            value_dim: DIM,
            query_stride: KV_HEADS * GROUP * DIM,
            scale: 0.125,
            softcap: None,
            visible: Visible::Causal {
                first: positions - 1,
                window: None,
            },
        };
        let queries = inputs::floats(KV_HEADS * GROUP * DIM);
        let cache = inputs::floats(positions * DIM);
        let half: Vec<f16> = cache.iter().map(|&x| f16::from_f32(x)).collect();
        let mut out = vec![0.0; GROUP * DIM];
        let mut meter = clock.meter();
        group.bench_function(BenchmarkId::new("f16", positions), |bencher| {
            meter.measure(bencher, || {
                for _ in 0..KV_HEADS {
                    let out = MatrixMut::new(&mut out, 1, GROUP * DIM).expect("sizes agree");
                    let half = Floats::F16(&half);
                    attend(isa, &shape, &queries, half, half, out).expect("sizes agree");
                }
            });
        });
        let keys = Groups::new(isa, &cache, DIM, store_key);
        let values = Groups::new(isa, &cache, DIM, store_value);
        let mut meter = clock.meter();
        group.bench_function(BenchmarkId::new("q8", positions), |bencher| {
            meter.measure(bencher, || {
                for _ in 0..KV_HEADS {
                    let out = MatrixMut::new(&mut out, 1, GROUP * DIM).expect("sizes agree");
                    let (keys, values) = (keys.view(), values.view());
                    attend_q8(isa, &shape, &queries, keys, values, positions, out)
                        .expect("sizes agree");
                }
            });
        });
    }
}

/// One head's keys or values in 8 bits.
struct Groups {
    codes: Vec<i8>,
    scales: Vec<f32>,
}

/// Writes a row of `[columns]` into a group's codes and scales: keys and values differ.
type Store = fn(Isa, &[f32], usize, &mut [i8], &mut [f32]) -> Result<(), Error>;

impl Groups {
    fn new(isa: Isa, x: &[f32], columns: usize, store: Store) -> Self {
        let groups = (x.len() / columns).div_ceil(Q8_POSITIONS);
        let (codes, scales) = (
            Q8_POSITIONS * q8_columns(columns),
            Q8_POSITIONS * q8_scales(columns),
        );
        let mut cache = Self {
            codes: vec![0; groups * codes],
            scales: vec![0.0; groups * scales],
        };
        let to = cache
            .codes
            .chunks_mut(codes)
            .zip(cache.scales.chunks_mut(scales));
        for (rows, (codes, scales)) in x.chunks(Q8_POSITIONS * columns).zip(to) {
            for (place, row) in rows.chunks(columns).enumerate() {
                store(isa, row, place, codes, scales).expect("sizes agree");
            }
        }
        cache
    }

    fn view(&self) -> Q8Groups<'_> {
        Q8Groups {
            codes: &self.codes,
            scales: &self.scales,
        }
    }
}

/// The rest of a layer, and choosing a token.
fn small(clock: &Clock, suite: &mut Suite, isa: Isa) {
    let x = inputs::floats(576);
    let weight = inputs::floats(576);
    let mut out = vec![0.0; 576];
    let mut meter = clock.meter();
    suite.bench_function("rms_norm/576", |bencher| {
        meter.measure(bencher, || norm::rms_norm(isa, &x, &weight, 1e-5, &mut out));
    });
    let gate = inputs::floats(1536);
    let up = inputs::floats(1536);
    let mut out = vec![0.0; 1536];
    let mut meter = clock.meter();
    suite.bench_function("silu_mul/1536", |bencher| {
        meter.measure(bencher, || {
            let out = MatrixMut::new(&mut out, 1, gate.len())?;
            activation::silu_mul(isa, &gate, &up, out)
        });
    });
    let logits = inputs::floats(49152);
    let mut meter = clock.meter();
    suite.bench_function("argmax/49152", |bencher| {
        meter.measure(bencher, || argmax::argmax(isa, &logits));
    });
}
