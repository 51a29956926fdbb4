//! `cargo xtask peers`: the same work done by Furlong, llama.cpp, ONNX Runtime and stock tract, in turns, side by side.

mod depth;
mod encoder;
mod entrants;
mod footprint;
mod instructions;
mod llama;
mod perplexity;
mod process;
mod samples;
mod speed;
mod threads;

use crate::shell::say;
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, Value};
use std::fs;
use std::path::PathBuf;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Only build llama.cpp
    Build,
    /// Perplexity of every weight format on one text
    Perplexity,
    /// Time a token, reading a prompt and decoding
    Speed,
    /// What a second thread is worth
    Threads,
    /// Decoding after 64 and after 2048 tokens
    Depth,
    /// Loading, first token, memory
    Footprint,
    /// Sentence embeddings
    Encoder,
}

/// How it is compared.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only this part
    #[arg(long)]
    only: Option<Part>,
    /// How often each peer has its turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// The numbers of threads that speed is measured with
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// Measure threads beside a program that keeps a core busy, too
    #[arg(long)]
    busy: bool,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Count instructions on this emulated board instead of measuring time
    #[arg(long, conflicts_with_all = ["only", "rounds", "threads", "busy"])]
    board: Option<String>,
}

/// What a part found: a text for people and the figures for programs.
struct Section {
    text: String,
    figures: Value,
}

/// How a part is compared.
type Compare = fn(&Options) -> Result<Section>;

impl Section {
    fn new(text: String, figures: &impl Serialize) -> Result<Section> {
        let figures = serde_json::to_value(figures).context("keeping the figures")?;
        Ok(Section { text, figures })
    }
}

/// Builds the peers and compares, everything or one part.
///
/// # Errors
/// When a peer can't be had or built. One that can't run is listed with its reason.
pub fn run(options: &Options) -> Result<()> {
    let mut found = Map::new();
    let mut keep = |name: &str, section: Section| {
        println!("{}", section.text);
        found.insert(name.to_string(), section.figures);
    };
    if let Some(board) = &options.board {
        keep("instructions", instructions::compare(board)?);
    } else {
        llama::build()?;
        let parts: [(Part, &str, Compare); 6] = [
            (Part::Perplexity, "perplexity", perplexity::compare),
            (Part::Speed, "speed", speed::compare),
            (Part::Threads, "threads", threads::compare),
            (Part::Depth, "depth", depth::compare),
            (Part::Footprint, "footprint", footprint::compare),
            (Part::Encoder, "encoder", encoder::compare),
        ];
        for (part, name, compare) in parts {
            if options.only.is_none_or(|only| only == part) {
                keep(name, compare(options)?);
            }
        }
    }
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&found)?;
        fs::write(file, text + "\n").with_context(|| format!("writing {}", file.display()))?;
        say(format!("peers: wrote {}", file.display()));
    }
    Ok(())
}
