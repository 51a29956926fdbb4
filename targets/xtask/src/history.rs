//! Results of benches, kept per board in `benches/history/`, and the table of docs/benchmarks.md made from them.

use crate::board::Board;
use crate::shell::{self, say};
use crate::workspace;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the histories lie, in the repository.
const FOLDER: &str = "benches/history";
/// How many runs are kept of a board.
const MAX_RUNS: usize = 20;
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
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    date: String,
    /// The commit, with a `+` when the tree had changes.
    revision: String,
    /// `wall` and `cpu` are in nanoseconds.
    pub clock: String,
    /// Median and median absolute deviation by the bench's name.
    pub results: BTreeMap<String, [f64; 2]>,
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
        Self::read(&file)
    }

    /// Reads a history file.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn read(file: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
    }

    /// What was kept of a board at a commit.
    ///
    /// # Errors
    /// When there is no such commit, or it has no history of that board.
    pub fn at(commit: &str, board: &Board) -> Result<Self> {
        let place = format!("{commit}:{FOLDER}/{}.json", board.id);
        let mut git = shell::command("git", ["show", &place]);
        let text = shell::capture(git.current_dir(workspace::root()?))?;
        serde_json::from_str(&text).with_context(|| format!("reading {place}"))
    }

    /// Adds a run. The oldest ones go when there are many: the repository keeps them.
    pub fn add(&mut self, run: Run) {
        self.runs.push(run);
        let surplus = self.runs.len().saturating_sub(MAX_RUNS);
        self.runs.drain(..surplus);
    }

    /// The runs, oldest first.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The newest run with each clock.
    pub fn newest_runs(&self) -> Vec<Run> {
        let clocks: BTreeSet<&str> = self.runs.iter().map(|run| run.clock.as_str()).collect();
        clocks
            .into_iter()
            .filter_map(|clock| self.runs.iter().rfind(|run| run.clock == clock))
            .cloned()
            .collect()
    }

    /// Writes it back.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self) -> Result<()> {
        let file = file(&self.board)?;
        fs::write(&file, self.text()?).with_context(|| format!("writing {}", file.display()))
    }

    /// The history as JSON with a line for each result, so that a commit shows what has changed.
    fn text(&self) -> Result<String> {
        let mut runs = Vec::new();
        for run in &self.runs {
            let results: Vec<String> = run
                .results
                .iter()
                .map(|(name, values)| {
                    let [median, noise] = values.map(rounded);
                    Ok(format!(
                        "      {}: [{median}, {noise}]",
                        serde_json::to_string(name)?
                    ))
                })
                .collect::<Result<_>>()?;
            runs.push(format!(
                "    {{\"date\": {}, \"revision\": {}, \"clock\": {}, \"results\": {{\n{}\n    }}}}",
                serde_json::to_string(&run.date)?,
                serde_json::to_string(&run.revision)?,
                serde_json::to_string(&run.clock)?,
                results.join(",\n")
            ));
        }
        Ok(format!(
            "{{\n  \"board\": {},\n  \"runs\": [\n{}\n  ]\n}}\n",
            serde_json::to_string(&self.board)?,
            runs.join(",\n")
        ))
    }

    /// The newest value of each bench measured with `clock`.
    fn newest(&self, clock: &str) -> BTreeMap<&str, f64> {
        let runs = self.runs.iter().filter(|run| run.clock == clock);
        runs.flat_map(|run| &run.results)
            .map(|(name, [median, _])| (name.as_str(), *median))
            .collect()
    }
}

/// A number with six significant digits, which is more than any clock is good for.
fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

fn file(board: &str) -> Result<PathBuf> {
    let folder = workspace::root()?.join(FOLDER);
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

    #[test]
    fn what_is_written_can_be_read_and_has_a_line_for_each_result() {
        let runs = vec![
            run("wall", &[("a \"b\"", 1_234.567_8), ("c", 2e9)]),
            run("cpu", &[("c", 0.125)]),
        ];
        let history = History {
            board: "host".into(),
            runs,
        };
        let text = history.text().expect("plain values");
        assert!(text.contains("\n      \"c\": [2000000000, 1]\n"), "{text}");
        let back: History = serde_json::from_str(&text).expect("JSON");
        assert_eq!(back.runs.len(), 2);
        assert_eq!(back.runs[0].results["a \"b\""], [1234.57, 1.0]);
    }
}
