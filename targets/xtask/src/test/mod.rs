//! `cargo xtask test`: every check there is, as named steps that are timed and counted, two at a time. A step that can't run has failed.

mod at_length;
mod c_interface;
mod emulated;
mod encoders;
mod exports;
mod firmware;
mod host;
mod kernels;
mod lanes;
pub mod parity;
mod report;

use crate::shell::say;
use crate::{fetch, packages, python, toolchain};
use anyhow::{Result, bail};
use lanes::Lane;
use report::Outcome;
use std::time::Instant;

/// One step. Steps need no order: each makes what it needs, or finds it made.
struct Step {
    name: &'static str,
    about: &'static str,
    lane: Lane,
    /// Which steps of the other lane it waits for, because they make what it needs; one's own lane keeps its order.
    after: &'static [&'static str],
    run: fn() -> Result<Outcome>,
}

/// All steps, cheap ones and those that others build upon first.
const STEPS: &[Step] = &[
    Step {
        name: "setup",
        about: "packages, cross toolchain, Python peers",
        lane: Lane::Boards,
        after: &[],
        run: setup,
    },
    Step {
        name: "fetch",
        about: "models and text, by their digests",
        lane: Lane::Boards,
        after: &[],
        run: fetch_all,
    },
    Step {
        name: "format",
        about: "rustfmt finds nothing to change",
        lane: Lane::Linux,
        after: &[],
        run: host::format,
    },
    Step {
        name: "clippy",
        about: "no warnings, in any target of any crate",
        lane: Lane::Linux,
        after: &[],
        run: host::clippy,
    },
    Step {
        name: "docs",
        about: "rustdoc without warnings",
        lane: Lane::Linux,
        after: &[],
        run: host::docs,
    },
    Step {
        name: "no-std",
        about: "furlong-core builds for a Cortex-M without std",
        lane: Lane::Boards,
        after: &[],
        run: host::no_std,
    },
    Step {
        name: "cortex-m0",
        about: "kernels on an emulated Cortex-M0",
        lane: Lane::Boards,
        after: &[],
        run: kernels::cortex_m0,
    },
    Step {
        name: "cortex-m4",
        about: "kernels on emulated Cortex-M4 and M7 (DSP)",
        lane: Lane::Boards,
        after: &[],
        run: kernels::cortex_m4,
    },
    Step {
        name: "cortex-m33",
        about: "kernels on an emulated Cortex-M33 (DSP)",
        lane: Lane::Boards,
        after: &[],
        run: kernels::cortex_m33,
    },
    Step {
        name: "cortex-m55",
        about: "kernels on an emulated Cortex-M55 (Helium)",
        lane: Lane::Boards,
        after: &[],
        run: kernels::cortex_m55,
    },
    Step {
        name: "host-build",
        about: "tests and programs for this machine",
        lane: Lane::Linux,
        after: &[],
        run: host::build,
    },
    Step {
        name: "host",
        about: "every crate's tests on this machine",
        lane: Lane::Linux,
        after: &["fetch"],
        run: host::tests,
    },
    Step {
        name: "aarch64-build",
        about: "tests and programs for aarch64 Linux",
        lane: Lane::Linux,
        after: &["setup"],
        run: emulated::build,
    },
    Step {
        name: "cortex-a53",
        about: "tests on an emulated Cortex-A53 (no dot product)",
        lane: Lane::Linux,
        after: &[],
        run: emulated::cortex_a53,
    },
    Step {
        name: "cortex-a76",
        about: "tests on an emulated Cortex-A76 (dot product)",
        lane: Lane::Linux,
        after: &[],
        run: emulated::cortex_a76,
    },
    Step {
        name: "cortex-a-max",
        about: "kernel tests on an emulated core with i8mm",
        lane: Lane::Linux,
        after: &[],
        run: emulated::cortex_a_max,
    },
    Step {
        name: "firmware",
        about: "the firmware on every emulated board; builds for the real ones",
        lane: Lane::Boards,
        after: &["host-build"],
        run: firmware::boards,
    },
    Step {
        name: "firmware-encoders",
        about: "encoders of text and of features on emulated boards",
        lane: Lane::Boards,
        after: &[],
        run: encoders::boards,
    },
    Step {
        name: "c-interface",
        about: "the C header, and a firmware in C on an emulated Cortex-M4",
        lane: Lane::Boards,
        after: &[],
        run: c_interface::run,
    },
    Step {
        name: "models",
        about: "the real models exported, and run by ONNX Runtime",
        lane: Lane::Boards,
        after: &[],
        run: parity::prepare,
    },
    Step {
        name: "perplexity",
        about: "8 and 4 bit against f32, on an English text",
        lane: Lane::Boards,
        after: &[],
        run: parity::perplexity,
    },
    Step {
        name: "parity-host",
        about: "exports judged by onnx and ONNX Runtime, real models against ONNX Runtime",
        lane: Lane::Boards,
        after: &[],
        run: parity::host,
    },
    Step {
        name: "parity-aarch64",
        about: "the same tokens on emulated cores",
        lane: Lane::Linux,
        after: &["parity-host"],
        run: parity::aarch64,
    },
];

/// Steps that run only when they are named: what they build takes too long for every change.
const ASKED_FOR: &[Step] = &[
    Step {
        name: "vulkan",
        about: "training on Mesa's software Vulkan device (by --only; builds wgpu)",
        lane: Lane::Linux,
        after: &[],
        run: host::vulkan,
    },
    Step {
        name: "firmware-at-length",
        about: "200 commands on every emulated board, a plan damaged at every byte (by --only)",
        lane: Lane::Boards,
        after: &[],
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

/// Runs all steps of every change, or those called `only`, and sums up.
///
/// # Errors
/// When a test failed or a step couldn't run, and when no step has that name.
pub fn run(only: &[String]) -> Result<()> {
    let all = || STEPS.iter().chain(ASKED_FOR);
    if let Some(unknown) = only
        .iter()
        .find(|name| all().all(|step| step.name != **name))
    {
        bail!("no step is called {unknown}; `cargo xtask test --list` shows them");
    }
    let steps: Vec<&Step> = match only {
        [] => STEPS.iter().collect(),
        _ => all()
            .filter(|step| only.iter().any(|name| step.name == name))
            .collect(),
    };
    say(format!(
        "test: {} steps: {}",
        steps.len(),
        steps
            .iter()
            .map(|step| step.name)
            .collect::<Vec<_>>()
            .join(", ")
    ));
    let start = Instant::now();
    let finished = lanes::run(&steps);
    report::show_all(&finished, start.elapsed())
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
