//! Every kernel against its scalar twin, bit for bit, and the twin against what all machines compute.

use crate::samples::{self, Product};
use crate::semihosting::Console;
use core::fmt::Write;
use furlong_core::{Isa, IsaKind, LinearKernel, MatrixMut, WeightFormat, activation};

/// Writes a line for each check and whether it passed; true if all did.
#[inline(never)]
pub fn run() -> bool {
    // SAFETY: the only call of a run.
    let memory = unsafe { crate::memory::rest() };
    let mut passed = selection();
    for isa in Isa::available() {
        let digest = samples::digest(isa, memory);
        passed &= report(
            digest == Some(samples::DIGEST),
            format_args!("digest {}: {digest:?}", isa.name()),
        );
        if isa != Isa::SCALAR {
            passed &= odd_shapes(isa, memory);
            passed &= unusual(isa, memory);
            passed &= gates(isa);
        }
    }
    passed
}

fn report(passed: bool, what: core::fmt::Arguments<'_>) -> bool {
    let verdict = if passed { "passed" } else { "failed" };
    let _ = writeln!(Console, "{verdict}: {what}");
    passed
}

/// The kernel that each format gets, by name: a silent fallback would cost a factor of three.
fn selection() -> bool {
    let mut passed = true;
    for isa in Isa::available() {
        for format in WeightFormat::ALL {
            let name = LinearKernel::select(format, isa).map(|kernel| kernel.name());
            let WeightFormat::Block { bits, block, .. } = format else {
                continue;
            };
            let want = match (isa.kind(), block, bits) {
                (IsaKind::Helium, 32.., 4) => "q4-helium",
                (IsaKind::Helium, 32.., _) => "q8-helium",
                (IsaKind::ArmDsp, 32.., 4) => "q4-arm-dsp",
                (IsaKind::ArmDsp, 32.., _) => "q8-arm-dsp",
                (_, _, 4) => "q4-scalar",
                (_, _, _) => "q8-scalar",
            };
            if name != Ok(want) {
                passed = report(false, format_args!("{format:?} took {name:?}, not {want}"));
            }
        }
    }
    report(passed, format_args!("kernels of {}", Isa::detect().name()))
}

/// Rows, columns and tokens around the edges of tiles, blocks and groups.
fn odd_shapes(isa: Isa, memory: &mut [f32]) -> bool {
    const MOST_SHOWN: usize = 5;
    const COLUMNS: [usize; 12] = [1, 7, 31, 32, 33, 64, 95, 127, 128, 129, 257, 384];
    let mut count = 0;
    let mut differ = 0;
    for (number, format) in WeightFormat::ALL.into_iter().enumerate() {
        let WeightFormat::Block {
            bits,
            block,
            offset,
        } = format
        else {
            continue;
        };
        for (index, columns) in COLUMNS.into_iter().enumerate() {
            for tokens in [1, 2, 5] {
                let product = Product {
                    bits,
                    block: usize::from(block),
                    offset,
                    rows: [1, 16, 19, 33][(index + tokens) % 4],
                    columns,
                    tokens,
                    seed: (number * 1000 + columns) as u64 * 512,
                };
                match agrees(isa, product, memory) {
                    None => {}
                    Some(true) => count += 1,
                    Some(false) => {
                        differ += 1;
                        if differ <= MOST_SHOWN {
                            report(false, format_args!("{} {product:?}", isa.name()));
                        }
                    }
                }
            }
        }
    }
    report(
        differ == 0 && count > 0,
        format_args!("{count} products with {} as without", isa.name()),
    )
}

/// Activations that are no numbers, infinite, or so small or large that scales end, at some places of a pair of tokens.
fn unusual(isa: Isa, memory: &mut [f32]) -> bool {
    const VALUES: [f32; 6] = [
        f32::NAN,
        f32::INFINITY,
        -f32::INFINITY,
        1e-31,
        -1e-40,
        f32::MAX,
    ];
    const PLACES: [usize; 7] = [0, 37, 127, 128, 159, 160, 319];
    let (mut count, mut differ) = (0, 0);
    for (bits, block) in [(8, 32), (8, 64), (8, 128), (4, 32), (4, 128)] {
        let product = Product {
            bits,
            block,
            offset: bits == 4,
            rows: 16,
            columns: 160,
            tokens: 2,
            seed: 1 << 12,
        };
        for value in VALUES {
            for place in PLACES {
                let mut x = [0.0; 320];
                if value.abs() >= 1.0 || value.is_nan() {
                    let numbers = samples::floats(place as u64);
                    x.iter_mut()
                        .zip(numbers)
                        .for_each(|(x, number)| *x = number);
                }
                if let Some(x) = x.get_mut(place) {
                    *x = value;
                }
                let mut run = |isa| {
                    let ready = product.ready(isa, memory)?;
                    let (kernel, out) = (ready.kernel, MatrixMut::new(ready.out, 2, 16).ok()?);
                    kernel.prepare(&x, 2, 160, ready.activations).ok()?;
                    let activations = &*ready.activations;
                    let packed = ready.packed;
                    kernel
                        .multiply(packed, 16, 160, activations, 2, 0..16, out)
                        .ok()?;
                    Some(<[f32; 32]>::try_from(&*ready.out).ok()?.map(bits_of))
                };
                let (own, twin) = (run(isa), run(Isa::SCALAR));
                count += usize::from(own.is_some());
                differ += usize::from(own != twin);
            }
        }
    }
    report(
        differ == 0 && count > 0,
        format_args!(
            "{count} products of unusual numbers with {} as without",
            isa.name()
        ),
    )
}

/// Which NaN it is, a kernel may choose.
fn bits_of(number: f32) -> u32 {
    match number.is_nan() {
        true => 1,
        false => number.to_bits(),
    }
}

/// Gates of all magnitudes, and where the exponential function ends.
fn gates(isa: Isa) -> bool {
    const EDGES: [f32; 6] = [87.336_54, 87.336_55, -88.376_26, -88.376_27, 0.0, -0.0];
    const AT_ONCE: usize = 61;
    let mut all = (0..=u32::MAX)
        .step_by(99_991)
        .map(f32::from_bits)
        .chain(EDGES);
    let (mut count, mut differ) = (0, 0);
    loop {
        let (mut gate, mut up) = ([0.0; AT_ONCE], [0.0; AT_ONCE]);
        let mut len = 0;
        for (gate, value) in gate.iter_mut().zip(&mut all) {
            *gate = value;
            len += 1;
        }
        up.iter_mut()
            .zip(0u8..)
            .for_each(|(up, i)| *up = f32::from(i % 7) - 3.5);
        let run = |isa| {
            let mut out = [0.0; AT_ONCE];
            let rows = MatrixMut::new(&mut out, 1, AT_ONCE).ok()?;
            activation::silu_mul(isa, &gate, &up, rows).ok()?;
            Some(out.map(bits_of))
        };
        differ += usize::from(run(isa) != run(Isa::SCALAR));
        count += len;
        // The iterator is at its end when it doesn't fill all.
        if len < AT_ONCE {
            break;
        }
    }
    report(
        differ == 0,
        format_args!("{count} gates with {} as without", isa.name()),
    )
}

/// Whether a product has the scalar twin's bits; `None` when the memory does not suffice.
fn agrees(isa: Isa, product: Product, memory: &mut [f32]) -> Option<bool> {
    let (want, memory) = memory.split_at_mut_checked(product.rows * product.tokens)?;
    let mut twin = product.ready(Isa::SCALAR, memory)?;
    twin.multiply(&product).ok()?;
    want.copy_from_slice(twin.out);
    let mut ready = product.ready(isa, memory)?;
    ready.multiply(&product).ok()?;
    let mut pairs = want.iter().zip(&*ready.out);
    Some(pairs.all(|(a, b)| a.to_bits() == b.to_bits()))
}
