//! `cargo xtask test`: every check there is, as named steps that are timed and counted. A step that can't run has failed.

mod at_length;
mod c_interface;
mod emulated;
mod encoders;
mod exports;
mod firmware;
mod host;
mod kernels;
pub mod parity;
mod report;

use crate::shell::say;
use crate::{fetch, packages, python, toolchain};
use anyhow::{Result, bail};
use report::{Finished, Outcome};
use std::time::Instant;

/// One step. Steps need no order: each makes what it needs, or finds it made.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> Result<Outcome>,
}

/// All steps, cheap ones and those that others build upon first.
const STEPS: &[Step] = &[
    Step {
        name: "setup",
        about: "packages, cross toolchain, Python peers",
        run: setup,
    },
    Step {
        name: "fetch",
        about: "models and text, by their digests",
        run: fetch_all,
    },
    Step {
        name: "format",
        about: "rustfmt finds nothing to change",
        run: host::format,
    },
    Step {
        name: "clippy",
        about: "no warnings, in any target of any crate",
        run: host::clippy,
    },
    Step {
        name: "docs",
        about: "rustdoc without warnings",
        run: host::docs,
    },
    Step {
        name: "no-std",
        about: "furlong-core builds for a Cortex-M without std",
        run: host::no_std,
    },
    Step {
        name: "host",
        about: "every crate's tests on this machine",
        run: host::tests,
    },
    Step {
        name: "aarch64-build",
        about: "tests and programs for aarch64 Linux",
        run: emulated::build,
    },
    Step {
        name: "cortex-a53",
        about: "tests on an emulated Cortex-A53 (no dot product)",
        run: emulated::cortex_a53,
    },
    Step {
        name: "cortex-a76",
        about: "tests on an emulated Cortex-A76 (dot product)",
        run: emulated::cortex_a76,
    },
    Step {
        name: "cortex-a-max",
        about: "kernel tests on an emulated core with i8mm",
        run: emulated::cortex_a_max,
    },
    Step {
        name: "firmware",
        about: "the firmware on every emulated board; builds for the real ones",
        run: firmware::boards,
    },
    Step {
        name: "firmware-encoders",
        about: "encoders of text and of features on emulated boards",
        run: encoders::boards,
    },
    Step {
        name: "cortex-m0",
        about: "kernels on an emulated Cortex-M0",
        run: kernels::cortex_m0,
    },
    Step {
        name: "cortex-m4",
        about: "kernels on emulated Cortex-M4 and M7 (DSP)",
        run: kernels::cortex_m4,
    },
    Step {
        name: "cortex-m33",
        about: "kernels on an emulated Cortex-M33 (DSP)",
        run: kernels::cortex_m33,
    },
    Step {
        name: "cortex-m55",
        about: "kernels on an emulated Cortex-M55 (Helium)",
        run: kernels::cortex_m55,
    },
    Step {
        name: "c-interface",
        about: "the C header, and a firmware in C on an emulated Cortex-M4",
        run: c_interface::run,
    },
    Step {
        name: "models",
        about: "the real models exported, and run by ONNX Runtime",
        run: parity::prepare,
    },
    Step {
        name: "parity-host",
        about: "exports judged by onnx and ONNX Runtime, real models against ONNX Runtime",
        run: parity::host,
    },
    Step {
        name: "perplexity",
        about: "8 and 4 bit against f32, on an English text",
        run: parity::perplexity,
    },
    Step {
        name: "parity-aarch64",
        about: "the same tokens on emulated cores",
        run: parity::aarch64,
    },
];

/// Steps that run only when they are named: what they build takes too long for every change.
const ASKED_FOR: &[Step] = &[
    Step {
        name: "vulkan",
        about: "training on Mesa's software Vulkan device (by --only; builds wgpu)",
        run: host::vulkan,
    },
    Step {
        name: "firmware-at-length",
        about: "200 commands on every emulated board, a plan damaged at every byte (by --only)",
        run: at_length::run,
    },
];

/// Shows the steps.
///
/// # Errors
/// Never.
pub fn list() -> Result<()> {
    for step in STEPS.iter().chain(ASKED_FOR) {
        println!("{:15} {}", step.name, step.about);
    }
    Ok(())
}

/// Runs all steps of every change, or the one called `only`, and sums up.
///
/// # Errors
/// When a test failed or a step couldn't run, and when no step has that name.
pub fn run(only: Option<&str>) -> Result<()> {
    let steps: Vec<&Step> = match only {
        None => STEPS.iter().collect(),
        Some(name) => STEPS
            .iter()
            .chain(ASKED_FOR)
            .filter(|step| step.name == name)
            .collect(),
    };
    if steps.is_empty() {
        bail!(
            "no step is called {}; `cargo xtask test --list` shows them",
            only.unwrap_or_default()
        );
    }
    say(format!(
        "test: {} steps: {}",
        steps.len(),
        steps
            .iter()
            .map(|step| step.name)
            .collect::<Vec<_>>()
            .join(", ")
    ));
    let mut finished = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        say(format!(
            "test: [{}/{}] {}: {}",
            index + 1,
            steps.len(),
            step.name,
            step.about
        ));
        let start = Instant::now();
        let outcome = (step.run)().unwrap_or_else(|error| Outcome::broken(&error));
        let done = Finished {
            name: step.name,
            time: start.elapsed(),
            outcome,
        };
        report::show_step(&done);
        finished.push(done);
    }
    report::show_all(&finished)
}

fn setup() -> Result<Outcome> {
    packages::ensure(&[packages::PYTHON, packages::CROSS, packages::EMULATORS])?;
    toolchain::ensure()?;
    python::peers()?;
    Ok(Outcome::passed())
}

fn fetch_all() -> Result<Outcome> {
    fetch::run()?;
    Ok(Outcome::passed())
}
