//! Writes `include/furlong.h` from the library's source; with `--check`, fails if the one that is there differs.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        include_guard: Some("FURLONG_H".to_string()),
        header: Some(
            "/* furlong-core for firmware written in C: a language model from flash, without a heap.\n *\n \
             * Written by `cargo run -p furlong-header` in runtime/c, from src/lib.rs. */"
                .to_string(),
        ),
        no_includes: true,
        sys_includes: vec!["stddef.h".to_string(), "stdint.h".to_string()],
        cpp_compat: true,
        documentation_style: cbindgen::DocumentationStyle::C,
        enumeration: cbindgen::EnumConfig {
            rename_variants: cbindgen::RenameRule::QualifiedScreamingSnakeCase,
            ..Default::default()
        },
        usize_is_size_t: true,
        ..Default::default()
    };
    let builder = cbindgen::Builder::new()
        .with_config(config)
        .with_src(folder.join("src/lib.rs"));
    let bindings = match builder.generate() {
        Ok(bindings) => bindings,
        Err(error) => {
            eprintln!("src/lib.rs: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut text = Vec::new();
    bindings.write(&mut text);
    let file = folder.join("include/furlong.h");
    if env::args().nth(1).as_deref() == Some("--check") {
        if fs::read(&file).is_ok_and(|there| there == text) {
            return ExitCode::SUCCESS;
        }
        eprintln!(
            "include/furlong.h is not what src/lib.rs makes: run `cargo run -p furlong-header` in runtime/c"
        );
        return ExitCode::FAILURE;
    }
    match fs::write(&file, text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}
