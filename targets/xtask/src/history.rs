//! Results of benches, kept per board in `benches/history/`, and the table of docs/benchmarks.md made from them.

use crate::board::Board;
use crate::shell::{self, say};
use crate::workspace;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const BEGIN: &str = "<!-- results: written by `cargo xtask bench` -->";
const END: &str = "<!-- end of results -->";
/// What a new page starts with.
const PAGE: &str = "# Benchmarks\n";

/// All runs on one board, oldest first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// The board's id.
    board: String,
    runs: Vec<Run>,
}

/// One run of some or all benches.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    date: String,
    /// The commit, with a `+` when the tree had changes.
    revision: String,
    /// `wall` and `cpu` are in nanoseconds.
    clock: String,
    /// Median and median absolute deviation by the bench's name.
    results: BTreeMap<String, [f64; 2]>,
}

impl Run {
    /// A run that has just ended.
    ///
    /// # Errors
    /// When git or date can't be run.
    pub fn now(clock: &str, results: BTreeMap<String, [f64; 2]>) -> Result<Self> {
        let root = workspace::root()?;
        let git = |args: &[&str]| shell::capture(shell::command("git", args).current_dir(&root));
        let changed = git(&[
            "status",
            "--porcelain",
            "--",
            ".",
            ":!benches/history",
            ":!docs",
        ])?;
        let mark = if changed.trim().is_empty() { "" } else { "+" };
        Ok(Self {
            date: shell::capture(Command::new("date").args(["-u", "+%F"]))?
                .trim()
                .to_string(),
            revision: format!(
                "{}{mark}",
                git(&["rev-parse", "--short=10", "HEAD"])?.trim()
            ),
            clock: clock.to_string(),
            results,
        })
    }
}

impl History {
    /// What has been kept of a board, nothing for a new one.
    ///
    /// # Errors
    /// When its file is damaged.
    pub fn load(board: &Board) -> Result<Self> {
        let file = file(&board.id)?;
        if !file.exists() {
            return Ok(Self {
                board: board.id.clone(),
                runs: Vec::new(),
            });
        }
        let text =
            fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
    }

    /// Adds a run and says what changed against the one before by more than three times its noise.
    pub fn add(&mut self, run: Run) {
        for (name, [now, _]) in &run.results {
            let before = self
                .runs
                .iter()
                .rev()
                .filter(|old| old.clock == run.clock)
                .find_map(|old| old.results.get(name));
            if let Some([before, noise]) = before
                && (now - before).abs() > (3.0 * noise).max(before * 0.001)
            {
                let change = (now / before - 1.0) * 100.0;
                say(format!(
                    "bench: {name} ({}): {change:+.1} % against the last kept run",
                    run.clock
                ));
            }
        }
        self.runs.push(run);
    }

    /// Writes it back.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self) -> Result<()> {
        let file = file(&self.board)?;
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
    }

    /// The newest value of each bench measured with `clock`.
    fn newest(&self, clock: &str) -> BTreeMap<&str, f64> {
        let runs = self.runs.iter().filter(|run| run.clock == clock);
        runs.flat_map(|run| &run.results)
            .map(|(name, [median, _])| (name.as_str(), *median))
            .collect()
    }
}

fn file(board: &str) -> Result<PathBuf> {
    let folder = workspace::root()?.join("benches/history");
    fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{board}.json")))
}

/// Writes the table of all boards' newest results into docs/benchmarks.md, between its markers.
///
/// # Errors
/// When a file can't be read or written.
pub fn render() -> Result<()> {
    let mut boards = Vec::new();
    for id in Board::ids()? {
        let board = Board::load(&id)?;
        let history = History::load(&board)?;
        if !history.runs.is_empty() {
            boards.push((board, history));
        }
    }
    let table = table(&boards)?;
    let page = workspace::root()?.join("docs/benchmarks.md");
    let text = fs::read_to_string(&page).unwrap_or_else(|_| PAGE.to_string());
    let text = match text
        .split_once(BEGIN)
        .and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)))
    {
        Some((before, after)) => format!("{before}{BEGIN}\n{table}{END}{after}"),
        None => format!("{text}\n{BEGIN}\n{table}{END}\n"),
    };
    fs::write(&page, text).with_context(|| format!("writing {}", page.display()))?;
    say(format!("bench: wrote {}", page.display()));
    Ok(())
}

fn table(boards: &[(Board, History)]) -> Result<String> {
    let mut columns: Vec<(String, BTreeMap<&str, f64>, f64)> = Vec::new();
    let mut text = String::from("\n");
    for (board, history) in boards {
        for (clock, unit, divisor) in [
            ("wall", "µs", 1e3),
            ("cpu", "CPU µs", 1e3),
            ("instructions", "K instr", 1e3),
        ] {
            let newest = history.newest(clock);
            if !newest.is_empty() {
                columns.push((format!("{}, {unit}", board.id), newest, divisor));
            }
        }
        if let Some(last) = history.runs.last() {
            writeln!(
                text,
                "- {}: {} ({}), last measured {} at {}",
                board.id, board.name, board.core, last.date, last.revision
            )?;
        }
    }
    let titles: Vec<&str> = columns.iter().map(|(title, ..)| title.as_str()).collect();
    writeln!(text, "\n| bench | {} |", titles.join(" | "))?;
    writeln!(text, "|---|{}", "---:|".repeat(columns.len()))?;
    let names: BTreeSet<&str> = columns
        .iter()
        .flat_map(|(_, values, _)| values.keys().copied())
        .collect();
    for name in names {
        let cells: Vec<String> = columns
            .iter()
            .map(|(_, values, divisor)| {
                values
                    .get(name)
                    .map_or(String::from("–"), |value| significant(value / divisor))
            })
            .collect();
        writeln!(text, "| {name} | {} |", cells.join(" | "))?;
    }
    text.push('\n');
    Ok(text)
}

/// A number with three or more significant digits.
fn significant(value: f64) -> String {
    match value {
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{History, Run, table};
    use crate::board::Board;
    use std::collections::BTreeMap;

    fn run(clock: &str, results: &[(&str, f64)]) -> Run {
        Run {
            date: "2026-01-02".into(),
            revision: "abc".into(),
            clock: clock.into(),
            results: results
                .iter()
                .map(|(name, value)| (name.to_string(), [*value, 1.0]))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn the_table_shows_the_newest_value_of_each_bench() {
        let board = Board::load("cortex-a76").expect("a board there is");
        let runs = vec![
            run("instructions", &[("one", 1000.0), ("two", 2_000_000.0)]),
            run("instructions", &[("one", 3456.0)]),
        ];
        let history = History {
            board: board.id.clone(),
            runs,
        };
        let table = table(&[(board, history)]).expect("a table");
        assert!(table.contains("| one | 3.46 |\n| two | 2000 |"), "{table}");
    }
}
