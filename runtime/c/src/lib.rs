//! `furlong-core` for firmware written in C: a session lies in memory that the caller lends, a call does a bounded amount of
//! work, and nothing is allocated. `include/furlong.h` is made from this file.
//!
//! Whoever writes Rust adds `furlong-core` instead.
#![no_std]

use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::{ptr, slice, str};
use furlong_core::plan::{Answer, Event, Finish, Plan, PlanError, Session};

/// What a call says. Errors are negative; `furlong_explain` has words for all.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FurlongStatus {
    /// All is well.
    Ok = 0,
    /// Some work was done: call again.
    Worked = 1,
    /// The next token of the answer is there: call again for more.
    Token = 2,
    /// The answer is whole: the model ended it, or the number of tokens asked for is reached.
    Finished = 3,
    /// The answer ends because the context is full.
    ContextEnded = 4,
    /// A pointer is null, a text isn't UTF-8, or the call doesn't fit what the session is doing.
    Usage = -1,
    /// The plan is not one, of another version, damaged, or contradicts itself.
    Plan = -2,
    /// The plan is packed for instructions that this CPU, or this build of the library, doesn't have.
    Instructions = -3,
    /// The arena is too small: `furlong_arena_bytes` says how large it must be.
    Arena = -4,
    /// The text has more tokens than the context has room for.
    Context = -5,
    /// A kernel refused its work. For a plan that was opened this is a bug.
    Kernel = -6,
}

/// Eight-byte words that a session takes.
pub const FURLONG_SESSION_WORDS: usize = 128;

/// A session: memory for the library's state, which the caller owns. Open it before anything else; what lies in it is the library's.
/// It may be moved only before it is opened.
#[repr(C)]
pub struct FurlongSession {
    /// The library's.
    words: [MaybeUninit<u64>; FURLONG_SESSION_WORDS],
}

/// What a session's memory holds. The plan and the arena live as long: the caller promises it.
struct State {
    session: Session<'static, 'static>,
    answer: Option<Answer>,
}

const _: () = assert!(size_of::<State>() <= size_of::<FurlongSession>());
const _: () = assert!(align_of::<State>() <= align_of::<FurlongSession>());

impl From<PlanError> for FurlongStatus {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Usage | PlanError::Token(_) => FurlongStatus::Usage,
            PlanError::Isa(_) => FurlongStatus::Instructions,
            PlanError::Arena { .. } => FurlongStatus::Arena,
            PlanError::ContextFull => FurlongStatus::Context,
            PlanError::Kernel(_) => FurlongStatus::Kernel,
            _ => FurlongStatus::Plan,
        }
    }
}

/// How many bytes of arena a plan needs, wherever the arena starts; 0 when it is not a plan. The plan is checked for that.
///
/// # Safety
/// `plan` must be null or have `plan_bytes` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn furlong_arena_bytes(plan: *const u8, plan_bytes: usize) -> usize {
    // SAFETY: the caller's promise.
    let image = unsafe { bytes(plan, plan_bytes) };
    Plan::check(image).map_or(0, |plan| plan.arena_bytes())
}

/// Checks a plan and makes a session that works in `arena`. The plan starts at a multiple of 4, better of 64; both must stay where they are,
/// and the arena must be left alone, for as long as the session is used.
///
/// # Safety
/// `session` must be null or point to a session's memory, `plan` and `arena` have as many bytes as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn furlong_open(
    session: *mut FurlongSession,
    plan: *const u8,
    plan_bytes: usize,
    arena: *mut u8,
    arena_bytes: usize,
) -> FurlongStatus {
    if session.is_null() || arena.is_null() {
        return FurlongStatus::Usage;
    }
    // SAFETY: the caller's promise.
    let (image, arena) = unsafe {
        let arena = slice::from_raw_parts_mut(arena, arena_bytes);
        (bytes(plan, plan_bytes), arena)
    };
    let opened = Plan::check(image).and_then(|plan| Session::new(plan, arena));
    match opened {
        Ok(opened) => {
            let state = State {
                session: opened,
                answer: None,
            };
            // SAFETY: a session's memory has room for the state and its alignment: asserted above.
            unsafe { session.cast::<State>().write(state) };
            FurlongStatus::Ok
        }
        Err(error) => error.into(),
    }
}

/// Begins to answer a text in UTF-8: what the session held before is forgotten. Splitting the text into tokens takes time in
/// proportion to the square of its length.
///
/// # Safety
/// `session` must be one that was opened, `text` have `text_bytes` readable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn furlong_ask(
    session: *mut FurlongSession,
    text: *const c_char,
    text_bytes: usize,
    most_tokens: u32,
) -> FurlongStatus {
    // SAFETY: the caller's promise.
    let (state, text) = unsafe { (state(session), bytes(text.cast(), text_bytes)) };
    let (Some(state), Ok(text)) = (state, str::from_utf8(text)) else {
        return FurlongStatus::Usage;
    };
    match Answer::to_text(&mut state.session, text, most_tokens as usize, None) {
        Ok(answer) => {
            state.answer = Some(answer);
            FurlongStatus::Ok
        }
        Err(error) => {
            state.answer = None;
            error.into()
        }
    }
}

/// As `furlong_ask`, of tokens.
///
/// # Safety
/// `session` must be one that was opened, `tokens` have `count` readable tokens.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn furlong_ask_tokens(
    session: *mut FurlongSession,
    tokens: *const u32,
    count: usize,
    most_tokens: u32,
) -> FurlongStatus {
    if tokens.is_null() {
        return FurlongStatus::Usage;
    }
    // SAFETY: the caller's promise.
    let (state, tokens) = unsafe { (state(session), slice::from_raw_parts(tokens, count)) };
    let Some(state) = state else {
        return FurlongStatus::Usage;
    };
    match Answer::to_tokens(&mut state.session, tokens, most_tokens as usize, None) {
        Ok(answer) => {
            state.answer = Some(answer);
            FurlongStatus::Ok
        }
        Err(error) => {
            state.answer = None;
            error.into()
        }
    }
}

/// Does a bounded amount of work on the answer: feed the watchdog, then call it again. With `FURLONG_STATUS_TOKEN` the token is in
/// `token`.
///
/// # Safety
/// `session` must be one that was opened, `token` null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn furlong_step(
    session: *mut FurlongSession,
    token: *mut u32,
) -> FurlongStatus {
    // SAFETY: the caller's promise.
    let Some(state) = (unsafe { state(session) }) else {
        return FurlongStatus::Usage;
    };
    let Some(answer) = &mut state.answer else {
        return FurlongStatus::Usage;
    };
    match answer.step(&mut state.session) {
        Ok(Event::Worked { .. }) => FurlongStatus::Worked,
        Ok(Event::Token(next)) => {
            if !token.is_null() {
                // SAFETY: the caller's promise.
                unsafe { token.write(next) };
            }
            FurlongStatus::Token
        }
        Ok(Event::Finished(Finish::Context)) => FurlongStatus::ContextEnded,
        Ok(Event::Finished(_)) => FurlongStatus::Finished,
        Err(error) => error.into(),
    }
}

/// The bytes of text that a token stands for: a pointer into the plan, and their number in `count`. They may be a part of a character:
/// whole characters are only whole after the next token. Null for special tokens, such as the end of the text.
///
/// # Safety
/// `session` must be one that was opened, `count` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn furlong_piece(
    session: *mut FurlongSession,
    token: u32,
    count: *mut usize,
) -> *const u8 {
    // SAFETY: the caller's promise.
    let state = unsafe { state(session) };
    let tokenizer = state.and_then(|state| state.session.plan().tokenizer());
    let piece = match tokenizer {
        Some(tokenizer) if !tokenizer.is_special(token) => tokenizer.piece(token),
        _ => &[],
    };
    if !count.is_null() {
        // SAFETY: the caller's promise.
        unsafe { count.write(piece.len()) };
    }
    if piece.is_empty() {
        ptr::null()
    } else {
        piece.as_ptr()
    }
}

/// A status in words, for a log. A number that is no status is said to be that.
#[unsafe(no_mangle)]
pub extern "C" fn furlong_explain(status: i32) -> *const c_char {
    let known = EXPLANATIONS
        .iter()
        .find(|(known, _)| *known as i32 == status);
    known.map_or(c"not a status", |(_, text)| text).as_ptr()
}

const EXPLANATIONS: [(FurlongStatus, &CStr); 11] = [
    (FurlongStatus::Ok, c"all is well"),
    (FurlongStatus::Worked, c"some work was done: call furlong_step again"),
    (FurlongStatus::Token, c"the next token is there"),
    (FurlongStatus::Finished, c"the answer is whole"),
    (FurlongStatus::ContextEnded, c"the context is full: make the plan with a longer one, or ask for less"),
    (FurlongStatus::Usage, c"null pointer, text that is not UTF-8, or nothing was asked; or the plan has no tokenizer"),
    (FurlongStatus::Plan, c"no plan, another version, or damaged: make it again and flash it again"),
    (FurlongStatus::Instructions, c"the plan is packed for instructions that this build lacks: make it for this board, or build for its core"),
    (FurlongStatus::Arena, c"the arena is too small: furlong_arena_bytes says what is needed"),
    (FurlongStatus::Context, c"the text is longer than the context"),
    (FurlongStatus::Kernel, c"a kernel refused its work: this is a bug"),
];

/// # Safety
/// `at` must be null or have `count` readable bytes for as long as they are used.
unsafe fn bytes(at: *const u8, count: usize) -> &'static [u8] {
    if at.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(at, count) }
}

/// # Safety
/// `session` must be null or one that was opened.
unsafe fn state(session: *mut FurlongSession) -> Option<&'static mut State> {
    // SAFETY: the caller's promise: `furlong_open` wrote a state there.
    unsafe { session.cast::<State>().as_mut() }
}

/// Nothing in the library panics on its input; were there a bug, the watchdog would find the firmware here.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
