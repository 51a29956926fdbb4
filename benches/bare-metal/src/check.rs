//! Every kernel against its scalar twin, bit for bit, and the twin against what all machines compute.

use crate::samples::{self, Product};
use crate::semihosting::Console;
use core::fmt::Write;
use furlong_core::{Isa, IsaKind, LinearKernel, WeightFormat};

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
