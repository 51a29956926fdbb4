//! Ours and llama.cpp on an emulated board, in instructions a token: time means nothing there, counts repeat to the digit.
//!
//! A count is the difference of two runs that are alike but for the tokens counted, so that loading is in neither.

use super::entrants::{self, Work};
use super::{Section, llama, samples};
use crate::board::{Board, Builder, Runner};
use crate::models::{self, Base};
use crate::shell::{self, say};
use crate::{build, workspace};
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tokens of the prompt, and in the cache when decoding.
const PROMPT: usize = 32;
/// Tokens decoded in the shorter and in the longer of two runs.
const DECODED: [usize; 2] = [1, 3];

/// Millions of instructions a token.
#[derive(Debug, Clone, Copy, Serialize)]
struct Counts {
    prompt: f64,
    decode: f64,
}

#[derive(Debug, Serialize)]
struct Row {
    ours: String,
    theirs: String,
    counts: Counts,
    their_counts: Counts,
}

/// Counts and compares, with one thread.
///
/// # Errors
/// When the board isn't an emulated one, or a peer can't be built or run.
pub fn compare(board: &str) -> Result<Section> {
    // QEMU's name for the core that has everything.
    let id = if board == "max" {
        "cortex-a-max"
    } else {
        board
    };
    let board = Board::load(id)?;
    let Runner::Emulated { cpu } = &board.run else {
        bail!(
            "{id}: instructions are counted on emulated boards only; leave --board out to measure time here"
        );
    };
    let exporter = models::exporter(&Builder::Host)?;
    let counter = Counter::new(&board)?;
    let furlong = build::furlong(&board.builder()?)?;
    let llama_bench = llama::build_for(cpu)?;
    let mut rows = Vec::new();
    for (weights, format) in [("q4", "Q4_0"), ("q8", "Q8_0")] {
        let model = models::export(&exporter, Base::SmolLm2, weights)?;
        say(format!("peers: furlong {weights} on {}", board.name));
        let counts = counter.furlong(&furlong, &model)?;
        say(format!("peers: llama.cpp {format} on {}", board.name));
        let their_counts = counter.llama(&llama_bench, &llama::model(format)?)?;
        rows.push(Row {
            ours: format!("furlong {weights}"),
            theirs: format!("llama.cpp {format}"),
            counts,
            their_counts,
        });
    }
    let mut text = format!(
        "\n| {}, M instructions a token | prompt of {PROMPT} | ratio | decode after {PROMPT} | ratio |\n|---|---:|---:|---:|---:|\n",
        board.core
    );
    let cell = samples::significant;
    for row in &rows {
        let (ours, theirs) = (row.counts, row.their_counts);
        text += &format!(
            "| {} | {} | {:.2} | {} | {:.2} |\n| {} | {} | | {} | |\n",
            row.ours,
            cell(ours.prompt),
            ours.prompt / theirs.prompt,
            cell(ours.decode),
            ours.decode / theirs.decode,
            row.theirs,
            cell(theirs.prompt),
            cell(theirs.decode),
        );
    }
    Section::new(text, &rows)
}

/// Runs programs on a board and counts.
struct Counter<'b> {
    board: &'b Board,
    file: PathBuf,
}

impl<'b> Counter<'b> {
    fn new(board: &'b Board) -> Result<Counter<'b>> {
        let folder = workspace::target()?.join("peers");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let file = folder.join(format!("counter-{}", std::process::id()));
        Ok(Counter { board, file })
    }

    /// Instructions of a whole run, in millions.
    fn count(&self, command: &Command) -> Result<f64> {
        let program = Path::new(command.get_program());
        let mut counted = self.board.counting_command(program, &self.file, &[])?;
        shell::quiet(counted.args(command.get_args()))?;
        let bytes =
            fs::read(&self.file).with_context(|| format!("reading {}", self.file.display()))?;
        let bytes: [u8; 8] = bytes
            .try_into()
            .ok()
            .context("the counter has eight bytes")?;
        Ok(u64::from_le_bytes(bytes) as f64 / 1e6)
    }

    fn furlong(&self, program: &Path, model: &Path) -> Result<Counts> {
        let run = |prompt: usize, decoded: usize, depth: usize, repeat: usize| {
            let mut command = Command::new(program);
            command
                .args(["bench", "--no-ceiling", "--threads", "1"])
                .args(["-p", &prompt.to_string(), "-n", &decoded.to_string()])
                .args(["--depth", &depth.to_string()])
                .args(["--repeat", &repeat.to_string(), "--model"])
                .arg(model);
            self.count(&command)
        };
        let [few, more] = DECODED;
        Ok(Counts {
            prompt: (run(PROMPT, 0, 0, 2)? - run(PROMPT, 0, 0, 1)?) / PROMPT as f64,
            decode: (run(1, more, PROMPT, 1)? - run(1, few, PROMPT, 1)?) / (more - few) as f64,
        })
    }

    fn llama(&self, program: &Path, model: &Path) -> Result<Counts> {
        let run = |prompt: usize, decoded: usize, depth: usize, repetitions: usize| {
            let work = Work {
                prompt,
                decoded,
                depth,
                threads: 1,
            };
            let mut command = entrants::llama_bench(program, model, work, repetitions);
            self.count(command.arg("--no-warmup"))
        };
        let [few, more] = DECODED;
        Ok(Counts {
            prompt: (run(PROMPT, 0, 0, 2)? - run(PROMPT, 0, 0, 1)?) / PROMPT as f64,
            decode: (run(0, more, PROMPT, 1)? - run(0, few, PROMPT, 1)?) / (more - few) as f64,
        })
    }
}

impl Drop for Counter<'_> {
    fn drop(&mut self) {
        // Nobody reads it again; one left behind does no harm.
        let _ = fs::remove_file(&self.file);
    }
}
