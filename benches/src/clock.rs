//! What is measured: wall time, CPU time or instructions, chosen when a bench program starts.

use crate::Counter;
use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{Criterion, Throughput};
use rustix::time::{ClockId, clock_gettime};
use std::env;
use std::hint::black_box;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A suite of benches that measure with a [`Clock`].
pub type Suite = Criterion<Clock>;
/// Criterion's handle on one bench.
pub type Bencher<'a> = criterion::Bencher<'a, Clock>;

/// What is measured.
#[derive(Debug, Clone)]
pub enum Clock {
    /// Time that passes, in nanoseconds.
    Wall,
    /// Time that this process's threads were running, in nanoseconds: steadier where other programs run too.
    Cpu,
    /// Instructions of an emulated program.
    Instructions(Rc<Counter>),
}

/// Where a measurement began.
#[derive(Debug)]
pub enum Start {
    /// For [`Clock::Wall`].
    Moment(Instant),
    /// For the other clocks: what they stood at.
    Count(u64),
}

impl Clock {
    /// The clock that the environment asks for: instructions where `FURLONG_COUNTER` names the emulator's counter, else
    /// `FURLONG_CLOCK`, `wall` (if unset) or `cpu`.
    ///
    /// # Panics
    /// When the counter can't be opened or there is no such clock: measuring something else would mislead.
    pub fn from_environment() -> Self {
        if let Some(file) = env::var_os("FURLONG_COUNTER") {
            let counter = Counter::open(Path::new(&file));
            return Self::Instructions(Rc::new(
                counter.unwrap_or_else(|error| panic!("{file:?}: {error}")),
            ));
        }
        match env::var("FURLONG_CLOCK").as_deref() {
            Ok("wall") | Err(_) => Self::Wall,
            Ok("cpu") => Self::Cpu,
            Ok(other) => panic!("FURLONG_CLOCK is {other}; there are wall and cpu"),
        }
    }

    /// A suite that measures with this clock and obeys criterion's command line.
    pub fn suite(&self) -> Suite {
        let suite = Criterion::default().with_measurement(self.clone());
        let suite = match self {
            // Counts repeat to the digit: the fewest runs that criterion allows, and no long statistics.
            Self::Instructions(_) => suite
                .sample_size(10)
                .nresamples(1001)
                // One run: warming up for longer would count past 2^64 iterations of what costs no time any more.
                .warm_up_time(Duration::from_nanos(1))
                .measurement_time(Duration::from_millis(1)),
            Self::Wall | Self::Cpu => suite
                .sample_size(20)
                .warm_up_time(Duration::from_millis(500))
                .measurement_time(Duration::from_secs(2)),
        };
        suite.configure_from_args()
    }

    /// What measures one bench.
    pub fn meter(&self) -> Meter<'_> {
        Meter {
            clock: self,
            last: None,
        }
    }

    fn now(&self) -> u64 {
        match self {
            Self::Wall => 0,
            Self::Cpu => {
                let time = clock_gettime(ClockId::ProcessCPUTime);
                time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
            }
            Self::Instructions(counter) => counter.read(),
        }
    }
}

/// Measures one bench with a [`Clock`].
#[derive(Debug)]
pub struct Meter<'a> {
    clock: &'a Clock,
    /// Instructions of the last run, and whether the one before it took as many.
    last: Option<(u64, bool)>,
}

impl Meter<'_> {
    /// Measures `routine`. With instructions a sample is one run; once two runs in a row have cost the same, later samples are
    /// taken to cost that too, which saves minutes of emulation.
    pub fn measure<T>(&mut self, bencher: &mut Bencher<'_>, mut routine: impl FnMut() -> T) {
        match self.clock {
            Clock::Wall | Clock::Cpu => bencher.iter(routine),
            Clock::Instructions(counter) => bencher.iter_custom(|iterations| {
                let count = match self.last {
                    Some((count, true)) => count,
                    _ => {
                        let start = counter.read();
                        black_box(routine());
                        let count = counter.read() - start;
                        self.last =
                            Some((count, self.last.is_some_and(|(before, _)| before == count)));
                        count
                    }
                };
                count * iterations
            }),
        }
    }
}

impl Measurement for Clock {
    type Intermediate = Start;
    type Value = u64;

    fn start(&self) -> Start {
        match self {
            Self::Wall => Start::Moment(Instant::now()),
            Self::Cpu | Self::Instructions(_) => Start::Count(self.now()),
        }
    }

    fn end(&self, start: Start) -> u64 {
        match start {
            Start::Moment(moment) => u64::try_from(moment.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Start::Count(count) => self.now().saturating_sub(count),
        }
    }

    fn add(&self, one: &u64, other: &u64) -> u64 {
        one + other
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, value: &u64) -> f64 {
        *value as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        match self {
            Self::Wall | Self::Cpu => &Units {
                base: "ns",
                steps: ["ns", "µs", "ms"],
                rate: 1e9,
            },
            Self::Instructions(_) => &Units {
                base: "instr",
                steps: ["instr", "K instr", "M instr"],
                rate: 1.0,
            },
        }
    }
}

/// How values are shown.
struct Units {
    base: &'static str,
    /// Names of one, a thousand and a million.
    steps: [&'static str; 3],
    /// What one step of throughput is measured in: a second for times, one instruction for counts.
    rate: f64,
}

impl ValueFormatter for Units {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        let (divisor, unit) = match typical {
            ..1e3 => (1.0, self.steps[0]),
            ..1e6 => (1e3, self.steps[1]),
            _ => (1e6, self.steps[2]),
        };
        values.iter_mut().for_each(|value| *value /= divisor);
        unit
    }

    fn scale_throughputs(
        &self,
        typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        let amount = match *throughput {
            Throughput::Bytes(n)
            | Throughput::BytesDecimal(n)
            | Throughput::Elements(n)
            | Throughput::Bits(n) => n,
            Throughput::ElementsAndBytes { elements, .. } => elements,
        } as f64;
        let (scale, unit) = match amount * self.rate / typical {
            _ if self.rate == 1.0 => (1.0, "an instr"),
            ..1e6 => (1.0, "/s"),
            _ => (1e9, "G/s"),
        };
        values
            .iter_mut()
            .for_each(|value| *value = amount * self.rate / (*value * scale));
        unit
    }

    fn scale_for_machines(&self, _: &mut [f64]) -> &'static str {
        self.base
    }
}
