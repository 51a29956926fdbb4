//! The card for people, with the front matter that model hubs read.

use std::fmt::Write;

use super::facts::{Facts, Task};
use super::record::Results;
use crate::evaluation::{Figure, Summary};

/// The card as Markdown. Names come from strangers' files: nothing in them becomes mark-up.
pub(super) fn card(facts: &Facts) -> String {
    let mut text = front_matter(facts);
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!("# {}\n", plain(&facts.name)));
    line(format!("{}\n", plain(&facts.description())));
    line("| | |\n|---|---|".to_owned());
    for (name, value) in rows(facts) {
        line(format!("| {name} | {} |", plain(&value)));
    }
    line("\n## Files\n\n| file | bytes | digest |\n|---|---|---|".to_owned());
    for file in &facts.files {
        line(format!(
            "| {} | {} | `{}` |",
            file.name, file.bytes, file.digest
        ));
    }
    line("\n## Results\n".to_owned());
    match &facts.results {
        Some(shown) => line(results(shown)),
        None => line(
            "Not measured yet: `fine-tune evaluate --model FOLDER --data test.jsonl --record`."
                .to_owned(),
        ),
    }
    line("## Use\n".to_owned());
    let command = facts.task.command();
    line(format!("    furlong {command} --model FOLDER \"…\"\n"));
    line("The ONNX file also runs in ONNX Runtime as it stands.".to_owned());
    text
}

fn front_matter(facts: &Facts) -> String {
    // A JSON string is a YAML string too.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut lines = vec!["---".to_owned()];
    if let Some(licence) = &facts.licence {
        lines.push(format!("license: {}", quoted(licence)));
    }
    lines.push(format!("base_model: {}", quoted(&facts.base)));
    lines.push("library_name: onnx".to_owned());
    lines.push(format!("pipeline_tag: {}", facts.task.name()));
    if !facts.tags.is_empty() {
        lines.push("tags:".to_owned());
        lines.extend(facts.tags.iter().map(|tag| format!("  - {}", quoted(tag))));
    }
    lines.push("---\n\n".to_owned());
    lines.join("\n")
}

/// Names and values of the table.
fn rows(facts: &Facts) -> Vec<(&'static str, String)> {
    let mut rows = vec![
        ("base model", facts.base.clone()),
        ("digest of its weights", facts.base_digest.clone()),
    ];
    if let Some((name, digest)) = &facts.adapter {
        rows.push(("adapter", format!("{name} ({digest})")));
    }
    if let Some(training) = &facts.training {
        rows.push(("trained", training.description()));
        rows.push(("with the settings", training.settings.to_string()));
    }
    let unknown = "not stated by the base model: find out before you pass it on";
    rows.push((
        "licence",
        facts.licence.clone().unwrap_or_else(|| unknown.to_owned()),
    ));
    rows.push(("architecture", facts.architecture.clone()));
    if let Task::Classification(labels) = &facts.task {
        rows.push(("labels", labels.join(", ")));
    }
    if let Some(parameters) = facts.parameters {
        rows.push(("parameters", parameters.to_string()));
    }
    rows.push(("context", format!("{} tokens", facts.context_length)));
    rows.push(("weights", facts.weights.clone()));
    if let Some(recipe) = &facts.quantisation {
        rows.push(("rounding", recipe.to_string()));
    }
    rows.push(("made by", format!("furlong fine-tune {}", facts.version)));
    rows
}

fn results(results: &Results) -> String {
    let mut text = format!(
        "Measured in Furlong's runtime on {} ({} lines, `{}`); 95 % confidence in brackets.\n\n",
        plain(&results.data.name),
        results.data.lines,
        plain(&results.data.digest)
    );
    if let Some(adapter) = &results.adapter {
        text += &format!("It answered with the adapter {}.\n\n", plain(adapter));
    }
    let before = results.before.as_ref();
    text += if before.is_some() {
        "| metric | base | this model |\n|---|---|---|\n"
    } else {
        "| metric | this model |\n|---|---|\n"
    };
    for figure in &results.after.metrics {
        let base = before.map(|summary| format!("{} | ", cell(found(summary, &figure.metric))));
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "| {} | {}{} |",
            plain(&figure.metric),
            base.unwrap_or_default(),
            cell(Some(figure))
        );
    }
    text
}

fn found<'a>(summary: &'a Summary, metric: &str) -> Option<&'a Figure> {
    summary
        .metrics
        .iter()
        .find(|figure| figure.metric == metric)
}

fn cell(figure: Option<&Figure>) -> String {
    let Some((figure, score)) = figure.and_then(|figure| Some((figure, figure.score?))) else {
        return "–".to_owned();
    };
    match figure.interval {
        Some(interval) => format!("{score:.2} ({:.2} to {:.2})", interval.low, interval.high),
        None => format!("{score:.2}"),
    }
}

/// A text on one line, in which nothing is mark-up.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '&' | '!' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}
