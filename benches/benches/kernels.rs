//! Single ops of furlong-core at the shapes of SmolLM2-135M, with the fastest instruction set of the machine.

use criterion::{BenchmarkId, Throughput};
use furlong_benches::{Clock, Suite, inputs};
use furlong_core::attention::{AttentionShape, Visible, attend};
use furlong_core::{
    BlockWeights, Floats, Isa, LinearKernel, MatrixMut, Weights, ZeroPoints, activation, argmax,
    f16, norm,
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

/// All heads of a layer for one token, over a cache of f16.
fn attention(clock: &Clock, suite: &mut Suite, isa: Isa) {
    const HEADS: usize = 3;
    let mut group = suite.benchmark_group("attention");
    for positions in [64, 512] {
        let shape = AttentionShape {
            tokens: 1,
            group: 3,
            head_dim: 64,
            value_dim: 64,
            query_stride: 9 * 64,
            scale: 0.125,
            softcap: None,
            visible: Visible::Causal {
                first: positions - 1,
                window: None,
            },
        };
        let queries = inputs::floats(9 * 64);
        let cache: Vec<f16> = inputs::floats(positions * 64)
            .into_iter()
            .map(f16::from_f32)
            .collect();
        let mut out = vec![0.0; 3 * 64];
        let mut meter = clock.meter();
        group.bench_function(BenchmarkId::new("f16", positions), |bencher| {
            meter.measure(bencher, || {
                for _ in 0..HEADS {
                    let out = MatrixMut::new(&mut out, 1, 3 * 64).expect("sizes agree");
                    attend(
                        isa,
                        &shape,
                        &queries,
                        Floats::F16(&cache),
                        Floats::F16(&cache),
                        out,
                    )
                    .expect("sizes agree");
                }
            });
        });
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
