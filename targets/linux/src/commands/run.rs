//! `furlong run`: one prompt, one answer.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use clap::Args;
use furlong::machine::memory;
use furlong_runtime::text::{
    ChatTemplate, FinishReason, GenerateOptions, Generation, Generator, Message, Tokenizer,
};
use furlong_runtime::{Profile, Session};
use serde::Serialize;

use crate::adapters::{self, Choice};
use crate::cli::{AdapterArgs, CacheArgs, ModelArgs, SamplingArgs};
use crate::failure::INTERRUPTED;
use crate::interrupt::Answering;
use crate::{model, profile};

/// The longest prompt that is read from standard input, in bytes.
const MAX_PROMPT_BYTES: u64 = 64 << 20;

/// Answer a prompt
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  furlong run 'dim the kitchen lights to forty percent'
  furlong run --model smollm2-q4 --max-tokens 64 'Why is the sky blue?'
  furlong run --model smollm2-q4 --raw --json 'Once upon a time'
  furlong run --model smollm2-q4 - < question.txt
  furlong run --model smollm2-q4 --adapter runs/home 'Turn the heating off in the study'
  furlong run --model smollm2-q4 --adapter none --adapter v1=runs/1 --adapter v2=runs/2 'Hello'

Without --model the built-in model turns a home command into JSON. The default temperature of 0 gives the same \
answer each time. Several adapters answer one after another. Ctrl-C stops the answer (exit code 130).")]
pub struct RunArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    adapters: AdapterArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// Continue the prompt as it stands, without the model's chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Go on past the end of the text, up to --max-tokens
    #[arg(long)]
    ignore_eos: bool,
    /// Print one JSON object at the end instead of streaming the text
    #[arg(long)]
    json: bool,
    /// Show at the end where the time went, by op; with --json by node
    #[arg(long)]
    profile: bool,
    /// The prompt; `-` reads it from standard input
    prompt: String,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    adapter: Option<&'a str>,
    #[serde(flatten)]
    generation: &'a Generation,
    load_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the model from answering.
pub fn run(args: &RunArgs) -> Result<ExitCode> {
    let text = prompt_text(&args.prompt)?;
    let start = Instant::now();
    let (model, tokenizer) = model::decoder_and_tokenizer(&args.model, &args.cache)?;
    let tokenizer = tokenizer?;
    let template = if args.raw {
        None
    } else {
        ChatTemplate::load_files(&args.model.files())?
    };
    let choices = adapters::load(&model, &args.adapters)?;
    let load_s = start.elapsed().as_secs_f64();

    let prompt = match &template {
        Some(template) => {
            let system = args.system.iter().map(|text| Message::new("system", text));
            let messages: Vec<Message> = system.chain([Message::new("user", text)]).collect();
            // The template writes the special tokens itself.
            tokenizer.encode(&template.render(&messages, true, SystemTime::now())?, false)?
        }
        None => tokenizer.encode(&text, true)?,
    };
    let mut options = args.sampling.options();
    options.ignore_eos = args.ignore_eos;
    options.continues = template.is_none();

    let asked = Asked {
        args,
        prompt,
        options,
        load_s,
    };
    if choices.is_empty() {
        return answer(&asked, model.session()?, &tokenizer, None);
    }
    for choice in &choices {
        let mut session = model.session()?;
        session.set_adapter(choice.adapter.as_ref())?;
        if choices.len() > 1 && !args.json {
            writeln!(io::stdout(), "[{}]", choice.name.escape_debug())?;
        }
        let code = answer(&asked, session, &tokenizer, Some(choice))?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What all adapters are asked.
struct Asked<'a> {
    args: &'a RunArgs,
    prompt: Vec<u32>,
    options: GenerateOptions,
    load_s: f64,
}

/// Answers with one session.
fn answer(
    asked: &Asked<'_>,
    mut session: Session,
    tokenizer: &Tokenizer,
    choice: Option<&Choice>,
) -> Result<ExitCode> {
    let Asked {
        args,
        prompt,
        options,
        load_s,
    } = asked;
    let mut stdout = io::stdout().lock();
    let mut write_error = None;
    if args.profile {
        session.start_profile();
    }
    let mut generator = Generator::new(session, tokenizer);
    let answering = Answering::begin();
    let mut is_first = true;
    let generation = generator.generate(prompt, options, answering.cancelled(), |piece| {
        if std::mem::take(&mut is_first) {
            // The prompt was turned to tokens and read: what did that won't be needed again.
            memory::release_code();
        }
        if args.json {
            return ControlFlow::Continue(());
        }
        let written = stdout.write_all(piece.as_bytes());
        match written.and_then(|()| stdout.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                write_error = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = write_error {
        return Err(error.into());
    }
    let profile = generator.model().profile();
    if args.json {
        let output = Output {
            adapter: choice.map(|choice| choice.name.as_str()),
            generation: &generation,
            load_s: *load_s,
            profile,
        };
        serde_json::to_writer(&mut stdout, &output).map_err(io::Error::from)?;
        writeln!(stdout)?;
    } else {
        writeln!(stdout)?;
        if let Some(profile) = profile {
            // The answer alone is what a pipe takes.
            write!(io::stderr(), "\n{}", profile::tables(&profile))?;
        }
    }
    Ok(match generation.finish_reason {
        FinishReason::Cancelled => ExitCode::from(INTERRUPTED),
        _ => ExitCode::SUCCESS,
    })
}

/// The prompt itself, or standard input for `-`.
fn prompt_text(argument: &str) -> Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(MAX_PROMPT_BYTES)
        .read_to_string(&mut text)
        .context("can't read the prompt from standard input")?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
