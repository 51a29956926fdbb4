//! `furlong chat`: a conversation, turn by turn.

use std::io::{self, BufRead, IsTerminal, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result};
use clap::Args;
use furlong_runtime::text::{ChatTemplate, FinishReason, Generator, Message};

use crate::adapters;
use crate::cli::{AdapterArgs, CacheArgs, ModelArgs, SamplingArgs};
use crate::failure::{Hint, INTERRUPTED};
use crate::interrupt::Answering;
use crate::model;

/// Talk with a model
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  furlong chat --model smollm2-q4 --system 'You answer in one sentence.'
  printf 'Hello!\\nWhat did I say?\\n' | furlong chat --model smollm2-q4
  furlong chat --model smollm2-q4 --adapter pirate=runs/1 --adapter poet=runs/2

One line is one turn. /reset forgets the conversation, /quit or the end of the input ends it. The first adapter answers; \
/adapter NAME lets another one go on, `/adapter none` the model alone. Ctrl-C stops an answer; \
between answers it ends the program (exit code 130).")]
pub struct ChatArgs {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    #[command(flatten)]
    adapters: AdapterArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    /// What the model is told before the first turn
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// Whatever keeps the model from answering, a conversation longer than the context among it.
pub fn run(args: &ChatArgs) -> Result<ExitCode> {
    let (model, tokenizer) = model::decoder_and_tokenizer(&args.model, &args.cache)?;
    let tokenizer = tokenizer?;
    let template = ChatTemplate::load_files(&args.model.files())?
        .ok_or_else(|| anyhow::anyhow!("{} has no chat template", args.model.name()))
        .context(Hint(
            "`furlong run --raw` lets the model continue a text".to_owned(),
        ))?;
    let options = args.sampling.options();
    let choices = adapters::load(&model, &args.adapters)?;
    let mut generator = Generator::new(model.session()?, &tokenizer);
    if let Some(first) = choices.first() {
        generator.set_adapter(first.adapter.as_ref())?;
    }
    let opening: Vec<Message> = args
        .system
        .iter()
        .map(|text| Message::new("system", text))
        .collect();
    let mut messages = opening.clone();

    let interactive = io::stdin().is_terminal();
    let mut input = io::stdin().lock();
    let mut stdout = io::stdout().lock();
    loop {
        if interactive {
            write!(stdout, "> ")?;
            stdout.flush()?;
        }
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(ExitCode::SUCCESS);
        }
        match line.trim() {
            "" => continue,
            "/quit" => return Ok(ExitCode::SUCCESS),
            "/reset" => {
                messages.clone_from(&opening);
                generator.reset();
                continue;
            }
            line if line.starts_with("/adapter") => {
                let name = line.trim_start_matches("/adapter").trim();
                match adapters::choose(&choices, name) {
                    // What was said is read again, with the new adapter.
                    Ok(adapter) => generator.set_adapter(adapter)?,
                    Err(error) => eprintln!("{error}"),
                }
                continue;
            }
            text => messages.push(Message::new("user", text)),
        }
        let prompt = template.render(&messages, true, SystemTime::now())?;
        let prompt = tokenizer.encode(&prompt, false)?;
        let mut write_error = None;
        let answering = Answering::begin();
        let generation = generator.generate(&prompt, &options, answering.cancelled(), |piece| {
            let written = stdout.write_all(piece.as_bytes());
            match written.and_then(|()| stdout.flush()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    write_error = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        drop(answering);
        if let Some(error) = write_error {
            return Err(error.into());
        }
        writeln!(stdout)?;
        stdout.flush()?;
        messages.push(Message::new("assistant", generation.text));
        match generation.finish_reason {
            FinishReason::Cancelled if !interactive => return Ok(ExitCode::from(INTERRUPTED)),
            FinishReason::Context => {
                eprintln!("The context is full: /reset starts a new conversation.");
            }
            FinishReason::Cancelled | FinishReason::Stop | FinishReason::Length => {}
        }
    }
}
