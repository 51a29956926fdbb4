//! A model in a firmware that has a life of its own: `furlong-core` is all it takes.
//!
//! The model is an `async fn` that gives way after each bounded step, as a task of embassy or RTIC is. `main` stands for such an
//! executor; between two steps it does what the firmware is there for.
#![no_std]
#![no_main]

use core::future::{Future, poll_fn};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use furlong_core::plan::{Answer, Event, Plan, PlanError, Session};
use furlong_firmware::{board, memory, transport};

async fn ask(session: &mut Session<'_, '_>, prompt: &str) -> Result<u32, PlanError> {
    let mut answer = Answer::to_text(session, prompt, 32, None)?;
    let mut tokens = 0;
    loop {
        match answer.step(session)? {
            Event::Worked { .. } => give_way().await,
            Event::Token(token) => {
                tokens += 1;
                let piece = session.plan().tokenizer().map(|all| all.piece(token));
                transport::write(core::str::from_utf8(piece.unwrap_or_default()).unwrap_or("?"));
            }
            Event::Finished(_) => return Ok(tokens),
        }
    }
}

fn run() -> u8 {
    // In your firmware: `static PLAN: Aligned = …include_bytes!("model.plan")`, and an arena from a static.
    let plan = Plan::check(board::plan().unwrap_or_default());
    let session = plan.and_then(|plan| Session::new(plan, memory::arena()));
    let Ok(mut session) = session else { return 1 };
    let mut task = pin!(ask(&mut session, "turn on the light"));
    let mut others = 0u32;
    loop {
        match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(tokens) => {
                defmt::info!(
                    "{=u32} tokens; {=u32} times something else",
                    tokens.unwrap_or(0),
                    others
                );
                return u8::from(tokens.is_err());
            }
            // Blink, sample, feed the watchdog.
            Poll::Pending => others += 1,
        }
    }
}

fn give_way() -> impl Future<Output = ()> {
    let mut gave = false;
    poll_fn(move |_| match core::mem::replace(&mut gave, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
}

furlong_firmware::main!(run);
