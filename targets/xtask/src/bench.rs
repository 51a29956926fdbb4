//! `cargo xtask bench`: the criterion benches on a board, their results kept and shown.

use crate::board::{Board, Runner};
use crate::history::{History, Run};
use crate::models::{self, Base};
use crate::shell::{self, say};
use crate::{python, workspace};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The exports that benches/benches/models.rs measures.
const MODELS: [(Base, &str); 4] = [
    (Base::SmolLm2, "q4"),
    (Base::SmolLm2, "q8"),
    (Base::MiniLm, "q8"),
    (Base::MiniLm, "f32"),
];

/// Runs the benches on a board; unless `dry`, keeps the results and writes the table.
///
/// # Errors
/// When the board is unknown or not reached, or when a bench fails.
pub fn run(board: &str, filter: Option<&str>, dry: bool) -> Result<()> {
    let board = Board::load(board)?;
    python::bare()?;
    let exporter = models::exporter()?;
    for (base, weights) in MODELS {
        models::export(&exporter, base, weights)?;
    }
    say(format!(
        "bench: building for {} ({})",
        board.name, board.core
    ));
    let programs = board
        .builder()?
        .programs("bench", &["--benches", "--no-run"])?;
    let models = board.deliver(&models::folder()?)?;
    let mut history = History::load(&board)?;
    for clock in clocks(&board) {
        let home = workspace::target()?
            .join("bench")
            .join(format!("{}-{clock}", board.id));
        let start = SystemTime::now();
        for program in programs.iter().filter(|program| program.is_bench) {
            say(format!(
                "bench: {} on {}, measuring {clock}",
                program.name, board.name
            ));
            measure(&board, &program.path, &home, clock, &models, filter)?;
        }
        let results = collect(&home, start)?;
        if results.is_empty() {
            bail!(
                "no bench ran; is there one whose name contains {}?",
                filter.unwrap_or_default()
            );
        }
        history.add(Run::now(clock, results)?);
    }
    if dry {
        return Ok(());
    }
    history.save()?;
    crate::history::render()
}

/// What is measured there.
fn clocks(board: &Board) -> &'static [&'static str] {
    if board.counts_instructions() {
        &["instructions"]
    } else {
        &["wall", "cpu"]
    }
}

/// Runs one bench program; criterion's results end up in `home`.
fn measure(
    board: &Board,
    program: &Path,
    home: &Path,
    clock: &str,
    models: &str,
    filter: Option<&str>,
) -> Result<()> {
    fs::create_dir_all(home).with_context(|| format!("creating {}", home.display()))?;
    let there = match board.run {
        Runner::Ssh { .. } => "criterion".to_string(),
        Runner::Host | Runner::Emulated { .. } => home.display().to_string(),
    };
    let environment = [
        ("CRITERION_HOME", there.as_str()),
        ("FURLONG_MODELS", models),
        ("FURLONG_CLOCK", clock),
    ];
    let mut command = if board.counts_instructions() {
        board.counting_command(program, &home.join("counter"), &environment)?
    } else {
        board.command(program, &environment)?
    };
    command
        .arg("--bench")
        .args(filter)
        .current_dir(workspace::root()?);
    shell::run(&mut command)?;
    board.fetch(&there, home)
}

/// Reads what criterion has written since `start`: medians and their deviations by the bench's name.
fn collect(home: &Path, start: SystemTime) -> Result<BTreeMap<String, [f64; 2]>> {
    let mut results = BTreeMap::new();
    let mut folders = vec![home.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let estimates = folder.join("estimates.json");
        let written = fs::metadata(&estimates).and_then(|data| data.modified());
        if folder.ends_with("new") && written.is_ok_and(|time| time >= start) {
            let name = read(&folder.join("benchmark.json"))?["full_id"]
                .as_str()
                .map(String::from);
            let estimates = read(&estimates)?;
            let number = |key: &str| estimates[key]["point_estimate"].as_f64();
            let result = name.zip(number("median")).zip(number("median_abs_dev"));
            let ((name, median), deviation) = result.with_context(|| {
                format!("{}: not what criterion used to write", folder.display())
            })?;
            results.insert(name, [median, deviation]);
        }
        let inside =
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        folders.extend(
            inside
                .flatten()
                .map(|entry| entry.path())
                .filter(|path: &PathBuf| path.is_dir()),
        );
    }
    Ok(results)
}

fn read(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
}
