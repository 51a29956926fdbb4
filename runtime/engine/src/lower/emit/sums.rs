//! Additions: of two values, and of constants, which are tables with a row for each token or position.

use furlong_core::plan::{BufferId, Index, Op, TensorId};
use tract_core::internal::*;

use super::super::constants;
use super::super::program::Extent;
use super::sentence::Implied;
use super::{Emitter, Value};
use crate::Error;

impl Emitter<'_> {
    /// Adds one buffer to another, in the place of one of them if it can be.
    pub(super) fn sum(&mut self, node: &str, a: BufferId, b: BufferId) -> Result<BufferId, Error> {
        if (self.extent(a), self.columns(a)) != (self.extent(b), self.columns(b)) {
            return Err(self.unsupported(&format!("node {node:?} adds rows of different shapes")));
        }
        let is_free = |id| self.readers.get(&id).is_none_or(|&readers| readers == 0);
        let (to, from) = match (is_free(a) && a != b, is_free(b) && a != b) {
            (true, _) => (a, b),
            (false, true) => (b, a),
            (false, false) => {
                let columns = self.columns(a);
                let to = self.floats_like(node, a, columns);
                self.program.push(node, Op::Copy { to, from: a });
                (to, b)
            }
        };
        self.program.push(node, Op::Add { to, from });
        Ok(to)
    }

    pub(super) fn add(&mut self, node: &TypedNode) -> Result<(), Error> {
        let constant = |slot: usize| {
            let input = node.inputs.get(slot)?;
            self.source.graph.outlet_fact(*input).ok()?.konst.clone()
        };
        let sum = match (constant(0), constant(1)) {
            (None, None) => match (self.value(node, 0), self.value(node, 1)) {
                (_, Some(Value::Implied(Implied::Table(table)))) => {
                    self.add_rows(node, 0, table, Index::Position)?
                }
                (Some(Value::Implied(Implied::Table(table))), _) => {
                    self.add_rows(node, 1, table, Index::Position)?
                }
                _ => {
                    let (a, b) = (self.take(node, 0)?, self.take(node, 1)?);
                    self.sum(&node.name, a, b)?
                }
            },
            (Some(added), None) => self.add_constant(node, 1, &added)?,
            (None, Some(added)) => self.add_constant(node, 0, &added)?,
            (Some(_), Some(_)) => return Ok(()),
        };
        self.give(node, 0, sum);
        Ok(())
    }

    /// Adds the same row to the row of each token.
    pub(super) fn add_constant(
        &mut self,
        node: &TypedNode,
        slot: usize,
        added: &Tensor,
    ) -> Result<BufferId, Error> {
        let columns = match self.value(node, slot) {
            Some(Value::Floats(x)) => self.columns(x),
            _ => 0,
        };
        let rows = match self.value(node, slot) {
            Some(Value::Floats(x)) => self.extent(x),
            _ => Extent::Tiles(1),
        };
        let row = added.cast_to::<f32>().ok();
        let row = row.as_ref().and_then(|row| row.try_as_plain_ram().ok());
        let row = row.as_ref().and_then(|row| row.as_slice::<f32>().ok());
        if let (Some(all), Extent::Fixed(rows)) = (row, rows)
            && rows > 1
            && all.len() == rows * columns
        {
            let table = constants::rows(&node.name, rows, columns, all);
            let table = self.program.tensor(table);
            return self.add_rows(node, slot, table, Index::Position);
        }
        let Some(row) = row.filter(|row| row.len() == columns) else {
            return Err(self.unsupported(&format!(
                "node {:?} adds a constant that is no row",
                node.name
            )));
        };
        let table = self.program.tensor(constants::vector(&node.name, row));
        self.add_rows(node, slot, table, Index::First)
    }

    /// Adds rows of a table to what a node reads as its input `slot`.
    pub(super) fn add_rows(
        &mut self,
        node: &TypedNode,
        slot: usize,
        table: TensorId,
        index: Index,
    ) -> Result<BufferId, Error> {
        let x = self.take(node, slot)?;
        let columns = self.columns(x);
        let out = self.floats_like(&node.name, x, columns);
        self.program
            .push(&node.name, Op::Gather { table, index, out });
        self.sum(&node.name, x, out)
    }
}
