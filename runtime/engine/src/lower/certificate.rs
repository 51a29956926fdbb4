//! What a plan asks of a board, said before anything is flashed.

use furlong_core::plan::{
    BUFFER_BYTES, CacheFormat, Content, HEADER_BYTES, OP_BYTES, PlanKind, TENSOR_BYTES,
};
use serde::Serialize;

use super::arena::{Layout, Piece, lay_out};
use super::program::{ALWAYS, PlannedBuffer, Program, Sizes};

/// Bytes of stack that executing a plan takes at most, calls of the kernels included. The deepest is attention over an
/// 8-bit cache, with the scores of four heads and their running sums.
pub(super) const STACK_BYTES: usize = 8 << 10;

/// The memory certificate of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct Certificate {
    /// What the plan computes: `decoder`, `encoder`, or `features` for an encoder that reads these instead of tokens.
    pub kind: &'static str,
    /// Most tokens that a session holds; the most rows that features become.
    pub context: usize,
    /// Most tokens that go through the ops at once.
    pub tile: usize,
    /// How the cache stores keys and values; `none` without one.
    pub kv: &'static str,
    /// The instruction set that weights are packed for.
    pub isa: &'static str,
    /// Bytes of the image.
    pub flash_bytes: usize,
    /// Bytes of packed weights and tables among them.
    pub weights_bytes: usize,
    /// Bytes of the tokenizer among them.
    pub tokenizer_bytes: usize,
    /// Bytes of the arena: all working memory but the stack.
    pub arena_bytes: usize,
    /// Bytes of it that hold keys and values.
    pub cache_bytes: usize,
    /// The most that is in use at once; no placement could do with less.
    pub lower_bound_bytes: usize,
    /// The op at which it is.
    pub peak_op: usize,
    /// Bytes of stack that executing the plan takes at most.
    pub stack_bytes: usize,
    /// Each op, and what is in use while it runs.
    pub ops: Vec<OpRow>,
    /// Each buffer, where it lies and when.
    pub buffers: Vec<BufferRow>,
    /// Each constant in flash.
    pub tensors: Vec<TensorRow>,
}

/// A constant of a [`Certificate`].
#[derive(Debug, Clone, Serialize)]
pub struct TensorRow {
    /// What it is called in the model.
    pub name: String,
    /// Outputs, or entries of a table.
    pub rows: usize,
    /// Inputs, or numbers an entry.
    pub columns: usize,
    /// Its size in flash.
    pub bytes: usize,
}

/// An op of a [`Certificate`].
#[derive(Debug, Clone, Serialize)]
pub struct OpRow {
    /// What it does.
    pub op: &'static str,
    /// The node of the model that it comes from.
    pub node: String,
    /// Bytes in use while it runs.
    pub live_bytes: usize,
}

/// A buffer of a [`Certificate`].
#[derive(Debug, Clone, Serialize)]
pub struct BufferRow {
    /// What it is for.
    pub name: String,
    /// What it holds: `floats`, `bytes`, `cache` or `words`.
    pub content: &'static str,
    /// Where it starts in the arena.
    pub offset: usize,
    /// Its size.
    pub bytes: usize,
    /// The first op that uses it. The sampler counts as the op after the last, the tokenizer as the one after that.
    pub first: usize,
    /// The last op that uses it; absent for what outlives a tile.
    pub last: Option<usize>,
}

/// The sizes of all buffers, and their places; `None` when 32 bits can't count them.
pub(super) fn sized(program: &Program, sizes: Sizes) -> Option<(Vec<u32>, Layout)> {
    let bytes = program.buffers.iter().map(|buffer| buffer.bytes(sizes));
    let bytes: Vec<u32> = bytes.collect::<Option<_>>()?;
    let pieces = program.buffers.iter().zip(&bytes).map(|(buffer, &bytes)| {
        let (first, last) = life(buffer);
        Piece {
            bytes: bytes as usize,
            first,
            last,
        }
    });
    let layout = lay_out(&pieces.collect::<Vec<_>>());
    (u32::try_from(layout.bytes).is_ok()).then_some((bytes, layout))
}

/// When a buffer is in use; one that no op names never is, and takes the first op's time.
pub(super) fn life(buffer: &PlannedBuffer) -> (u16, u16) {
    buffer.life.unwrap_or((0, 0))
}

/// Bytes of an image with these tables.
pub(super) fn image_bytes(program: &Program, tokenizer_bytes: usize) -> usize {
    let records = program.ops.len() * OP_BYTES
        + program.buffers.len() * BUFFER_BYTES
        + program.tensors.len() * TENSOR_BYTES;
    let tables = HEADER_BYTES + records + tokenizer_bytes;
    tables.next_multiple_of(furlong_core::plan::TENSOR_ALIGN) + program.tensor_bytes()
}

/// The certificate of a program laid out for `sizes`; `None` when 32 bits can't count its memory.
pub(super) fn certify(
    program: &Program,
    kind: PlanKind,
    sizes: Sizes,
    isa: &'static str,
    tokenizer_bytes: usize,
) -> Option<Certificate> {
    let (bytes, layout) = sized(program, sizes)?;
    let placed = program.buffers.iter().zip(bytes).zip(&layout.offsets);
    let buffers: Vec<BufferRow> = placed
        .map(|((buffer, bytes), &offset)| {
            let (first, last) = life(buffer);
            BufferRow {
                name: buffer.name.clone(),
                content: match buffer.content {
                    Content::Floats => "floats",
                    Content::Bytes => "bytes",
                    Content::Cache => "cache",
                    Content::Words => "words",
                },
                offset,
                bytes: bytes as usize,
                first: first.into(),
                last: ((first, last) != ALWAYS).then_some(last.into()),
            }
        })
        .collect();
    let live_bytes = |index: usize| -> usize {
        let alive = buffers
            .iter()
            .filter(|buffer| buffer.first <= index && buffer.last.is_none_or(|last| index <= last));
        alive
            .map(|buffer| {
                buffer
                    .bytes
                    .next_multiple_of(furlong_core::plan::ARENA_ALIGN)
            })
            .sum()
    };
    let ops = program.ops.iter().enumerate().map(|(index, op)| OpRow {
        op: op.op.name(),
        node: op.node.clone(),
        live_bytes: live_bytes(index),
    });
    let tensors = program.tensors.iter().map(|tensor| TensorRow {
        name: tensor.name.clone(),
        rows: tensor.rows,
        columns: tensor.columns,
        bytes: tensor.bytes.len(),
    });
    let cache = buffers.iter().filter(|buffer| buffer.content == "cache");
    Some(Certificate {
        kind: match kind {
            PlanKind::Decoder => "decoder",
            PlanKind::Encoder => "encoder",
            PlanKind::Features => "features",
        },
        context: sizes.context,
        tile: sizes.tile,
        kv: match sizes.cache {
            _ if kind != PlanKind::Decoder => "none",
            CacheFormat::F16 => "f16",
            CacheFormat::F32 => "f32",
            CacheFormat::Q8 => "q8",
        },
        isa,
        flash_bytes: image_bytes(program, tokenizer_bytes),
        weights_bytes: program.tensor_bytes(),
        tokenizer_bytes,
        arena_bytes: layout.bytes,
        cache_bytes: cache.map(|buffer| buffer.bytes).sum(),
        lower_bound_bytes: layout.lower_bound,
        peak_op: layout.peak.into(),
        stack_bytes: STACK_BYTES,
        ops: ops.collect(),
        buffers,
        tensors: tensors.collect(),
    })
}
