//! The model that is part of the program, so that its first command works on a fresh machine: home commands to JSON.
//!
//! docs/home-commands.md says what it understands, how well, and how to make it again.

use furlong_runtime::EmbeddedModel;

/// A file of the model's folder.
macro_rules! file {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../models/home-commands/", $name)).as_slice(),
        )
    };
}

/// Turns a spoken home command into one line of JSON.
pub const HOME_COMMANDS: EmbeddedModel = EmbeddedModel::new(
    "built-in model home-commands",
    &[
        file!("model.onnx"),
        file!("model.onnx.data"),
        file!("tokenizer.json"),
        file!("tokenizer_config.json"),
    ],
);
