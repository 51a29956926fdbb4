//! Text for people: progress bars, warnings, and strangers' text made harmless.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use furlong_fine_tune::data::BadLine;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// How many bad lines are named one by one.
const NAMED_LINES: usize = 10;

/// A bar on the terminal's error stream; nothing when that isn't a terminal.
pub fn progress_bar(length: usize, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length as u64);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// Names the lines of `path` that can't be used, the first of them one by one.
pub fn warn_bad_lines(path: &Path, bad: &[BadLine], count: usize) {
    for line in bad.iter().take(NAMED_LINES) {
        eprintln!(
            "warning: {} line {}: {}; left out",
            path.display(),
            line.line,
            line.reason
        );
    }
    if count > NAMED_LINES {
        eprintln!(
            "warning: {}: {} more lines left out",
            path.display(),
            count - NAMED_LINES
        );
    }
}

/// A text from a stranger on one line of at most `width` characters, without control characters.
pub fn shown(text: &str, width: usize) -> String {
    let mut shown: String = text
        .chars()
        .take(width + 1)
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect();
    if shown.chars().count() > width {
        shown = shown
            .chars()
            .take(width.saturating_sub(1))
            .chain(['…'])
            .collect();
    }
    shown
}

/// Rows of cells as text; columns are as wide as their widest cell, the first one left-aligned, the others right-aligned.
pub fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<width$}", width = width(column)),
            _ => format!("{cell:>width$}", width = width(column)),
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Writes text to standard output.
///
/// # Errors
/// An output that takes no more; `println!` would panic.
pub fn show(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a value to standard output as one line of JSON.
///
/// # Errors
/// As [`show`].
pub fn show_json(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(value).map_err(io::Error::from)?;
    show(&format!("{text}\n"))
}
