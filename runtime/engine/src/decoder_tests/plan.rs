//! The same decoders as flat plans: the bits must be those of the graph that tract runs.

use std::num::NonZeroUsize;

use furlong_core::plan::{
    Answer, Event, Finish, HEADER_BYTES, Plan, PlanError, Session, Step, seal,
};
use furlong_core::{Isa, IsaKind};

use super::builder::{Builder, CONTEXT, Stored, VOCAB};
use super::{load_with, tokens};
use crate::{KvFormat, LoweredModel, OnnxModel, PlanOptions};

/// Bytes at an address that plans may have.
struct Aligned(Vec<u128>);

impl Aligned {
    fn new(bytes: &[u8]) -> Aligned {
        Aligned(bytemuck::pod_collect_to_vec(bytes))
    }

    fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn lower(stored: Stored, isa: IsaKind, kv: KvFormat, tile: usize) -> LoweredModel {
    let onnx = OnnxModel::from_bytes(&Builder::decoder(stored)).unwrap();
    let options = PlanOptions {
        isa,
        kv,
        tile: NonZeroUsize::new(tile).unwrap(),
        ..PlanOptions::default()
    };
    LoweredModel::from_onnx(onnx, &options).unwrap()
}

/// Reads tokens, and gives the logits after the last one.
fn read(session: &mut Session<'_, '_>, tokens: &[u32]) -> Vec<f32> {
    session.feed(tokens).unwrap();
    while session.step().unwrap() != Step::Ready {}
    session.output().unwrap().to_vec()
}

#[test]
fn logits_are_those_of_the_graph_bit_for_bit() {
    let tokens = tokens(23);
    for stored in [Stored::F32, Stored::Bits(8), Stored::Bits(4)] {
        for kv in [KvFormat::F16, KvFormat::F32, KvFormat::Q8] {
            let model = load_with(stored, 1, Isa::SCALAR, kv);
            let mut graph = model.session().unwrap();
            let want = [&tokens[..17], &tokens[17..18], &tokens[18..]]
                .map(|part| graph.extend(part).unwrap().to_vec());
            for isa in [Isa::SCALAR, Isa::detect()] {
                for tile in [1, 4, 32] {
                    let lowered = lower(stored, isa.kind(), kv, tile);
                    let image = Aligned::new(&lowered.image().unwrap());
                    let plan = Plan::check(image.bytes()).unwrap();
                    let mut arena = vec![0xA5; plan.arena_bytes()];
                    let mut session = Session::new(plan, &mut arena).unwrap();
                    let got = [&tokens[..17], &tokens[17..18], &tokens[18..]]
                        .map(|part| read(&mut session, part));
                    assert!(got == want, "{} {kv:?} tile {tile}", isa.name());
                }
            }
        }
    }
}

#[test]
fn answers_stop_at_their_length_and_at_the_context() {
    let lowered = lower(Stored::Bits(8), IsaKind::Scalar, KvFormat::Q8, 4);
    let image = Aligned::new(&lowered.image().unwrap());
    let plan = Plan::check(image.bytes()).unwrap();
    let mut arena = vec![0; plan.arena_bytes()];
    let mut session = Session::new(plan, &mut arena).unwrap();
    let mut answer = |most: usize| {
        let mut answer = Answer::to_tokens(&mut session, &tokens(9), most, None).unwrap();
        let mut tokens = Vec::new();
        loop {
            match answer.step(&mut session).unwrap() {
                Event::Worked { .. } => {}
                Event::Token(token) => tokens.push(token),
                Event::Finished(finish) => return (tokens, finish),
            }
        }
    };
    let (short, finish) = answer(5);
    assert_eq!((short.len(), finish), (5, Finish::Length));
    let (long, finish) = answer(1000);
    assert_eq!((long.len(), finish), (CONTEXT - 9 + 1, Finish::Context));
    assert_eq!(long[..5], short);
    assert_eq!(
        session.feed(&[VOCAB as u32]),
        Err(PlanError::Token(VOCAB as u32))
    );
    assert_eq!(session.feed(&[]), Err(PlanError::Usage));
    session.reset();
    assert_eq!(
        session.feed(&tokens(CONTEXT + 1)),
        Err(PlanError::ContextFull)
    );
    assert_eq!(session.step(), Ok(Step::Idle));
}

/// Runs what passes the check, as far as it goes.
fn run(image: &[u8], arena: &mut [u8]) -> Result<(), PlanError> {
    let plan = Plan::check(image)?;
    let mut session = Session::new(plan, arena)?;
    let mut answer = Answer::to_tokens(&mut session, &[1, 2, 3, 4, 5], 2, None)?;
    while !matches!(answer.step(&mut session)?, Event::Finished(_)) {}
    Ok(())
}

#[test]
fn a_damaged_plan_is_refused_and_a_forged_one_is_harmless() {
    let lowered = lower(Stored::Bits(4), IsaKind::Scalar, KvFormat::Q8, 2);
    let good = lowered.image().unwrap();
    let mut arena = vec![0; 1 << 20];
    assert_eq!(run(Aligned::new(&good).bytes(), &mut arena), Ok(()));
    let mut image = Aligned::new(&good);
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut image.0);
    for at in 0..good.len() {
        // Every byte flipped is noticed.
        if at < 500 || at % 997 == 0 {
            bytes[at] ^= 1 << (at % 8);
            assert!(Plan::check(bytes).is_err(), "byte {at}");
            bytes[at] ^= 1 << (at % 8);
        }
    }
    for len in (0..HEADER_BYTES).chain([good.len() / 2, good.len() - 1]) {
        assert!(Plan::check(&bytes[..len]).is_err(), "{len} bytes");
    }
    // With a checksum that was made to fit, it may run or not, but never panics. What comes before the weights is
    // where the meaning is.
    let meaning = good.len().min(6000);
    for at in (16..meaning).filter(|at| at % 5 == 0 || *at < 300) {
        let before = bytes[at];
        bytes[at] ^= [0x01, 0x80, 0xFF][at / 5 % 3];
        seal(&mut bytes[..good.len()]).unwrap();
        let _ = run(bytes, &mut arena);
        bytes[at] = before;
    }
}
