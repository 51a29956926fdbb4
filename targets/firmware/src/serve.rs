//! What the firmware does: a line in, the model's answer out, piece by piece, until no more lines come.
//!
//! A plan that is refused (damaged, made for another core, too large for this RAM) ends nothing: the reason is logged, and each
//! line is answered with an error.

use crate::commands::Commands;
use crate::profile::Profile;
use crate::{board, counter, memory, transport};
use furlong_core::plan::{Answer, Event, Finish, Plan, PlanError, PlanKind, Session};
use furlong_core::utf8::Utf8Assembler;

/// Status of a program that has answered everything.
const SUCCESS: u8 = 0;
/// Status of one that had to say no.
const FAILURE: u8 = 1;

/// Answers the prompt that is built in, if there is one, else every line that comes; gives the exit status.
///
/// `rest` is called between any two steps, which take milliseconds: the place to feed a watchdog.
pub fn serve(image: Option<&'static [u8]>, mut rest: impl FnMut()) -> u8 {
    let mut commands = Commands::new();
    let mut session = begin(image).ok();
    if let Some(prompt) = board::PROMPT {
        return answer(
            session.as_mut(),
            prompt.as_bytes(),
            &mut commands,
            &mut rest,
        );
    }
    let mut status = SUCCESS;
    while let Some(line) = commands.next_line() {
        status |= answer(session.as_mut(), &line, &mut commands, &mut rest);
    }
    status
}

/// The reason has been logged.
struct Refusal;

fn begin(image: Option<&'static [u8]>) -> Result<Session<'static, 'static>, Refusal> {
    let Some(image) = image else {
        defmt::error!("no plan is linked in: build with FURLONG_PLAN, as `cargo xtask flash` does");
        return Err(Refusal);
    };
    let start = counter::now();
    let arena = memory::arena();
    let room = arena.len();
    let session = Plan::check(image).and_then(|plan| Session::new(plan, arena));
    let session = session.map_err(|error| {
        defmt::error!("the plan is refused: {}", error);
        Refusal
    })?;
    let header = session.plan().header();
    if header.kind != PlanKind::Decoder || session.plan().tokenizer().is_none() {
        defmt::error!("the plan can't answer text: it is an encoder's, or has no tokenizer");
        return Err(Refusal);
    }
    defmt::info!(
        "{=str}: plan of {=u32} bytes, checked in {=u64} {=str}",
        board::NAME,
        header.size,
        counter::now().saturating_sub(start),
        counter::UNIT,
    );
    defmt::info!(
        "arena {=u32} of {=usize} bytes, context {=u32} tokens",
        header.arena_bytes,
        room,
        header.context
    );
    Ok(session)
}

/// Answers one line; gives 0, or 1 where an error is the answer.
fn answer(
    session: Option<&mut Session<'static, 'static>>,
    line: &[u8],
    commands: &mut Commands,
    rest: &mut impl FnMut(),
) -> u8 {
    let Some(session) = session else {
        return refuse("no plan");
    };
    let Ok(prompt) = core::str::from_utf8(line) else {
        return refuse("the text isn't UTF-8");
    };
    match generate(session, prompt, commands, rest) {
        Ok(()) => SUCCESS,
        Err(error) => {
            defmt::error!("no answer: {}", error);
            refuse(match error {
                PlanError::ContextFull => "the text is too long",
                _ => "the model failed",
            })
        }
    }
}

fn refuse(reason: &str) -> u8 {
    transport::write("{\"error\":\"");
    transport::write(reason);
    transport::write("\"}\n");
    FAILURE
}

fn generate(
    session: &mut Session<'static, 'static>,
    prompt: &str,
    commands: &mut Commands,
    rest: &mut impl FnMut(),
) -> Result<(), PlanError> {
    let start = counter::now();
    let mut profile = Profile::begin(session.plan());
    // The context is what ends an answer that doesn't end by itself.
    let mut answer = Answer::to_text(session, prompt, usize::MAX, None)?;
    let encoded = counter::now();
    let mut text = Utf8Assembler::new();
    let mut first = None;
    let mut tokens = 0u32;
    let finish = loop {
        commands.poll();
        rest();
        match answer.step(session)? {
            Event::Worked { op, .. } => profile.worked(op),
            Event::Token(token) => {
                first.get_or_insert((session.len(), counter::now()));
                tokens = tokens.saturating_add(1);
                defmt::debug!("token {=u32}", token);
                if let Some(tokenizer) = session.plan().tokenizer()
                    && !tokenizer.is_special(token)
                {
                    text.push(tokenizer.piece(token), transport::write);
                }
            }
            Event::Finished(finish) => break finish,
        }
    };
    transport::write("\n");
    let end = counter::now();
    let (read, begun) = first.unwrap_or((session.len(), end));
    report(&Figures {
        read: read as u32,
        tokens,
        encoding: encoded.saturating_sub(start),
        reading: begun.saturating_sub(encoded),
        answering: end.saturating_sub(begun),
        finish,
    });
    profile.report();
    Ok(())
}

/// What an answer cost.
struct Figures {
    /// Tokens of the prompt.
    read: u32,
    /// Tokens of the answer.
    tokens: u32,
    encoding: u64,
    reading: u64,
    /// All tokens of the answer but the first, which comes out of reading.
    answering: u64,
    finish: Finish,
}

fn report(figures: &Figures) {
    let each = |sum: u64, count: u32| sum.checked_div(u64::from(count)).unwrap_or(0);
    defmt::info!(
        "{=u32} tokens read, {=u64} {=str} each; {=u32} answered, {=u64} each; {=u64} to encode; ended by {}",
        figures.read,
        each(figures.reading, figures.read),
        counter::UNIT,
        figures.tokens,
        each(figures.answering, figures.tokens.saturating_sub(1)),
        figures.encoding,
        figures.finish,
    );
    defmt::info!(
        "stack {=usize} of {=usize} bytes at most",
        memory::stack_high_water(),
        memory::stack_size()
    );
}
