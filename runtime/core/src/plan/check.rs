//! Checks a whole image once, so that what runs later can be trusted to fit: sizes, places, shapes, lifetimes.
//!
//! The checksum finds damage; everything else is for images that someone made wrongly, or with ill intent. What runs
//! never relies on this for memory safety, its slices are checked again; it relies on it for meaning: that no op
//! reads what another op's buffer overwrote, and that nothing fails half-way.

mod ops;

use super::checksum::crc32;
use super::header::UNCHECKED_BYTES;
use super::{
    BUFFER_BYTES, BufferId, Content, HEADER_BYTES, Header, OP_BYTES, Part, Plan, PlanError,
    PlanKind, TENSOR_BYTES, TensorId, Tokenizer, WORDS_PER_BYTE,
};
use crate::Feature;
use crate::sampler::Sampler;
use ops::Checker;

/// The most buffers: pairs of them are compared.
const MOST_BUFFERS: u32 = 1024;

pub(super) fn check(image: &[u8]) -> Result<Plan<'_>, PlanError> {
    if cfg!(target_endian = "big") {
        return Err(PlanError::Endian);
    }
    let header = Header::decode(image)?;
    let whole = image.get(..header.size as usize);
    let Some(image) = whole.filter(|image| image.len() >= HEADER_BYTES) else {
        return Err(PlanError::Size {
            wanted: header.size,
            found: image.len() as u32,
        });
    };
    if image.as_ptr().align_offset(4) != 0 {
        return Err(PlanError::Alignment);
    }
    let stored = image
        .get(UNCHECKED_BYTES - 4..)
        .and_then(|at| at.first_chunk());
    let rest = image.get(UNCHECKED_BYTES..).unwrap_or_default();
    if stored.copied().map(u32::from_le_bytes) != Some(crc32(rest)) {
        return Err(PlanError::Checksum);
    }
    let plan = Plan { image, header };
    check_tables(&plan)?;
    check_header(&plan)?;
    for feature in Feature::ALL {
        if !feature.is_built() && plan.needs(feature)? {
            return Err(PlanError::Feature(feature));
        }
    }
    for index in 0..plan.op_count() {
        let op = plan.op(index)?;
        let checker = Checker::new(&plan, index);
        checker.op(&op).map_err(|refused| match refused {
            // Kernels say no more than that it doesn't fit.
            PlanError::Kernel(_) => checker.refuse(),
            other => other,
        })?;
    }
    Ok(plan)
}

/// Checks that tables lie inside the image, and each record by itself.
fn check_tables(plan: &Plan<'_>) -> Result<(), PlanError> {
    let header = &plan.header;
    let tables = [
        (header.ops, OP_BYTES, Part::Ops, u32::from(u16::MAX) - 2),
        (header.buffers, BUFFER_BYTES, Part::Buffers, MOST_BUFFERS),
        (
            header.tensors,
            TENSOR_BYTES,
            Part::Tensors,
            u32::from(u16::MAX) - 1,
        ),
        (header.tokenizer, 1, Part::Tokenizer, u32::MAX),
    ];
    for (table, size, part, most) in tables {
        let range = table.range(size);
        let inside = range.is_some_and(|range| plan.image.get(range).is_some());
        if !inside || table.count > most {
            return Err(PlanError::Part(part));
        }
    }
    for index in 0..header.tensors.count as u16 {
        let tensor = plan.tensor(TensorId(index))?;
        if !tensor.fits(header.isa, header.size) {
            return Err(PlanError::Tensor(index));
        }
    }
    for index in 0..header.buffers.count as u16 {
        let buffer = plan.buffer(BufferId(index))?;
        if !buffer.fits(header.cache, header.arena_bytes) {
            return Err(PlanError::Buffer(index));
        }
        for other in 0..index {
            if buffer.clashes(&plan.buffer(BufferId(other))?) {
                return Err(PlanError::Overlap(other, index));
            }
        }
    }
    Ok(())
}

/// Checks the numbers that hold for the whole plan.
fn check_header(plan: &Plan<'_>) -> Result<(), PlanError> {
    let header = &plan.header;
    let sizes = header.context > 0
        && header.tile > 0
        && header.tile <= header.context
        && header.head <= header.ops.count
        && header.ops.count > 0
        && (header.kind == PlanKind::Decoder || header.tile == header.context)
        && Sampler::new(header.sampling).is_ok();
    if !sizes {
        return Err(PlanError::Part(Part::Header));
    }
    let (sampling, texts) = (plan.op_count(), plan.op_count() + 1);
    let tokens = plan.buffer(header.tokens)?;
    let fits = match header.kind {
        PlanKind::Decoder | PlanKind::Encoder => {
            let kept = (tokens.first, tokens.last) == (0, u16::MAX);
            let shape = (tokens.rows, tokens.columns) == (header.context, 1);
            tokens.content == Content::Words && shape && kept
        }
        // Features are there when the first op begins, and nothing else is until then.
        PlanKind::Features => {
            tokens.content == Content::Floats
                && tokens.rows <= header.context
                && tokens.lives_at(0)
                && header.tokenizer.count == 0
        }
    };
    if !fits {
        return Err(PlanError::Buffer(header.tokens.0));
    }
    let output = plan.buffer(header.output)?;
    let decodes = header.kind == PlanKind::Decoder;
    if output.content != Content::Floats
        || output.rows != 1
        || (decodes && output.columns != header.vocabulary)
        || !output.lives_at(sampling)
    {
        return Err(PlanError::Buffer(header.output.0));
    }
    if header.tokenizer.count > 0 {
        Tokenizer::check(plan.image, header.tokenizer, header.vocabulary)?;
    }
    for (id, point, width) in [
        (header.candidates, sampling, 2),
        (header.text, texts, WORDS_PER_BYTE as u32),
    ] {
        let Some(id) = id else { continue };
        let buffer = plan.buffer(id)?;
        if buffer.content != Content::Words || buffer.columns != width || !buffer.lives_at(point) {
            return Err(PlanError::Buffer(id.0));
        }
    }
    Ok(())
}
