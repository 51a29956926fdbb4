//! A plan before sizes are known: ops, the buffers they use, and the constants they read.
//!
//! How many rows a buffer has depends on the tile and the context; so one program can be laid out for many of both, to
//! find what fits a board.

use furlong_core::plan::{
    Buffer, BufferId, CacheFormat, Content, Op, TENSOR_ALIGN, TensorFormat, TensorId,
};

/// How many rows a buffer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// So many.
    Fixed(usize),
    /// So many for each token of a tile.
    Tiles(usize),
    /// One for each token of a tile, up to a multiple of so many.
    Panels(usize),
    /// One for each token of a tile, and so many more.
    TileAnd(usize),
    /// So many for each position of the context.
    Context(usize),
}

/// A buffer without a size.
#[derive(Debug, Clone)]
pub(super) struct PlannedBuffer {
    /// What it is for, in words.
    pub name: String,
    pub content: Content,
    pub rows: Extent,
    pub columns: usize,
    /// The first and the last op that use it.
    pub life: Option<(u16, u16)>,
}

/// A constant and its bytes.
#[derive(Debug, Clone)]
pub(super) struct PlannedTensor {
    /// What it is called in the model.
    pub name: String,
    pub format: TensorFormat,
    pub rows: usize,
    pub columns: usize,
    pub bytes: Vec<u8>,
}

/// An op, and the node of the model that it comes from.
#[derive(Debug, Clone)]
pub(super) struct PlannedOp {
    pub op: Op,
    pub node: String,
}

/// Ops in order, with what they use.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub ops: Vec<PlannedOp>,
    pub buffers: Vec<PlannedBuffer>,
    pub tensors: Vec<PlannedTensor>,
    /// The first op that only the last tile of a prompt needs.
    pub head: usize,
}

/// What decides how large buffers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub context: usize,
    pub tile: usize,
    pub cache: CacheFormat,
}

impl Sizes {
    /// Positions of each head's cache.
    fn positions(self) -> usize {
        let context = u32::try_from(self.context).ok();
        let positions = context.and_then(|context| self.cache.positions(context));
        positions.map_or(usize::MAX, |positions| positions as usize)
    }
}

/// What is in use all the time.
pub(super) const ALWAYS: (u16, u16) = (0, u16::MAX);

impl Program {
    pub(super) fn buffer(
        &mut self,
        name: impl Into<String>,
        content: Content,
        rows: Extent,
        columns: usize,
    ) -> BufferId {
        self.buffers.push(PlannedBuffer {
            name: name.into(),
            content,
            rows,
            columns,
            life: None,
        });
        BufferId((self.buffers.len() - 1).min(usize::from(u16::MAX)) as u16)
    }

    pub(super) fn tensor(&mut self, tensor: PlannedTensor) -> TensorId {
        self.tensors.push(tensor);
        TensorId((self.tensors.len() - 1).min(usize::from(u16::MAX)) as u16)
    }

    pub(super) fn push(&mut self, node: &str, op: Op) {
        self.ops.push(PlannedOp {
            op,
            node: node.to_owned(),
        });
    }

    /// Says that a buffer is in use from one op to another, whatever ops name it.
    pub(super) fn keep(&mut self, id: BufferId, life: (u16, u16)) {
        let Some(buffer) = self.buffers.get_mut(usize::from(id.0)) else {
            return;
        };
        buffer.life = Some(match buffer.life {
            None => life,
            Some((first, last)) => (first.min(life.0), last.max(life.1)),
        });
    }

    /// Finds out from when to when each buffer is in use.
    pub(super) fn find_lives(&mut self) {
        for index in 0..self.ops.len() {
            let point = index.min(usize::from(u16::MAX)) as u16;
            let ids: Vec<BufferId> = self
                .ops
                .get(index)
                .map_or(vec![], |op| op.op.buffers().collect());
            ids.into_iter().for_each(|id| self.keep(id, (point, point)));
        }
    }

    /// The most rows that a buffer of floats has, whatever the sizes.
    pub(super) fn most_rows(&self) -> usize {
        let floats = self
            .buffers
            .iter()
            .filter(|buffer| buffer.content == Content::Floats);
        let rows = floats.map(|buffer| match buffer.rows {
            Extent::Fixed(rows) => rows,
            _ => 1,
        });
        rows.max().unwrap_or(1)
    }

    /// Bytes of the image's tensors, each at its alignment.
    pub(super) fn tensor_bytes(&self) -> usize {
        let sizes = self.tensors.iter();
        sizes
            .map(|tensor| tensor.bytes.len().next_multiple_of(TENSOR_ALIGN))
            .sum()
    }
}

impl PlannedBuffer {
    /// Rows for these sizes.
    pub(super) fn rows(&self, sizes: Sizes) -> usize {
        match self.rows {
            Extent::Fixed(rows) => rows,
            Extent::Tiles(count) => sizes.tile.saturating_mul(count),
            Extent::Panels(count) => sizes.tile.div_ceil(count.max(1)).saturating_mul(count),
            Extent::TileAnd(more) => sizes.tile.saturating_add(more),
            Extent::Context(count) if self.content == Content::Cache => {
                sizes.positions().saturating_mul(count)
            }
            Extent::Context(count) => sizes.context.saturating_mul(count),
        }
    }

    /// Bytes for these sizes; `None` when 32 bits can't count them.
    pub(super) fn bytes(&self, sizes: Sizes) -> Option<u32> {
        let rows = u32::try_from(self.rows(sizes)).ok()?;
        let columns = u32::try_from(self.columns).ok()?;
        Buffer::bytes_of(self.content, sizes.cache, rows, columns)
    }
}
