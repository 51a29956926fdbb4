//! The operands of each op: that they are there, of the shapes that the op takes, and in use while it runs.

use crate::attention::{Q8_MAX_COLUMNS, TiledShape, tiled_scratch};
use crate::linear::activation_bytes;
use crate::plan::{
    Buffer, BufferId, CacheFormat, Columns, Content, Index, Op, Plan, PlanError, PlanKind, Rows,
    Tensor, TensorFormat, TensorId, execute,
};
use crate::{Feature, Int8Kernel, Isa, PackedLayout};

/// Checks the operands of one op.
pub(super) struct Checker<'c, 'p> {
    plan: &'c Plan<'p>,
    index: usize,
    tile: usize,
    context: usize,
}

impl<'c, 'p> Checker<'c, 'p> {
    pub(super) fn new(plan: &'c Plan<'p>, index: usize) -> Checker<'c, 'p> {
        Checker {
            plan,
            index,
            tile: plan.header.tile as usize,
            context: plan.header.context as usize,
        }
    }

    pub(super) fn refuse(&self) -> PlanError {
        PlanError::Op(self.index as u16)
    }

    fn require(&self, holds: bool) -> Result<(), PlanError> {
        match holds {
            true => Ok(()),
            false => Err(self.refuse()),
        }
    }

    /// A buffer that is in use while the op runs.
    fn buffer(&self, id: BufferId, content: Content) -> Result<Buffer, PlanError> {
        let buffer = self.plan.buffer(id)?;
        self.require(buffer.content == content && buffer.lives_at(self.index))?;
        Ok(buffer)
    }

    /// The rows of a buffer that a whole tile uses, and its columns; neither is 0.
    fn floats(&self, id: BufferId) -> Result<(usize, usize), PlanError> {
        let buffer = self.buffer(id, Content::Floats)?;
        self.require(buffer.rows > 0 && buffer.columns > 0)?;
        Ok((
            (buffer.rows as usize).min(self.tile),
            buffer.columns as usize,
        ))
    }

    /// Checks that some columns are there; gives the rows.
    fn columns(&self, columns: Columns, width: usize) -> Result<usize, PlanError> {
        let (rows, all) = self.floats(columns.buffer)?;
        let end = usize::from(columns.column).checked_add(width);
        self.require(width > 0 && end.is_some_and(|end| end <= all))?;
        Ok(rows)
    }

    /// Checks a tensor of `len` floats, if there is one.
    fn vector(&self, id: Option<TensorId>, len: usize) -> Result<(), PlanError> {
        let Some(id) = id else { return Ok(()) };
        let tensor = self.plan.tensor(id)?;
        let numbers = (tensor.rows as usize).checked_mul(tensor.columns as usize);
        self.require(tensor.format == TensorFormat::Floats && numbers == Some(len))
    }

    /// Bytes of activations prepared for a matrix.
    fn prepared_bytes(&self, matrix: &Tensor, tokens: usize) -> Result<usize, PlanError> {
        let columns = matrix.columns as usize;
        Ok(match matrix.format {
            TensorFormat::Packed(format) => {
                activation_bytes(format, self.plan.header.isa, tokens, columns)?
            }
            TensorFormat::Rows8(_) if Feature::Encoder.is_built() => {
                Int8Kernel::select(Isa::SCALAR).activation_bytes(tokens, columns)?
            }
            _ => return Err(self.refuse()),
        })
    }

    /// Checks that a buffer of prepared activations is large enough for a matrix and `count` rows, or the last of them.
    fn prepared(
        &self,
        id: BufferId,
        matrix: &Tensor,
        count: usize,
        rows: Rows,
    ) -> Result<(), PlanError> {
        let buffer = self.buffer(id, Content::Bytes)?;
        let tokens = match rows {
            Rows::All => count,
            Rows::Last => 1,
        };
        let needed = self.prepared_bytes(matrix, tokens)?;
        self.require(buffer.bytes as usize >= needed)
    }

    pub(super) fn op(&self, op: &Op) -> Result<(), PlanError> {
        match *op {
            Op::Gather { table, index, out } => self.gather(table, index, out),
            Op::Add { to, from } | Op::Copy { to, from } => {
                let same = self.floats(to)? == self.floats(from)?;
                self.require(same && to != from)
            }
            Op::Norm {
                x, gain, bias, out, ..
            } => {
                let (rows, columns) = self.floats(x)?;
                self.vector(Some(gain), columns)?;
                self.vector(bias, columns)?;
                self.require(self.floats(out)? == (rows, columns) && x != out)
            }
            Op::Prepare {
                x,
                weights,
                out,
                rows,
            } => {
                let (count, columns) = self.floats(x)?;
                let matrix = self.plan.tensor(weights)?;
                self.prepared(out, &matrix, count, rows)?;
                self.require(matrix.columns as usize == columns)
            }
            Op::Multiply {
                activations,
                weights,
                bias,
                out,
                rows,
            } => {
                let matrix = self.plan.tensor(weights)?;
                let (count, all) = self.floats(out.buffer)?;
                self.prepared(activations, &matrix, count, rows)?;
                self.vector(bias, matrix.rows as usize)?;
                let end = usize::from(out.column).checked_add(matrix.rows as usize);
                self.require(end.is_some_and(|end| end <= all))
            }
            Op::Gated { .. } => self.gated(op),
            Op::Activate { x, .. } => self.floats(x).map(|_| ()),
            Op::Place {
                x,
                heads,
                gain,
                rope,
                ..
            } => {
                self.columns(x, heads.columns())?;
                self.vector(gain, usize::from(heads.dim))?;
                let Some(rope) = rope else { return Ok(()) };
                let (cos, sin) = (self.plan.tensor(rope.cos)?, self.plan.tensor(rope.sin)?);
                let floats = [cos, sin].iter().all(|t| t.format == TensorFormat::Floats);
                let shape = (cos.rows, cos.columns) == (sin.rows, sin.columns);
                let long = cos.rows as usize >= self.context;
                let turned = (cos.columns as usize).checked_mul(2);
                let narrow = turned.is_some_and(|turned| turned <= usize::from(heads.dim));
                self.require(floats && shape && long && narrow)
            }
            Op::Append {
                from, heads, cache, ..
            } => {
                let rows = self.columns(from, heads.columns())?;
                self.require(rows == self.tile)?;
                self.cache(cache, usize::from(heads.count), usize::from(heads.dim))
            }
            Op::Attend { .. } | Op::SelfAttend { .. } => self.attention(op),
            Op::Unfold { x, out, patches } => {
                let (rows, columns) = self.floats(x)?;
                let shape = patches.usizes();
                let numbers = rows.checked_mul(columns);
                let inside = shape.last().zip(numbers).is_some_and(|(at, len)| at < len);
                let (rows, columns) = self.floats(out)?;
                let fits = (shape.rows(), shape.columns()) == (Some(rows), Some(columns));
                self.require(inside && fits && x != out)
            }
            Op::Prepend { table, x, out } => {
                let (rows, columns) = self.floats(x)?;
                let table = self.plan.tensor(table)?;
                let all = rows.checked_add(table.rows as usize);
                let (own, wide) = self.floats(out)?;
                let fits = all == Some(own) && (columns, columns) == (wide, table.columns as usize);
                self.require(fits && table.format == TensorFormat::Floats && x != out)
            }
            Op::Pool { x, out, .. } => {
                let (_, columns) = self.floats(x)?;
                self.require(self.floats(out)? == (1, columns) && x != out)
            }
        }
    }

    fn gather(&self, table: TensorId, index: Index, out: BufferId) -> Result<(), PlanError> {
        let header = &self.plan.header;
        let table = self.plan.tensor(table)?;
        let (count, columns) = self.floats(out)?;
        let decodes = header.kind == PlanKind::Decoder;
        let rows = match index {
            Index::Token => header.vocabulary,
            Index::Position if decodes => header.context,
            Index::Position => count as u32,
            Index::First => 1,
        };
        self.require(index != Index::Token || header.kind != PlanKind::Features)?;
        let known = match table.format {
            TensorFormat::Packed(format) => PackedLayout::of(format, header.isa).is_ok(),
            _ => table.table(self.plan.bytes_of(&table)).is_ok(),
        };
        self.require(known && table.rows >= rows && table.columns as usize == columns)
    }

    fn gated(&self, op: &Op) -> Result<(), PlanError> {
        let Op::Gated {
            activations,
            gate,
            up,
            gate_bias,
            up_bias,
            scratch,
            out,
            ..
        } = *op
        else {
            return Err(self.refuse());
        };
        let (gate, up) = (self.plan.tensor(gate)?, self.plan.tensor(up)?);
        let same = (gate.format, gate.rows, gate.columns) == (up.format, up.rows, up.columns);
        self.require(same)?;
        let (count, columns) = self.floats(out)?;
        self.prepared(activations, &gate, count, Rows::All)?;
        self.vector(gate_bias, gate.rows as usize)?;
        self.vector(up_bias, gate.rows as usize)?;
        let scratch = self.buffer(scratch, Content::Floats)?;
        let tiles =
            scratch.columns > 0 && (scratch.columns as usize).is_multiple_of(execute::ROW_TILE);
        let rows = count.checked_mul(2);
        self.require(
            columns == gate.rows as usize
                && tiles
                && rows.is_some_and(|rows| scratch.rows as usize >= rows),
        )
    }

    /// Checks a cache of so many heads.
    fn cache(&self, id: BufferId, heads: usize, dim: usize) -> Result<(), PlanError> {
        let buffer = self.buffer(id, Content::Cache)?;
        let format = self.plan.header.cache;
        let positions = format.positions(self.plan.header.context);
        let rows = positions.and_then(|positions| heads.checked_mul(positions as usize));
        let fits = format != CacheFormat::Q8 || dim <= Q8_MAX_COLUMNS;
        let kept = (buffer.first, buffer.last) == (0, u16::MAX);
        self.require(
            rows == Some(buffer.rows as usize)
                && buffer.columns as usize == dim
                && dim > 0
                && fits
                && kept,
        )
    }

    fn attention(&self, op: &Op) -> Result<(), PlanError> {
        match *op {
            Op::Attend {
                queries,
                heads,
                kv_heads,
                keys,
                values,
                out,
                ..
            } => {
                let (count, dim) = (usize::from(heads.count), usize::from(heads.dim));
                let kv_heads = usize::from(kv_heads);
                self.require(kv_heads > 0 && count.is_multiple_of(kv_heads) && keys != values)?;
                let rows = self.columns(queries, heads.columns())?;
                self.cache(keys, kv_heads, dim)?;
                self.cache(values, kv_heads, dim)?;
                let shape = (self.tile, heads.columns());
                let fits = rows == self.tile && self.floats(out)? == shape;
                self.require(fits && out != queries.buffer)
            }
            Op::SelfAttend {
                queries,
                keys,
                values,
                heads,
                kv_heads,
                value_dim,
                scratch,
                out,
                ..
            } if Feature::Encoder.is_built() => {
                let (count, dim) = (usize::from(heads.count), usize::from(heads.dim));
                let (kv_heads, value_dim) = (usize::from(kv_heads), usize::from(value_dim));
                self.require(kv_heads > 0 && count.is_multiple_of(kv_heads))?;
                let (rows, columns) = self.floats(out)?;
                let alike = self.columns(queries, heads.columns())? == rows
                    && self.columns(keys, kv_heads * dim)? == rows
                    && self.columns(values, kv_heads * value_dim)? == rows;
                self.require(alike)?;
                let shape = TiledShape {
                    tokens: rows,
                    positions: rows,
                    head_dim: dim,
                    value_dim,
                    query_stride: 0,
                    key_stride: 0,
                    value_stride: 0,
                    scale: 0.0,
                };
                let scratch = self.buffer(scratch, Content::Floats)?;
                let room = scratch.bytes as usize / 4 >= tiled_scratch(&shape)?;
                let apart = [queries, keys, values].iter().all(|x| x.buffer != out);
                self.require(columns == count * value_dim && room && apart)
            }
            _ => Err(self.refuse()),
        }
    }
}
