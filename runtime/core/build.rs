//! Says which of Arm's instruction sets for microcontrollers the code is built for.
//!
//! Without an operating system nothing can be asked when the program runs, and stable Rust hides these target features from
//! `cfg(target_feature)`. So they follow from the target's name, and from `-C target-cpu` where the name leaves them open.

use std::env;

/// Cores of Armv8-M Mainline with the DSP extension.
const DSP_CORES: [&str; 3] = ["cortex-m33", "cortex-m35p", "star-mc1"];
/// Cores with Helium for integers and floats. They have the DSP extension too.
const HELIUM_CORES: [&str; 3] = ["cortex-m52", "cortex-m55", "cortex-m85"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(arm_fpu, arm_dsp, arm_helium)");
    let target = env::var("TARGET").unwrap_or_default();
    if !target.starts_with("thumb") || !target.ends_with("-none-eabihf") {
        // No FPU: the kernels with DSP instructions scale in floats, they would gain little.
        return;
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let core = flags.split('\x1f').rev().find_map(|flag| {
        let flag = flag.strip_prefix("-C").unwrap_or(flag);
        flag.strip_prefix("target-cpu=")
    });
    let is_one_of = |cores: [&str; 3]| core.is_some_and(|core| cores.contains(&core));
    let helium = is_one_of(HELIUM_CORES);
    let dsp = target.starts_with("thumbv7em-") || is_one_of(DSP_CORES) || helium;
    println!("cargo::rustc-cfg=arm_fpu");
    if dsp {
        println!("cargo::rustc-cfg=arm_dsp");
        // Assembler outside of functions knows nothing of the target's features until it is told the core.
        let core = core.filter(|_| !target.starts_with("thumbv7em-"));
        println!(
            "cargo::rustc-env=FURLONG_ARM_CORE={}",
            core.unwrap_or("cortex-m4")
        );
    }
    if helium {
        println!("cargo::rustc-cfg=arm_helium");
    }
}
