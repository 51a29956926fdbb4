//! `fine-tune train`: teaches a model from data.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser};
use furlong_fine_tune::train::run::{
    Ended, Progress, Run, RunFiles, Settings, Summary, devices, resident_bytes, settings_file,
};
use indicatif::ProgressBar;

use crate::{interrupt, terminal};

/// Teach a model from examples: an adapter beside its weights, all of them, or a new model from scratch.
#[derive(Args)]
#[command(
    args_override_self = true,
    after_help = "Examples:\n  \
    fine-tune train --base models/SmolLM2-135M-Instruct --data train.jsonl --eval valid.jsonl --out home-lora\n  \
    fine-tune train --architecture config.json --tokenizer tokenizer.json --data train.jsonl --out home --epochs 10\n  \
    fine-tune train --resume --out home-lora\n\n\
    A line of data is {\"prompt\", \"completion\"}, {\"messages\"}, {\"text\", \"label\"} or {\"text\"};\n\
    for an encoder it is {\"text\", \"label\"}, which makes it a classifier, or {\"anchor\", \"positive\"}.\n\
    A settings file is TOML with the flags' names as keys: learning-rate = 1e-4. Flags win over it.\n\
    Ctrl-C ends the step, writes a checkpoint and what was learnt, and leaves; a second one leaves at once.\n\
    Exit codes: 0 done, 1 refused or failed, 2 wrong arguments, 130 interrupted (--resume goes on)."
)]
pub struct TrainArguments {
    /// Folder to be made: the result, and in training/ checkpoints, figures and a plot.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Go on with the run in that folder, from its last checkpoint and with its settings.
    #[arg(long)]
    resume: bool,
    /// Settings in a TOML file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Print what came of it as one JSON object.
    #[arg(long)]
    json: bool,
}

/// The arguments by themselves, to be parsed a second time.
#[derive(Parser)]
#[command(name = "fine-tune train", no_binary_name = true)]
struct Whole {
    #[command(flatten)]
    arguments: TrainArguments,
}

/// Runs the command.
///
/// # Errors
/// Model, data or settings that can't be used, a loss that is not a number, a file that can't be written.
pub fn run(arguments: &TrainArguments) -> Result<ExitCode> {
    let files = RunFiles::new(&arguments.out);
    let begun = arguments.resume && files.settings().try_exists()?;
    if arguments.resume && !begun && arguments.out.exists() && !files.training().exists() {
        bail!(
            "{}: there is no run in it to resume; leave --resume out to begin one",
            arguments.out.display()
        );
    }
    let began = match begun {
        true => Some(with_file(&files.settings(), Vec::new())?),
        false => None,
    };
    // Flags of the command line come last, so that they win.
    let given: Vec<OsString> = std::env::args_os().skip(2).collect();
    let settings = match (&began, &arguments.config) {
        (Some(_), _) => with_file(&files.settings(), given)?,
        (None, Some(path)) => with_file(path, given)?,
        (None, None) => arguments.settings.clone(),
    };
    if let Some(threads) = settings.run.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads as usize)
            .build_global()
            .context("can't start the threads")?;
    }
    let devices = devices(settings.run.device, settings.run.devices)?;
    let mut run = Run::open(files, settings, began.as_ref(), &devices)?;
    for (path, bad, count) in run.bad_lines() {
        terminal::warn_bad_lines(path, bad, count);
    }
    if !run.has_end() {
        eprintln!(
            "warning: the model has no token that ends a text, so it won't learn to stop; name one as eos_token in \
             tokenizer_config.json"
        );
    }
    let (done, total) = run.steps();
    let bar = terminal::progress_bar(
        total as usize,
        "{bar:20} {pos}/{len} steps, {msg}, {eta} left",
    );
    bar.set_position(done);
    bar.reset_eta();
    let cancel = interrupt::requested();
    let mut train = || run.train(cancel, |progress| show(&bar, progress));
    let summary = match devices.len() {
        // On a thread of rayon's: from any other one, each operation would be handed over to such a thread and waited for.
        1 => rayon::scope(|_| train()),
        // Each device has a thread of its own, and this one waits for them: one of rayon's would be missing then.
        _ => train(),
    }?;
    bar.finish_and_clear();
    if arguments.json {
        terminal::show_json(&summary)?;
    } else {
        terminal::show(&table(&summary))?;
    }
    Ok(match summary.ended {
        Ended::Interrupted => {
            eprintln!(
                "interrupted after {} of {} steps; {2} holds what was learnt; go on with: fine-tune train --resume --out {2}",
                summary.record.steps,
                summary.total_steps,
                summary.out.display()
            );
            ExitCode::from(interrupt::INTERRUPTED)
        }
        Ended::Finished | Ended::StoppedEarly => ExitCode::SUCCESS,
    })
}

/// The settings of a file, and of flags that win over it.
fn with_file(path: &Path, given: Vec<OsString>) -> Result<Settings> {
    let flags = settings_file::flags(path)?.into_iter().map(OsString::from);
    // The folder is none of the settings, but a flag that is always wanted.
    let flags = flags.chain(["--out=.".into()]).chain(given);
    match Whole::try_parse_from(flags) {
        Ok(whole) => Ok(whole.arguments.settings),
        Err(error) => bail!(
            "{}: {}",
            path.display(),
            error.to_string().trim_start_matches("error: ").trim()
        ),
    }
}

fn show(bar: &ProgressBar, progress: &Progress) {
    if bar.is_hidden() {
        return;
    }
    let eval = progress
        .eval_loss
        .map_or(String::new(), |loss| format!(", eval {loss:.3}"));
    let memory = resident_bytes().map_or(String::new(), |(now, _)| {
        format!(", {:.1} GiB", now as f64 / (1u64 << 30) as f64)
    });
    bar.set_message(format!(
        "loss {:.3}{eval}, rate {:.1e}, {:.0} tokens/s{memory}",
        progress.loss, progress.learning_rate, progress.tokens_per_second
    ));
    bar.set_position(progress.step);
}

fn table(summary: &Summary) -> String {
    let loss = |loss: Option<f64>| loss.map_or("–".to_owned(), |loss| format!("{loss:.4}"));
    let mut rows = vec![
        vec!["steps".to_owned(), summary.record.steps.to_string()],
        vec!["first loss".to_owned(), loss(summary.first_loss)],
        vec!["last loss".to_owned(), loss(summary.last_loss)],
    ];
    let record = &summary.record;
    if record.eval_loss_before.is_some() {
        let before = loss(record.eval_loss_before);
        rows.push(vec!["eval before".to_owned(), before]);
        rows.push(vec!["eval best".to_owned(), loss(record.eval_loss)]);
    }
    let mut text = terminal::columns(&rows);
    let ended = match summary.ended {
        Ended::Finished => "",
        Ended::StoppedEarly => "stopped early, as the evaluation's loss no longer fell; ",
        Ended::Interrupted => "interrupted; ",
    };
    text += &format!(
        "{ended}{} examples, {} numbers trained in {:.0} s; the result is in {}\n",
        record.samples,
        record.trained_parameters,
        summary.seconds,
        summary.out.display()
    );
    text
}
