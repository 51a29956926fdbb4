//! What `--profile` shows: where the time of reading a prompt and of writing an answer went, a row for each kind of op.

use furlong_runtime::{PhaseProfile, Profile, ProfileRow};

use crate::text;

/// The tables, one for the prompt and one for the answer.
pub fn tables(profile: &Profile) -> String {
    [("prompt", &profile.prompt), ("answer", &profile.decode)]
        .into_iter()
        .filter(|(_, phase)| phase.tokens > 0)
        .map(|(name, phase)| table(name, phase))
        .collect::<Vec<_>>()
        .join("\n")
}

fn table(name: &str, phase: &PhaseProfile) -> String {
    let whole = phase.seconds();
    let (calls, bytes) = phase.rows.iter().fold((0, 0), |(calls, bytes), row| {
        (calls + row.calls, bytes + row.weights_bytes)
    });
    let title = format!("{name}, {} tokens", phase.tokens);
    let mut rows = vec![
        [
            title.as_str(),
            "calls",
            "ms",
            "ms/token",
            "share",
            "weights",
            "GB/s",
        ]
        .map(String::from)
        .to_vec(),
    ];
    let all = ProfileRow {
        op: "all".to_owned(),
        node: String::new(),
        calls,
        seconds: whole,
        weights_bytes: bytes,
    };
    for row in phase.by_op().iter().chain([&all]) {
        rows.push(cells(row, phase.tokens, whole));
    }
    text::columns(&rows)
}

fn cells(row: &ProfileRow, tokens: usize, whole: f64) -> Vec<String> {
    let ms = row.seconds * 1e3;
    let (bytes, speed) = match row.weights_bytes {
        0 => ("–".to_owned(), "–".to_owned()),
        bytes => (
            text::bytes(bytes),
            format!("{:.1}", bytes as f64 / row.seconds.max(1e-9) / 1e9),
        ),
    };
    vec![
        row.op.clone(),
        row.calls.to_string(),
        format!("{ms:.2}"),
        format!("{:.3}", ms / tokens.max(1) as f64),
        format!("{:.1} %", row.seconds / whole.max(1e-9) * 100.0),
        bytes,
        speed,
    ]
}
