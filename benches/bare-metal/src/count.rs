//! Instructions of the kernels at the shapes that CMSIS-NN's were counted at.

use crate::samples::Product;
use crate::semihosting::{Console, Counter};
use core::fmt::Write;
use furlong_core::Isa;

/// Output rows, input columns: those of the peer's figures.
const SHAPES: [(usize, usize); 3] = [(128, 128), (128, 512), (1024, 256)];
/// Tokens of a prompt.
const PROMPT: usize = 16;

/// Writes a line `NAME INSTRUCTIONS UNITS` for each series: what one call takes, and the units it does, multiply-accumulates or
/// elements.
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
                    let name =
                        format_args!("linear/q{bits}{offsets}/{block}/{rows}x{columns}/{tokens}");
                    meter.count(name, rows * columns * tokens, || {
                        let _ = ready.multiply(&product);
                    });
                }
            }
        }
    }
}
