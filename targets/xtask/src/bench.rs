//! `cargo xtask bench`: the criterion benches on a board, their results kept and shown.

use crate::board::{Board, Builder, Runner, WORKSPACE};
use crate::compare::{self, Comparison};
use crate::history::{History, Run};
use crate::models::{self, Base};
use crate::shell::{self, say};
use crate::{bare_metal, board_model, python, workspace};
use anyhow::{Context, Result, bail, ensure};
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

/// What is run, and what becomes of the results.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// One of targets/boards
    #[arg(long, default_value = "host")]
    board: String,
    /// Run only benches whose name contains this
    #[arg(long)]
    filter: Option<String>,
    /// Only single ops: builds in a minute, without models, and without the engine where there is an operating system
    #[arg(long)]
    ops: bool,
    /// Show the results without keeping them
    #[arg(long)]
    dry: bool,
    /// Show what has really changed against a history file or a commit, and fail if something got slower
    #[arg(long, value_name = "OLD")]
    compare: Option<String>,
    /// Measure nothing: compare the newest results that are kept
    #[arg(long, requires = "compare", conflicts_with_all = ["filter", "ops", "dry"])]
    kept: bool,
}

/// Runs the benches on a board, keeps the results and writes the table, and compares, as the options say.
///
/// # Errors
/// When the board is unknown or not reached, when a bench fails, and when something got slower than it was in what is compared
/// with.
pub fn run(options: &Options) -> Result<()> {
    let board = Board::load(&options.board)?;
    let mut history = History::load(&board)?;
    // Read before anything is measured: it may be the very file that is written in the end.
    let old = match &options.compare {
        Some(old) => Some(self::old(old, &board)?),
        None => None,
    };
    let runs = match options.kept {
        true => history.newest_runs(),
        false => measure_all(&board, options)?,
    };
    let comparison = show_changes(old.as_ref().unwrap_or(&history), &runs);
    if !options.dry && !options.kept {
        runs.into_iter().for_each(|run| history.add(run));
        history.save()?;
        crate::history::render()?;
    }
    if old.is_some() {
        ensure!(comparison.compared > 0, "there is nothing to compare with");
        let slower = comparison.regressions();
        ensure!(
            slower == 0,
            "{slower} of {} got slower",
            comparison.compared
        );
    }
    Ok(())
}

/// A history file, or what is kept of the board at a commit.
fn old(old: &str, board: &Board) -> Result<History> {
    match Path::new(old) {
        file if file.is_file() => History::read(file),
        _ => History::at(old, board)
            .with_context(|| format!("{old} is neither a history file nor a commit with one")),
    }
}

/// Says what has really changed.
fn show_changes(old: &History, runs: &[Run]) -> Comparison {
    let mut all = Comparison::default();
    for run in runs {
        let found = compare::against(old, run);
        all.compared += found.compared;
        all.changes.extend(found.changes);
    }
    for change in &all.changes {
        say(format!("bench: {}", change.line()));
    }
    if all.compared > 0 {
        say(format!(
            "bench: {} of {} series have really changed",
            all.changes.len(),
            all.compared
        ));
    }
    all
}

/// Runs the benches, once for each clock of the board.
fn measure_all(board: &Board, options: &Options) -> Result<Vec<Run>> {
    let filter = options.filter.as_deref();
    if board.bare_metal.is_some() {
        return Ok(vec![without_system(board, options)?]);
    }
    let built = |scope: &[&str], args: &[&str]| {
        say(format!(
            "bench: building for {} ({})",
            board.name, board.core
        ));
        board.builder()?.programs_of("bench", scope, args)
    };
    let (programs, models) = if options.ops {
        let scope = ["--package", "furlong-benches", "--no-default-features"];
        let programs = built(&scope, &["--bench", "kernels", "--no-run"])?;
        (programs, String::new())
    } else {
        python::bare()?;
        let exporter = models::exporter(&Builder::Host)?;
        for (base, weights) in MODELS {
            models::export(&exporter, base, weights)?;
        }
        let programs = built(&WORKSPACE, &["--benches", "--no-run"])?;
        (programs, board.deliver(&models::folder()?)?)
    };
    let mut runs = Vec::new();
    for clock in clocks(board) {
        let home = workspace::target()?
            .join("bench")
            .join(format!("{}-{clock}", board.id));
        let start = SystemTime::now();
        for program in programs.iter().filter(|program| program.is_bench) {
            say(format!(
                "bench: {} on {}, measuring {clock}",
                program.name, board.name
            ));
            measure(board, &program.path, &home, clock, &models, filter)?;
        }
        let results = collect(&home, start)?;
        if results.is_empty() {
            bail!(
                "no bench ran; is there one whose name contains {}?",
                filter.unwrap_or_default()
            );
        }
        runs.push(Run::now(clock, results)?);
    }
    Ok(runs)
}

/// Kernels and the built-in model on a board without an operating system, counted in instructions.
fn without_system(board: &Board, options: &Options) -> Result<Run> {
    let wanted = |name: &str| {
        options
            .filter
            .as_deref()
            .is_none_or(|part| name.contains(part))
    };
    let mut results = BTreeMap::new();
    if bare_metal::takes(board) {
        say(format!(
            "bench: kernels on {}, counting instructions",
            board.name
        ));
        results = bare_metal::count(board, &wanted)?;
    }
    if !options.ops {
        say(format!("bench: the built-in model on {}", board.name));
        match board_model::count(board) {
            Ok(counted) => {
                for (name, count) in counted.into_iter().filter(|(name, _)| wanted(name)) {
                    say(format!("bench: {name:40} {:.0}", count[0]));
                    results.insert(name, count);
                }
            }
            // It may be too large for a board on which kernels can be counted all the same.
            Err(error) if !results.is_empty() => say(format!("bench: not counted: {error:#}")),
            Err(error) => return Err(error),
        }
    }
    ensure!(
        !results.is_empty(),
        "nothing was counted; is there something whose name contains {}?",
        options.filter.as_deref().unwrap_or_default()
    );
    Run::now("instructions", results)
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
        _ => home.display().to_string(),
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
