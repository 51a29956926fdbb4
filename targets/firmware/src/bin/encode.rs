//! A program for encoders on a board: lines of text in, the bits of what the model makes of each out. A model that reads features
//! gets one pattern of them, which a host can make too.
#![no_std]
#![no_main]

use furlong_core::plan::{Plan, PlanError, PlanKind, Session, Step};
use furlong_firmware::{board, commands::Commands, counter, memory, transport};

furlong_firmware::main!(run);

fn run() -> u8 {
    let Some(image) = board::plan() else {
        defmt::error!("no plan is linked in");
        return 1;
    };
    match encode(image) {
        Ok(()) => 0,
        Err(error) => {
            defmt::error!("{}", error);
            1
        }
    }
}

fn encode(image: &'static [u8]) -> Result<(), PlanError> {
    let plan = Plan::check(image)?;
    let mut session = Session::new(plan, memory::arena())?;
    if plan.header().kind == PlanKind::Features {
        let features = session.features_mut()?.iter_mut();
        // Eighths from -2.5 to 2.5, in no order.
        features.enumerate().for_each(|(index, feature)| {
            *feature = ((index % 41 * 37 % 41) as f32 - 20.0) * 0.125;
        });
        return finish(&mut session);
    }
    let mut commands = Commands::new();
    while let Some(line) = commands.next_line() {
        let text = core::str::from_utf8(&line).unwrap_or_default();
        session.prompt(text)?;
        finish(&mut session)?;
    }
    Ok(())
}

/// Steps until all is read, and writes the output.
fn finish(session: &mut Session<'_, '_>) -> Result<(), PlanError> {
    let start = counter::now();
    let mut steps = 0u32;
    while session.step()? != Step::Ready {
        steps = steps.saturating_add(1);
    }
    defmt::info!(
        "{=usize} rows in {=u32} steps, {=u64} {=str}, at most {=usize} bytes of stack",
        session.len(),
        steps,
        counter::now().saturating_sub(start),
        counter::UNIT,
        memory::stack_high_water(),
    );
    let output = session.output().ok_or(PlanError::Usage)?;
    transport::write("{\"bits\":[");
    for (index, number) in output.iter().enumerate() {
        transport::write(if index == 0 { "\"" } else { ",\"" });
        let digits = b"0123456789abcdef";
        let mut text = [0; 8];
        let halves = (0..8).rev().map(|half| number.to_bits() >> (4 * half) & 15);
        for (to, half) in text.iter_mut().zip(halves) {
            *to = digits.get(half as usize).copied().unwrap_or(b'0');
        }
        transport::write(core::str::from_utf8(&text).unwrap_or_default());
        transport::write("\"");
    }
    transport::write("]}\n");
    Ok(())
}
