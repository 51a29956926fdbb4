//! Writes the image of a program whose sizes are known.

use furlong_core::plan::{
    BUFFER_BYTES, Buffer, BufferId, HEADER_BYTES, Header, OP_BYTES, TENSOR_ALIGN, TENSOR_BYTES,
    Table, Tensor, seal,
};

use super::certificate::{life, sized};
use super::program::{Program, Sizes};

/// What a header says beside sizes and places.
pub(super) struct Parts<'a> {
    pub program: &'a Program,
    pub sizes: Sizes,
    /// With all that doesn't depend on sizes and places.
    pub header: Header,
    pub tokenizer: &'a [u8],
}

/// The image; `None` when 32 bits can't count its bytes, or 16 its parts.
pub(super) fn write(parts: &Parts<'_>) -> Option<Vec<u8>> {
    let Parts {
        program,
        sizes,
        header,
        tokenizer,
    } = parts;
    let (bytes, layout) = sized(program, *sizes)?;
    let none = usize::from(u16::MAX);
    if [
        program.ops.len() + 2,
        program.buffers.len(),
        program.tensors.len(),
    ]
    .iter()
    .any(|&count| count >= none)
    {
        return None;
    }
    let mut at = HEADER_BYTES;
    let mut table = |count: usize, size: usize| {
        let start = at;
        at += count * size;
        Some(Table {
            at: u32::try_from(start).ok()?,
            count: u32::try_from(count).ok()?,
        })
    };
    let ops = table(program.ops.len(), OP_BYTES)?;
    let buffers = table(program.buffers.len(), BUFFER_BYTES)?;
    let tensors = table(program.tensors.len(), TENSOR_BYTES)?;
    let text = table(tokenizer.len(), 1)?;
    let mut image = vec![0; HEADER_BYTES];
    for op in &program.ops {
        image.extend(op.op.encode());
    }
    let placed = program.buffers.iter().zip(bytes).zip(&layout.offsets);
    for ((buffer, bytes), &offset) in placed {
        let (first, last) = life(buffer);
        let record = Buffer {
            content: buffer.content,
            offset: u32::try_from(offset).ok()?,
            bytes,
            rows: u32::try_from(buffer.rows(*sizes)).ok()?,
            columns: u32::try_from(buffer.columns).ok()?,
            first,
            last,
        };
        image.extend(record.encode());
    }
    let mut data = at.next_multiple_of(TENSOR_ALIGN);
    for tensor in &program.tensors {
        let record = Tensor {
            format: tensor.format,
            offset: u32::try_from(data).ok()?,
            bytes: u32::try_from(tensor.bytes.len()).ok()?,
            rows: u32::try_from(tensor.rows).ok()?,
            columns: u32::try_from(tensor.columns).ok()?,
        };
        image.extend(record.encode());
        data = data.checked_add(tensor.bytes.len().next_multiple_of(TENSOR_ALIGN))?;
    }
    image.extend_from_slice(tokenizer);
    for tensor in &program.tensors {
        image.resize(image.len().next_multiple_of(TENSOR_ALIGN), 0);
        image.extend_from_slice(&tensor.bytes);
    }
    image.resize(image.len().next_multiple_of(TENSOR_ALIGN), 0);
    let header = Header {
        size: u32::try_from(image.len()).ok()?,
        cache: sizes.cache,
        context: u32::try_from(sizes.context).ok()?,
        tile: u32::try_from(sizes.tile).ok()?,
        arena_bytes: u32::try_from(layout.bytes).ok()?,
        ops,
        buffers,
        tensors,
        tokenizer: text,
        head: u32::try_from(program.head).ok()?,
        ..*header
    };
    let record = header.encode(0);
    image.get_mut(..HEADER_BYTES)?.copy_from_slice(&record);
    seal(&mut image).ok()?;
    Some(image)
}

/// The header of a plan before sizes and places are known.
pub(super) fn unplaced(tokens: BufferId, output: BufferId) -> Header {
    Header {
        size: 0,
        isa: furlong_core::IsaKind::Scalar,
        cache: furlong_core::plan::CacheFormat::F16,
        kind: furlong_core::plan::PlanKind::Decoder,
        context: 0,
        tile: 0,
        vocabulary: 0,
        arena_bytes: 0,
        ops: Table::default(),
        buffers: Table::default(),
        tensors: Table::default(),
        tokenizer: Table::default(),
        head: 0,
        tokens,
        output,
        candidates: None,
        text: None,
        ends: [furlong_core::plan::NO_TOKEN; 4],
        sampling: furlong_core::sampler::SamplingParams::GREEDY,
        source: [0; 32],
    }
}
