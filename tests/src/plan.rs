//! Flat plans in tests: an image where a board would have it, and what it computes.

use std::num::NonZeroUsize;
use std::path::Path;

use furlong_core::IsaKind;
use furlong_core::plan::{Plan, Session, TENSOR_ALIGN};
use furlong_runtime::{LoweredModel, PlanOptions};

/// An image at an address that plans may have.
pub struct Image {
    bytes: Vec<u8>,
    start: usize,
}

impl Image {
    /// The plan of the model in a folder, for sequences of at most `context` tokens.
    ///
    /// # Panics
    /// When there is none.
    pub fn of(folder: &Path, isa: IsaKind, context: usize) -> Image {
        let options = PlanOptions {
            isa,
            context: Some(context),
            threads: NonZeroUsize::MIN,
            ..PlanOptions::default()
        };
        let lowered = LoweredModel::load(folder, &options)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        Image::new(&lowered.image().expect("an image"))
    }

    /// A copy of the bytes of a plan.
    pub fn new(image: &[u8]) -> Image {
        let mut bytes = vec![0; image.len() + TENSOR_ALIGN];
        let start = bytes.as_ptr().align_offset(TENSOR_ALIGN);
        bytes[start..start + image.len()].copy_from_slice(image);
        Image { bytes, start }
    }

    /// The plan.
    ///
    /// # Panics
    /// When it is refused.
    pub fn plan(&self) -> Plan<'_> {
        Plan::check(&self.bytes[self.start..]).expect("a plan")
    }

    /// What an encoder's plan gives for each sentence, one after another in the same arena, which is dirty at first.
    ///
    /// # Panics
    /// When a sentence is refused.
    pub fn encode(&self, sentences: &[Vec<u32>]) -> Vec<Vec<f32>> {
        let plan = self.plan();
        let mut arena = vec![0xA5; plan.arena_bytes()];
        let mut session = Session::new(plan, &mut arena).expect("an arena that is large enough");
        let encode = |tokens: &Vec<u32>| {
            session.feed(tokens).expect("a sentence that fits");
            session.finish().expect("an output").to_vec()
        };
        sentences.iter().map(encode).collect()
    }
}
