//! Small encoders (`tests/encoders/make.py`) as flat plans: logits are those that ONNX Runtime computes, of features and of tokens.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use furlong_core::plan::{Plan, PlanError, PlanKind, Session, TENSOR_ALIGN, seal};
use furlong_core::{Isa, IsaKind};
use furlong_runtime::{
    Array, Graph, GraphOptions, LoadOptions, LoweredModel, Model, OnnxModel, PlanOptions,
};

/// What is stored for each model.
const CASES: usize = 4;
/// Tokens of the longest sentence; features are as many as they are.
const CONTEXT: usize = 16;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/encoders")
        .join(name)
}

fn stored(io: &OnnxModel, name: &str) -> Array {
    Array::from_data(&io.initialiser(name).unwrap().unwrap()).unwrap()
}

/// An image at an address that plans may have, and its length.
struct Image(Vec<[u128; TENSOR_ALIGN / 16]>, usize);

impl Image {
    fn of(name: &str, isa: IsaKind) -> Image {
        let options = PlanOptions {
            isa,
            context: Some(CONTEXT),
            threads: NonZeroUsize::MIN,
            ..PlanOptions::default()
        };
        let lowered = LoweredModel::load(&file(&format!("{name}.onnx")), &options).unwrap();
        let bytes = lowered.image().unwrap();
        Image(bytemuck::pod_collect_to_vec(&bytes), bytes.len())
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.0)[..self.1]
    }
}

/// The largest difference.
fn worst(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    apart.fold(0.0, f32::max)
}

fn argmax(logits: &[f32]) -> usize {
    let all = logits.iter().enumerate();
    all.max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
}

#[test]
fn logits_are_those_of_onnx_runtime() {
    // 8-bit layers round activations, which ONNX Runtime's do not.
    for (name, bound) in [("frames", 0.1), ("patches", 1e-4)] {
        let io = OnnxModel::open(&file(&format!("{name}.io"))).unwrap();
        let graph = Graph::load(&file(&format!("{name}.onnx")), &GraphOptions::default()).unwrap();
        let mut first: Option<Vec<Vec<f32>>> = None;
        for isa in [IsaKind::Scalar, Isa::detect().kind()] {
            let mut image = Image::of(name, isa);
            let plan = Plan::check(image.bytes()).unwrap();
            assert_eq!(plan.header().kind, PlanKind::Features);
            let mut arena = vec![0xA5; plan.arena_bytes()];
            let mut session = Session::new(plan, &mut arena).unwrap();
            let mut found = Vec::new();
            for case in 0..CASES {
                let features = stored(&io, &format!("in:features.{case}"));
                let theirs = stored(&io, &format!("out:logits.{case}"));
                let theirs = theirs.as_f32().unwrap();
                session.feed_features(features.as_f32().unwrap()).unwrap();
                let ours = session.finish().unwrap().to_vec();
                let worst = worst(&ours, theirs);
                println!("{name} {case} {isa:?}: {worst:.1e}");
                assert!(worst <= bound, "{name} {case}: {worst}");
                assert_eq!(argmax(&ours), argmax(theirs), "{name} {case}");
                let linux = graph.run(vec![("features".to_owned(), features)]).unwrap();
                let linux = linux[0].1.as_f32().unwrap();
                assert_eq!(argmax(&ours), argmax(linux), "{name} {case}");
                found.push(ours);
            }
            // The same bits on every instruction set.
            assert_eq!(first.get_or_insert_with(|| found.clone()), &found);
            assert_eq!(session.feed_features(&[0.0; 7]), Err(PlanError::Usage));
            assert_eq!(session.feed(&[1]), Err(PlanError::Usage));
            assert_eq!(session.prompt("yes"), Err(PlanError::Usage));
        }
    }
}

#[test]
fn a_classifier_gives_the_logits_of_onnx_runtime() {
    let io = OnnxModel::open(&file("classifier.io")).unwrap();
    let model = Model::load(&file("classifier.onnx"), &LoadOptions::default()).unwrap();
    for isa in [IsaKind::Scalar, Isa::detect().kind()] {
        let mut image = Image::of("classifier", isa);
        let plan = Plan::check(image.bytes()).unwrap();
        assert_eq!(plan.header().kind, PlanKind::Encoder);
        let mut arena = vec![0xA5; plan.arena_bytes()];
        let mut session = Session::new(plan, &mut arena).unwrap();
        for case in 0..CASES {
            let ids = stored(&io, &format!("in:input_ids.{case}"));
            let ids = ids.as_i64().unwrap().iter().map(|&id| id as u32);
            let ids: Vec<u32> = ids.collect();
            let theirs = stored(&io, &format!("out:logits.{case}"));
            let theirs = theirs.as_f32().unwrap();
            session.feed(&ids).unwrap();
            let ours = session.finish().unwrap().to_vec();
            // Linux runs the same kernels; ONNX Runtime doesn't round activations to 8 bits.
            let linux = model.encode(&[ids]).unwrap();
            assert!(worst(&ours, &linux[0]) <= 1e-6, "{case}");
            assert!(worst(&ours, theirs) <= 0.1, "{case}");
            assert_eq!(argmax(&ours), argmax(theirs), "{case}");
        }
        assert_eq!(session.feed(&[0; CONTEXT + 1]), Err(PlanError::ContextFull));
        assert_eq!(session.feed(&[64]), Err(PlanError::Token(64)));
        assert_eq!(session.features_mut().err(), Some(PlanError::Usage));
    }
}

/// Runs what passes the check.
fn run(image: &[u8], arena: &mut [u8]) -> Result<(), PlanError> {
    let plan = Plan::check(image)?;
    let mut session = Session::new(plan, arena)?;
    for numbers in [49 * 40, 40 * 98] {
        let features = vec![0.5; numbers];
        if session.feed_features(&features).is_ok() {
            session.finish()?;
        }
    }
    if session.feed(&[3, 1, 4, 1, 5]).is_ok() {
        session.finish()?;
    }
    Ok(())
}

#[test]
fn a_forged_plan_is_harmless() {
    let mut arena = vec![0; 1 << 20];
    for name in ["frames", "patches", "classifier"] {
        let mut image = Image::of(name, IsaKind::Scalar);
        let plan = Plan::check(image.bytes()).unwrap();
        let tensors = plan.header().tensors;
        let meaning = tensors.at as usize + 24 * tensors.count as usize;
        let bytes = image.bytes();
        // What comes before the weights is where the meaning is.
        for at in (16..meaning).step_by(3) {
            let before = bytes[at];
            bytes[at] ^= [0x01, 0x80, 0xFF][at % 3];
            seal(bytes).unwrap();
            let _ = run(bytes, &mut arena);
            bytes[at] = before;
        }
        seal(bytes).unwrap();
        assert_eq!(run(bytes, &mut arena), Ok(()));
    }
}
