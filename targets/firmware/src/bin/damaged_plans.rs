//! A test to run on a board: copies the plan into RAM, cuts it short at every byte, flips bits of it at many places, and goes on
//! living.
//!
//! A line of input, whatever it says, makes these places every byte, which takes minutes. What is cut or flipped must be refused. What
//! is flipped and sealed again, so that its checksum is right, may be refused or may work; either way nothing may fault, hang or
//! panic. At the end the undamaged plan must still answer.
#![no_std]
#![no_main]

use furlong_core::plan::{Answer, Event, Plan, PlanError, Session, seal};
use furlong_firmware::{board, commands::Commands, memory, transport};

furlong_firmware::main!(run);

/// Plans start at multiples of this.
const ALIGN: usize = 64;
/// More than an answer of the undamaged plan takes.
const MOST_STEPS: usize = 4096;
/// Bytes of the tables at the start, of which every one is flipped; beyond, every [`STRIDE`]-th, unless it is to be every one.
const TABLES: usize = 1024;
const STRIDE: usize = 61;

fn run() -> u8 {
    let Some(whole) = board::plan() else {
        defmt::error!("no plan is linked in");
        return 1;
    };
    let room = whole.len().next_multiple_of(ALIGN);
    let Some((copy, arena)) = memory::arena().split_at_mut_checked(room) else {
        defmt::error!("the plan doesn't fit into RAM twice");
        return 1;
    };
    let Some(copy) = copy.get_mut(..whole.len()) else {
        return 1;
    };
    restore(copy, whole);
    let [mut refused, mut survived, mut wrong] = [0u32; 3];
    for length in 0..whole.len() {
        match copy.get(..length).map(Plan::check) {
            Some(Err(_)) => refused += 1,
            _ => {
                defmt::error!("cut to {=usize} bytes: accepted", length);
                wrong += 1;
            }
        }
    }
    let every = Commands::new().next_line().is_some();
    let stride = if every { 1 } else { STRIDE };
    for place in places(whole.len(), stride) {
        flip(copy, place);
        match Plan::check(copy) {
            Err(_) => refused += 1,
            Ok(_) => {
                defmt::error!("flipped at {=usize}: accepted", place);
                wrong += 1;
            }
        }
        flip(copy, place);
    }
    for place in places(whole.len(), STRIDE).step_by(3) {
        flip(copy, place);
        match seal(copy).and_then(|()| answer(copy, arena)) {
            Err(_) => refused += 1,
            Ok(_) => survived += 1,
        }
        restore(copy, whole);
    }
    let tokens = answer(copy, arena).unwrap_or(0);
    defmt::info!(
        "{=u32} damaged plans refused, {=u32} survived, {=u32} wrongly accepted; the undamaged one answers {=u32} tokens",
        refused,
        survived,
        wrong,
        tokens
    );
    let passed = wrong == 0 && refused > 0 && tokens > 0;
    transport::write(if passed {
        "{\"damage\":\"survived\"}\n"
    } else {
        "{\"damage\":\"failed\"}\n"
    });
    u8::from(!passed)
}

/// Where damage is done.
fn places(len: usize, stride: usize) -> impl Iterator<Item = usize> {
    (0..len).filter(move |place| *place < TABLES || place.is_multiple_of(stride))
}

fn flip(bytes: &mut [u8], place: usize) {
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= 1 << (place % 8);
    }
}

fn restore(copy: &mut [u8], whole: &[u8]) {
    copy.iter_mut()
        .zip(whole)
        .for_each(|(to, from)| *to = *from);
}

/// Lets a plan answer, if it is accepted; gives the number of tokens.
fn answer(image: &[u8], arena: &mut [u8]) -> Result<u32, PlanError> {
    let plan = Plan::check(image)?;
    let mut session = Session::new(plan, arena)?;
    let mut answer = Answer::to_text(&mut session, "turn on the light", 3, None)?;
    let mut tokens = 0;
    for _ in 0..MOST_STEPS {
        match answer.step(&mut session)? {
            Event::Worked { .. } => {}
            Event::Token(_) => tokens += 1,
            Event::Finished(_) => break,
        }
    }
    Ok(tokens)
}
