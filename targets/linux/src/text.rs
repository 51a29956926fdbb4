//! Text for people: small tables, sizes, and getting it out.

use std::io::{self, BufRead, Write};

use anyhow::{Context, bail};
use serde::Serialize;

/// Rows of cells as text; columns are as wide as their widest cell, the first one left-aligned, the others right-aligned.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(|column| width(rows, column)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells: Vec<String> = cells
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Names and values as text, both left-aligned.
pub fn pairs(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or(0);
    rows.iter()
        .map(|(name, value)| format!("{name:<width$}  {value}\n"))
        .collect()
}

fn width(rows: &[Vec<String>], column: usize) -> usize {
    let cells = rows.iter().filter_map(|row| row.get(column));
    cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
}

/// A number of bytes for people: `89.9 MB`.
pub fn bytes(count: u64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let count = count as f64;
    match units.iter().find(|(_, size)| count >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", count / size),
        None => format!("{count} B"),
    }
}

/// The texts of a command line, with the lines of standard input in place of a `-`.
///
/// # Errors
/// An input that can't be read, and no text at all.
pub fn lines_of(arguments: &[String]) -> anyhow::Result<Vec<String>> {
    let mut texts = Vec::new();
    for argument in arguments {
        if argument == "-" {
            for line in io::stdin().lock().lines() {
                let line = line.context("can't read texts from standard input")?;
                if !line.trim().is_empty() {
                    texts.push(line);
                }
            }
        } else {
            texts.push(argument.clone());
        }
    }
    if texts.is_empty() {
        bail!("there is no text");
    }
    Ok(texts)
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
