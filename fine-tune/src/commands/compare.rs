//! `fine-tune compare`: which of two models is better on a test set, and whether chance explains it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use furlong_fine_tune::comparison::preferences::{self, Preferences};
use furlong_fine_tune::comparison::{Count, Pairs, Verdict, bootstrap, sample_size};
use furlong_fine_tune::data::DataFile;
use furlong_fine_tune::evaluation::{Answer, matched, read_answers, samples};
use furlong_fine_tune::metrics::Metric;
use serde::Serialize;

use super::answering::AnsweringArguments;
use crate::{interrupt, terminal};

/// Compare two models on a test set: difference, interval, p-value, wins and losses.
#[derive(Args)]
#[command(after_help = "Example:\n  \
    fine-tune compare models/base-q4 models/home-q4 --data test.jsonl\n  \
    fine-tune compare base.jsonl home.jsonl --data test.jsonl --detect 0.02 --json\n  \
    fine-tune compare models/base-q4 models/base-q4 --adapter-b home-lora --data test.jsonl\n  \
    fine-tune compare --preferences verdicts.jsonl\n\n\
    Exit codes: 0 done, 1 refused or failed, 2 wrong arguments, 130 interrupted.")]
pub struct CompareArguments {
    /// The first model: a folder, or answers that `fine-tune evaluate --out` wrote.
    #[arg(required_unless_present = "preferences")]
    a: Option<PathBuf>,
    /// The second model; a positive difference means that it has the higher score.
    #[arg(required_unless_present = "preferences")]
    b: Option<PathBuf>,
    /// The first model's adapter: a PEFT folder, or the name of one in the model's adapters/.
    #[arg(long, value_name = "FOLDER", requires = "a")]
    adapter_a: Option<PathBuf>,
    /// The second model's adapter; the two models may be the same.
    #[arg(long, value_name = "FOLDER", requires = "b")]
    adapter_b: Option<PathBuf>,
    /// Test set: JSON lines.
    #[arg(long, value_name = "FILE", required_unless_present = "preferences")]
    data: Option<PathBuf>,
    #[command(flatten)]
    answering: AnsweringArguments,
    /// What people preferred: JSON lines of {"id", "winner": "a", "b" or "tie"}.
    #[arg(long, value_name = "FILE")]
    preferences: Option<PathBuf>,
    /// Say how many lines a difference of this size needs to show (power 0.8, level 0.05): 0.02 is 2 points of a percentage.
    #[arg(long, value_name = "DIFFERENCE", value_parser = difference)]
    detect: Option<f64>,
    /// How many wins and losses to show, those that differ most.
    #[arg(long, value_name = "N", default_value_t = 3)]
    show: usize,
    /// Print the results as one JSON object.
    #[arg(long)]
    json: bool,
}

fn difference(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if value > 0.0 && value < 1.0 => Ok(value),
        _ => Err("a number between 0 and 1".to_owned()),
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output {
    a: Option<PathBuf>,
    b: Option<PathBuf>,
    /// Lines that both answered.
    lines: usize,
    /// Lines that one of them didn't answer; they are left out.
    unanswered: usize,
    resamples: u32,
    seed: u64,
    metrics: Vec<Row>,
    preferences: Option<Preferences>,
    /// Preferences, ties left out, that the difference asked for needs.
    preferences_needed: Option<u64>,
}

/// Both models under one metric.
#[derive(Serialize)]
struct Row {
    metric: &'static str,
    higher_is_better: bool,
    /// Null when the metric says nothing about these answers.
    outcome: Option<bootstrap::Outcome>,
    #[serde(flatten)]
    count: Count,
    /// Lines that the difference asked for needs; null when the two models never differ.
    lines_needed: Option<u64>,
    /// Every line on which they differ under the first metric; empty for the others.
    differences: Vec<Line>,
}

/// A line on which the models differ.
#[derive(Serialize)]
struct Line {
    id: String,
    verdict: Verdict,
    score_a: f64,
    score_b: f64,
    answer_a: String,
    answer_b: String,
    reference: Option<String>,
}

/// Answers of both models to the same lines.
struct Answers {
    a: Vec<Answer>,
    b: Vec<Answer>,
    references: Vec<Vec<String>>,
}

/// Runs the command.
///
/// # Errors
/// Models, answers or data that can't be read or don't belong together.
pub fn run(arguments: &CompareArguments) -> Result<ExitCode> {
    let answering = &arguments.answering;
    let mut output = Output {
        a: arguments.a.clone(),
        b: arguments.b.clone(),
        lines: 0,
        unanswered: 0,
        resamples: answering.resamples,
        seed: answering.seed,
        metrics: Vec::new(),
        preferences: None,
        preferences_needed: None,
    };
    let mut ids = None;
    if let (Some(a), Some(b), Some(path)) = (&arguments.a, &arguments.b, &arguments.data) {
        let data = DataFile::read(path)?;
        terminal::warn_bad_lines(path, &data.bad, data.bad_count);
        let metrics = answering.metrics(&data.examples);
        let first = answers_of(
            a,
            arguments.adapter_a.as_deref(),
            &data,
            &metrics,
            answering,
        )?;
        let second = answers_of(
            b,
            arguments.adapter_b.as_deref(),
            &data,
            &metrics,
            answering,
        )?;
        if interrupt::is_requested() {
            eprintln!(
                "interrupted; `fine-tune evaluate --out` keeps answers, which can then be compared"
            );
            return Ok(ExitCode::from(interrupt::INTERRUPTED));
        }
        let answers = both(first, second);
        output.lines = answers.a.len();
        output.unanswered = data.examples.len() - answers.a.len();
        if answers.a.is_empty() {
            bail!(
                "there is no line that both models answered; were they evaluated on {}?",
                path.display()
            );
        }
        for (index, metric) in metrics.iter().enumerate() {
            output
                .metrics
                .push(compare(metric.as_ref(), &answers, arguments, index == 0));
        }
        ids = Some(
            data.examples
                .into_iter()
                .map(|example| example.id)
                .collect::<HashSet<_>>(),
        );
    }
    if let Some(path) = &arguments.preferences {
        let preferences = preferences::read(path, ids.as_ref())?;
        terminal::warn_bad_lines(path, &preferences.bad, preferences.bad.len());
        output.preferences = Some(preferences);
        output.preferences_needed = arguments.detect.and_then(sample_size::preferences);
    }
    if arguments.json {
        terminal::show_json(&output)?;
    } else {
        terminal::show(&text(&output, arguments))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The answers in a file, or those of the model in a folder.
fn answers_of(
    path: &Path,
    adapter: Option<&Path>,
    data: &DataFile,
    metrics: &[Box<dyn Metric>],
    answering: &AnsweringArguments,
) -> Result<Vec<Option<Answer>>> {
    if interrupt::is_requested() {
        return Ok(Vec::new());
    }
    let metadata = path
        .metadata()
        .with_context(|| format!("can't read {}", path.display()))?;
    if !metadata.is_dir() {
        if let Some(adapter) = adapter {
            bail!(
                "{} holds answers, which no adapter can change; leave out {}, or give the model's folder",
                path.display(),
                adapter.display()
            );
        }
        return Ok(matched(path, read_answers(path)?, data)?);
    }
    let answers = answering.answers(path, adapter, &data.examples, metrics, None)?;
    Ok(answers.into_iter().map(Some).collect())
}

fn both(first: Vec<Option<Answer>>, second: Vec<Option<Answer>>) -> Answers {
    let pairs = first.into_iter().zip(second).filter_map(|(a, b)| a.zip(b));
    let (a, b): (Vec<Answer>, Vec<Answer>) = pairs.unzip();
    let references = a
        .iter()
        .map(|answer| answer.reference.iter().cloned().collect())
        .collect();
    Answers { a, b, references }
}

fn compare(
    metric: &dyn Metric,
    answers: &Answers,
    arguments: &CompareArguments,
    list: bool,
) -> Row {
    let (resamples, seed) = (
        arguments.answering.resamples as usize,
        arguments.answering.seed,
    );
    let a = metric.measure(&samples(&answers.a, &answers.references));
    let b = metric.measure(&samples(&answers.b, &answers.references));
    let outcome = bootstrap::paired(metric, &a, &b, resamples, seed);
    let pairs = Pairs::new(metric, &a, &b);
    let needed = arguments
        .detect
        .zip(outcome.as_ref())
        .and_then(|(detect, outcome)| {
            // Perplexity has no top: there the difference is a share of the first model's.
            let scale = if metric.higher_is_better() {
                100.0
            } else {
                outcome.a
            };
            sample_size::paired(detect * scale, outcome.standard_error, a.len())
        });
    let differing = |verdict| pairs.largest(verdict, usize::MAX);
    let lines = [Verdict::B, Verdict::A].into_iter().flat_map(differing);
    let line = |difference: furlong_fine_tune::comparison::Difference| {
        let (a, b) = (
            answers.a.get(difference.index)?,
            answers.b.get(difference.index)?,
        );
        Some(Line {
            id: a.id.clone(),
            verdict: difference.verdict,
            score_a: difference.a,
            score_b: difference.b,
            answer_a: a.answer.clone(),
            answer_b: b.answer.clone(),
            reference: a.reference.clone(),
        })
    };
    Row {
        metric: metric.name(),
        higher_is_better: metric.higher_is_better(),
        outcome,
        count: pairs.count(),
        lines_needed: needed,
        differences: if list {
            lines.filter_map(line).collect()
        } else {
            Vec::new()
        },
    }
}

fn text(output: &Output, arguments: &CompareArguments) -> String {
    let mut text = String::new();
    if !output.metrics.is_empty() {
        let head = [
            "",
            "A",
            "B",
            "B − A",
            "95 %",
            "p",
            "B wins",
            "loses",
            "ties",
            "lines needed",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(output.metrics.iter().map(cells));
        if arguments.detect.is_none() {
            rows.iter_mut().for_each(|row| row.truncate(head.len() - 1));
        }
        text += &terminal::columns(&rows);
        text += &format!(
            "{} lines, {} resamples with seed {}\n",
            output.lines, output.resamples, output.seed
        );
        if output.unanswered > 0 {
            text += &format!(
                "{} lines are left out: one of the two didn't answer them\n",
                output.unanswered
            );
        }
        text += &differences(output, arguments.show);
    }
    if let Some(preferences) = &output.preferences {
        text += &format!(
            "preferences: A {}, B {}, ties {}; p {:.4}\n",
            preferences.a, preferences.b, preferences.ties, preferences.p
        );
        if let (Some(share), Some(interval)) = (preferences.b_share, preferences.interval) {
            text += &format!(
                "B is preferred in {:.1} % of the decided ones ({:.1} to {:.1} % with 95 % confidence)\n",
                100.0 * share,
                100.0 * interval.low,
                100.0 * interval.high
            );
        }
        if let Some(needed) = output.preferences_needed {
            text += &format!("a difference of that size needs {needed} decided ones\n");
        }
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    let count = [row.count.wins, row.count.losses, row.count.ties].map(|n| n.to_string());
    let outcome = match &row.outcome {
        Some(o) => [
            format!("{:.2}", o.a),
            format!("{:.2}", o.b),
            format!("{:+.2}", o.difference),
            format!("{:+.2} to {:+.2}", o.interval.low, o.interval.high),
            format!("{:.4}", o.p),
        ],
        None => ["–"; 5].map(str::to_owned),
    };
    let needed = row.lines_needed.map_or("–".to_owned(), |n| n.to_string());
    let name = [row.metric.to_owned()];
    name.into_iter()
        .chain(outcome)
        .chain(count)
        .chain([needed])
        .collect()
}

/// The lines under the first metric that differ most.
fn differences(output: &Output, most: usize) -> String {
    let mut text = String::new();
    let Some(row) = output.metrics.first() else {
        return text;
    };
    for (verdict, title) in [(Verdict::B, "B is better"), (Verdict::A, "A is better")] {
        for line in row
            .differences
            .iter()
            .filter(|line| line.verdict == verdict)
            .take(most)
        {
            let shown = |text: &str| terminal::shown(text, 100);
            text += &format!(
                "\n{title} on {} ({} {:.2} → {:.2})\n",
                shown(&line.id),
                row.metric,
                line.score_a,
                line.score_b
            );
            text += &format!(
                "  A    {}\n  B    {}\n",
                shown(&line.answer_a),
                shown(&line.answer_b)
            );
            if let Some(reference) = &line.reference {
                text += &format!("  want {}\n", shown(reference));
            }
        }
    }
    text
}
