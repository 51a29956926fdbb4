//! Writes the linker script's memory map, which `cargo xtask` gives from the board's file.

use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=FURLONG_MEMORY");
    println!("cargo::rerun-if-changed=build.rs");
    // An MPS2 board with a Cortex-M4, for whoever builds this by hand.
    let memory = env::var("FURLONG_MEMORY").unwrap_or_else(|_| {
        "MEMORY { FLASH : ORIGIN = 0x00000000, LENGTH = 4M\nRAM : ORIGIN = 0x20000000, LENGTH = 4M }\n"
            .to_string()
    });
    let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(folder.join("memory.x"), memory).expect("cargo's folder can be written");
    println!("cargo::rustc-link-search={}", folder.display());
    println!("cargo::rustc-link-arg=-Tlink.x");
    // Flash need not start at a multiple of a page.
    println!("cargo::rustc-link-arg=--nmagic");
}
