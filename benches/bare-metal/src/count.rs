//! Instructions of the kernels at the shapes that CMSIS-NN's were counted at.

use crate::samples::{self, Product};
use crate::semihosting::{Console, Counter};
use core::fmt::Write;
use core::hint::black_box;
use furlong_core::attention::{
    AttentionShape, Q8_POSITIONS, Q8Groups, Visible, attend, attend_q8, narrow_to_f16, q8_scales,
    store_key, store_value,
};
use furlong_core::{Floats, Isa, MatrixMut, activation, argmax, f16, norm, softmax};

/// Output rows, input columns: those of the peer's figures.
const SHAPES: [(usize, usize); 3] = [(128, 128), (128, 512), (1024, 256)];
/// Tokens of a prompt.
const PROMPT: usize = 16;

// Functions with large variables are not inlined: one task's would lie on the other's stack.

/// Writes a line `NAME INSTRUCTIONS UNITS` for each series: what one call takes, and the units it does, multiply-accumulates or
/// elements.
#[inline(never)]
pub fn run() -> bool {
    // SAFETY: the only call of a run.
    let memory = unsafe { crate::memory::rest() };
    let Some(counter) = Counter::open() else {
        let _ = writeln!(Console, "failed: there is no file called counter");
        return false;
    };
    let isa = Isa::detect();
    let _ = writeln!(Console, "isa {}", isa.name());
    let meter = Meter::new(counter);
    linear(&meter, isa, memory);
    small(&meter, isa);
    attention(&meter, isa);
    true
}

/// Counts what calls take.
struct Meter {
    counter: Counter,
    /// What counting nothing takes.
    own: u64,
}

impl Meter {
    fn new(counter: Counter) -> Meter {
        counter.read();
        let before = counter.read();
        let own = counter.read() - before;
        Meter { counter, own }
    }

    fn count(&self, name: core::fmt::Arguments<'_>, units: usize, work: impl FnOnce()) {
        let before = self.counter.read();
        work();
        let count = (self.counter.read() - before).saturating_sub(self.own);
        let _ = writeln!(Console, "{name} {count} {units}");
    }
}

/// Activations quantised, multiplied, scaled; with blocks of 128 columns as the built-in model has, and of 32.
fn linear(meter: &Meter, isa: Isa, memory: &mut [f32]) {
    for (bits, offset) in [(8, false), (4, false), (4, true)] {
        for block in [32, 128] {
            for (rows, columns) in SHAPES {
                for tokens in [1, PROMPT] {
                    let product = Product {
                        bits,
                        block,
                        offset,
                        rows,
                        columns,
                        tokens,
                        seed: 1 << 20,
                    };
                    let Some(mut ready) = product.ready(isa, memory) else {
                        continue;
                    };
                    let offsets = if offset { "-offsets" } else { "" };
                    let name = format_args!(
                        "linear/q{bits}{offsets}-block{block}/{rows}x{columns}/{tokens}"
                    );
                    meter.count(name, rows * columns * tokens, || {
                        let _ = ready.multiply(&product);
                    });
                }
            }
        }
    }
}

/// Steps that touch each value a few times, at the widths of the built-in model.
#[inline(never)]
fn small(meter: &Meter, isa: Isa) {
    let mut values = numbers::<512>(1);
    meter.count(format_args!("softmax/64"), 64, || {
        softmax::softmax(isa, &mut values[..64]);
        black_box(&values);
    });
    let mut values = numbers::<512>(2);
    meter.count(format_args!("softmax/512"), 512, || {
        softmax::softmax(isa, &mut values);
        black_box(&values);
    });
    let (x, weight, mut out) = (numbers::<128>(3), numbers::<128>(4), [0.0; 128]);
    meter.count(format_args!("rms_norm/128"), 128, || {
        let _ = norm::rms_norm(isa, &x, &weight, 1e-5, &mut out);
        black_box(&out);
    });
    let (gate, up, mut out) = (numbers::<384>(5), numbers::<384>(6), [0.0; 384]);
    meter.count(format_args!("silu_mul/384"), 384, || {
        if let Ok(out) = MatrixMut::new(&mut out, 1, 384) {
            let _ = activation::silu_mul(isa, &gate, &up, out);
        }
        black_box(&out);
    });
    let values = numbers::<512>(7);
    meter.count(format_args!("argmax/512"), 512, || {
        black_box(argmax::argmax(isa, &values));
    });
}

/// Two query heads on one key/value head at the end of a context of 64.
#[inline(never)]
fn attention(meter: &Meter, isa: Isa) {
    const POSITIONS: usize = 64;
    const HEAD: usize = 32;
    const VALUES: usize = POSITIONS * HEAD;
    const SCALES: usize = POSITIONS * q8_scales(HEAD);
    let shape = AttentionShape {
        tokens: 1,
        group: 2,
        head_dim: HEAD,
        value_dim: HEAD,
        query_stride: 2 * HEAD,
        scale: 0.2,
        softcap: None,
        visible: Visible::All,
    };
    let units = 2 * 2 * VALUES;
    let queries = numbers::<{ 2 * HEAD }>(8);
    let mut out = [0.0; 2 * HEAD];
    {
        let (mut keys, mut values) = ([f16::ZERO; VALUES], [f16::ZERO; VALUES]);
        for (row, keys) in keys.chunks_exact_mut(HEAD).enumerate() {
            let x = numbers::<HEAD>(row as u64);
            let _ = narrow_to_f16(isa, &x, keys);
        }
        values.copy_from_slice(&keys);
        meter.count(format_args!("attention/f16/64"), units, || {
            if let Ok(out) = MatrixMut::new(&mut out, 1, 2 * HEAD) {
                let (keys, values) = (Floats::F16(&keys), Floats::F16(&values));
                let _ = attend(isa, &shape, &queries, keys, values, out);
            }
            black_box(&out);
        });
    }
    let (mut key_codes, mut key_scales) = ([0i8; VALUES], [0.0; SCALES]);
    let (mut value_codes, mut value_scales) = ([0i8; VALUES], [0.0; SCALES]);
    let (codes, scales) = (Q8_POSITIONS * HEAD, Q8_POSITIONS * q8_scales(HEAD));
    for position in 0..POSITIONS {
        let x = numbers::<HEAD>(position as u64);
        let (group, place) = (position / Q8_POSITIONS, position % Q8_POSITIONS);
        let (of_codes, of_scales) = (
            group * codes..(group + 1) * codes,
            group * scales..(group + 1) * scales,
        );
        if let (Some(codes), Some(scales)) = (
            key_codes.get_mut(of_codes.clone()),
            key_scales.get_mut(of_scales.clone()),
        ) {
            let _ = store_key(isa, &x, place, codes, scales);
        }
        if let (Some(codes), Some(scales)) = (
            value_codes.get_mut(of_codes),
            value_scales.get_mut(of_scales),
        ) {
            let _ = store_value(isa, &x, place, codes, scales);
        }
    }
    let keys = Q8Groups {
        codes: &key_codes,
        scales: &key_scales,
    };
    let values = Q8Groups {
        codes: &value_codes,
        scales: &value_scales,
    };
    meter.count(format_args!("attention/q8/64"), units, || {
        if let Ok(out) = MatrixMut::new(&mut out, 1, 2 * HEAD) {
            let _ = attend_q8(isa, &shape, &queries, keys, values, POSITIONS, out);
        }
        black_box(&out);
    });
}

fn numbers<const N: usize>(seed: u64) -> [f32; N] {
    let mut numbers = [0.0; N];
    let values = samples::floats(seed * 1000);
    numbers.iter_mut().zip(values).for_each(|(n, v)| *n = v);
    numbers
}
