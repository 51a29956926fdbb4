//! llama.cpp, built from the source that the package `llama-cpp-python` carries, into the cache: for this machine, and for
//! emulated cores.

use crate::shell::{self, say};
use crate::{fetch, packages, python, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "0.3.36";
const SHA256: &str = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e";
const PROGRAMS: [&str; 5] = [
    "llama-bench",
    "llama-completion",
    "llama-perplexity",
    "llama-quantize",
    "llama-tokenize",
];

/// What an emulated core runs, and what its llama.cpp is compiled for: a static build has its kernels chosen then.
const CORES: [(&str, &str); 4] = [
    ("cortex-a53", "armv8-a"),
    ("cortex-a72", "armv8-a"),
    ("cortex-a76", "armv8.2-a+dotprod+fp16"),
    // Its SVE is left out: QEMU's vectors are wider than those of any board.
    ("max", "armv8.2-a+dotprod+fp16+i8mm"),
];

fn home() -> Result<PathBuf> {
    Ok(workspace::cache()?.join("llama.cpp").join(VERSION))
}

/// Builds llama.cpp's programs once, natively; gives the folder they are in.
///
/// # Errors
/// When the source can't be fetched or doesn't build.
pub fn build() -> Result<PathBuf> {
    let build = home()?.join("build");
    let programs = build.join("bin");
    if PROGRAMS
        .iter()
        .all(|program| programs.join(program).is_file())
    {
        return Ok(programs);
    }
    packages::ensure(&[packages::PYTHON, packages::NATIVE_BUILD])?;
    say("peers: building llama.cpp (some ten minutes)");
    let mut options = Vec::new();
    if cfg!(target_arch = "x86_64") {
        // With AMX its matrix products end in a general protection fault on virtual machines (ldtilecfg).
        let flags = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16";
        options.push(format!("-DCMAKE_C_FLAGS={flags}"));
        options.push(format!("-DCMAKE_CXX_FLAGS={flags}"));
    }
    compile(&build, &options, &PROGRAMS)?;
    Ok(programs)
}

/// Builds llama-bench for an emulated core once; gives the program.
///
/// # Errors
/// When we don't know what it is to be compiled for, when the source can't be fetched or doesn't build.
pub fn build_for(core: &str) -> Result<PathBuf> {
    let known = CORES.iter().find(|(name, _)| *name == core);
    let (_, features) = known.with_context(|| {
        let names: Vec<&str> = CORES.iter().map(|(name, _)| *name).collect();
        format!(
            "no llama.cpp is known for a {core}; for {}",
            names.join(", ")
        )
    })?;
    let home = home()?.join("aarch64");
    let program = home.join(format!("llama-bench-{features}"));
    if program.is_file() {
        return Ok(program);
    }
    packages::ensure(&[
        packages::PYTHON,
        packages::NATIVE_BUILD,
        packages::CROSS,
        packages::CROSS_CPP,
    ])?;
    say(format!(
        "peers: building llama.cpp for {features} (some ten minutes, two for each further core)"
    ));
    // One folder for all cores: only the kernels are compiled again.
    let build = home.join("build");
    let options = [
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        "-DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc",
        "-DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",
        "-DGGML_NATIVE=OFF",
    ];
    let mut options: Vec<String> = options.map(String::from).to_vec();
    options.push(format!("-DGGML_CPU_ARM_ARCH={features}"));
    compile(&build, &options, &["llama-bench"])?;
    let partial = program.with_extension(format!("partial-{}", std::process::id()));
    fs::copy(build.join("bin/llama-bench"), &partial)
        .with_context(|| format!("writing {}", partial.display()))?;
    fs::rename(&partial, &program).with_context(|| format!("renaming to {}", program.display()))?;
    Ok(program)
}

/// Configures and builds `programs` in the folder `build`.
fn compile(build: &Path, options: &[String], programs: &[&str]) -> Result<()> {
    let mut configure = Command::new("cmake");
    configure
        .arg("-S")
        .arg(source()?.join("vendor/llama.cpp"))
        .arg("-B")
        .arg(build);
    configure.args([
        "-DCMAKE_BUILD_TYPE=Release",
        "-DBUILD_SHARED_LIBS=OFF",
        "-DLLAMA_BUILD_TESTS=OFF",
        "-DLLAMA_BUILD_EXAMPLES=OFF",
        "-DLLAMA_BUILD_SERVER=OFF",
        "-DLLAMA_OPENSSL=OFF",
        // Its own threads are faster than OpenMP's here, and one library less to find.
        "-DGGML_OPENMP=OFF",
    ]);
    shell::quiet(configure.args(options))?;
    let jobs = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .to_string();
    shell::quiet(
        Command::new("cmake")
            .arg("--build")
            .arg(build)
            .args(["-j", &jobs, "--target"])
            .args(programs),
    )
}

/// The source, downloaded once.
fn source() -> Result<PathBuf> {
    let source = home()?.join("source");
    workspace::create_whole(&source, |partial| {
        say(format!(
            "peers: downloading llama-cpp-python {VERSION} for its llama.cpp"
        ));
        let download = partial.join("download");
        fs::create_dir(&download)?;
        let archive = python::download_source("llama-cpp-python", VERSION, &download)?;
        fetch::check(&archive, SHA256)?;
        shell::quiet(
            Command::new("tar")
                .arg("xzf")
                .arg(&archive)
                .args(["--strip-components=1", "-C"])
                .arg(partial),
        )?;
        Ok(fs::remove_dir_all(download)?)
    })?;
    Ok(source)
}

/// SmolLM2 in one of llama.cpp's formats, made once from the published file by way of F32.
///
/// # Errors
/// When llama.cpp can't make it.
pub fn model(format: &str) -> Result<PathBuf> {
    let folder = workspace::cache()?.join("llama.cpp/models");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("smollm2-{format}.gguf"));
    if file.is_file() {
        return Ok(file);
    }
    let source = if format == "F32" {
        fetch::smollm2()?
    } else {
        model("F32")?
    };
    quantise(&source, &file, format)?;
    Ok(file)
}

fn quantise(source: &Path, file: &Path, format: &str) -> Result<()> {
    let partial = file.with_extension(format!("partial-{}", std::process::id()));
    shell::quiet(
        Command::new(build()?.join("llama-quantize"))
            .arg("--allow-requantize")
            .args([source, &partial])
            .arg(format),
    )?;
    fs::rename(&partial, file).with_context(|| format!("renaming to {}", file.display()))
}

/// What llama-perplexity says of a text, by the same rule as `furlong perplexity`.
///
/// # Errors
/// When it fails or says something else than it used to.
pub fn perplexity(format: &str, text: &Path) -> Result<f64> {
    let mut command = Command::new(build()?.join("llama-perplexity"));
    command
        .arg("-m")
        .arg(model(format)?)
        .arg("-f")
        .arg(text)
        .args(["-c", "512", "-b", "512"]);
    let output = command.output().context("starting llama-perplexity")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let figure = said
        .split_once("Final estimate: PPL = ")
        .and_then(|(_, rest)| rest.split_whitespace().next());
    let Some(figure) = figure else {
        bail!("llama-perplexity gave no estimate for {format}")
    };
    figure
        .parse()
        .with_context(|| format!("llama-perplexity's estimate is {figure}"))
}
