//! What people prefer: a file with one verdict a line, and whether chance explains it.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Interval, binomial};
use crate::data::{BadLine, Lines, MAX_LINE_BYTES};
use crate::error::{Error, Result};

/// The most bad lines that are kept.
const MAX_BAD_LINES: usize = 1000;

/// What people said, and what it means.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preferences {
    /// How often the first was preferred.
    pub a: u64,
    /// How often the second was preferred.
    pub b: u64,
    /// How often neither was.
    pub ties: u64,
    /// The share of the second where one was preferred.
    pub b_share: Option<f64>,
    /// Where that share lies with 95 % confidence (Wilson).
    pub interval: Option<Interval>,
    /// How often chance alone would give a share at least as far from half (exact sign test, ties left out).
    pub p: f64,
    /// Lines that can't be used.
    pub bad: Vec<BadLine>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: serde_json::Value,
    winner: Winner,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Winner {
    A,
    B,
    Tie,
}

/// Reads lines of `{"id", "winner": "a" | "b" | "tie"}`. A second verdict on the same id counts too: people differ.
/// With `known`, ids that are not among them can't be used.
///
/// # Errors
/// When the file can't be read, or holds no verdict.
pub fn read(path: &Path, known: Option<&HashSet<String>>) -> Result<Preferences> {
    let mut lines = Lines::open(path, MAX_LINE_BYTES)?;
    let (mut a, mut b, mut ties) = (0, 0, 0);
    let mut bad = Vec::new();
    while let Some((number, line)) = lines.next_line()? {
        match line.and_then(|text| verdict(text, known)) {
            Ok(Winner::A) => a += 1,
            Ok(Winner::B) => b += 1,
            Ok(Winner::Tie) => ties += 1,
            Err(reason) if bad.len() < MAX_BAD_LINES => bad.push(BadLine {
                line: number,
                reason,
            }),
            Err(_) => {}
        }
    }
    if a + b + ties == 0 {
        return Err(Error::Data {
            path: path.to_owned(),
            reason: "holds no verdict; a line looks like {\"id\": \"7\", \"winner\": \"b\"}"
                .to_owned(),
        });
    }
    let decided = a + b;
    Ok(Preferences {
        a,
        b,
        ties,
        b_share: (decided > 0).then(|| b as f64 / decided as f64),
        interval: binomial::wilson(b as f64, decided as f64),
        p: binomial::sign_test(b, decided),
        bad,
    })
}

fn verdict(text: &str, known: Option<&HashSet<String>>) -> std::result::Result<Winner, String> {
    let line: Line = serde_json::from_str(text)
        .map_err(|error| format!("not {{\"id\", \"winner\": \"a\", \"b\" or \"tie\"}}: {error}"))?;
    let id = match line.id {
        serde_json::Value::String(id) => id,
        id => id.to_string(),
    };
    match known {
        Some(known) if !known.contains(&id) => {
            Err(format!("no line of the test set has the id {id:?}"))
        }
        _ => Ok(line.winner),
    }
}
