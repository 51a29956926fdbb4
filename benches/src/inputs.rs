//! What is measured on: made-up weights and activations, and where the exported models are.

use std::env;
use std::path::{Path, PathBuf};

/// Numbers between -1 and 1 that look random and are the same on every machine.
pub fn floats(count: usize) -> Vec<f32> {
    bytes(count)
        .into_iter()
        .map(|byte| f32::from(byte) / 127.5 - 1.0)
        .collect()
}

/// Bytes that look random and are the same on every machine: the high bits of a linear congruential generator
/// (D. Knuth's MMIX constants).
pub fn bytes(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// The folder of an exported model, such as `smollm2-q4`: in `FURLONG_MODELS`, or where `cargo xtask` leaves its exports.
///
/// # Errors
/// A message for the user when it isn't there.
pub fn model(name: &str) -> Result<PathBuf, String> {
    let folder = match env::var_os("FURLONG_MODELS") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/models"),
    };
    let model = folder.join(name);
    if model.join("model.onnx").is_file() {
        return Ok(model);
    }
    Err(format!(
        "{}: no model here; `cargo xtask bench` makes it (or set FURLONG_MODELS)",
        model.display()
    ))
}
