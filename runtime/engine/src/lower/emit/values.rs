//! Which buffer has a value of the graph, who is still to read it, and so whether an op may write over it.

use furlong_core::plan::{BufferId, Content, Op};
use tract_core::internal::*;

use super::super::program::Extent;
use super::{Emitter, Value};
use crate::Error;

impl Emitter<'_> {
    /// Whether anything comes of a node.
    pub(super) fn is_read(&self, node: &TypedNode) -> bool {
        let outputs = self.source.graph.output_outlets().unwrap_or_default();
        let is_output = outputs.iter().any(|outlet| outlet.node == node.id);
        is_output
            || node
                .outputs
                .iter()
                .any(|output| !output.successors.is_empty())
    }

    /// The rows that a node reads as its input `slot`.
    pub(super) fn take(&mut self, node: &TypedNode, slot: usize) -> Result<BufferId, Error> {
        let input = node.inputs.get(slot);
        match input.and_then(|input| self.values.get(input)) {
            Some(&Value::Floats(buffer)) => {
                self.has_read(buffer);
                Ok(buffer)
            }
            _ => {
                let what = format!(
                    "node {:?} reads something else than numbers by token",
                    node.name
                );
                Err(self.unsupported(&what))
            }
        }
    }

    /// Counts down who is still to read a buffer.
    pub(super) fn has_read(&mut self, buffer: BufferId) {
        if let Some(readers) = self.readers.get_mut(&buffer) {
            *readers = readers.saturating_sub(1);
        }
    }

    /// Says where a node's output `slot` is.
    pub(super) fn give(&mut self, node: &TypedNode, slot: usize, buffer: BufferId) {
        let outlet = OutletId::new(node.id, slot);
        let outputs = self.source.graph.output_outlets().unwrap_or_default();
        let outside = outputs.iter().filter(|output| **output == outlet).count();
        let inside = node
            .outputs
            .get(slot)
            .map_or(0, |output| output.successors.len());
        *self.readers.entry(buffer).or_default() += inside + outside;
        self.values.insert(outlet, Value::Floats(buffer));
    }

    pub(super) fn columns(&self, buffer: BufferId) -> usize {
        let buffer = self.program.buffers.get(usize::from(buffer.0));
        buffer.map_or(0, |buffer| buffer.columns)
    }

    /// How many rows a buffer has.
    pub(super) fn extent(&self, buffer: BufferId) -> Extent {
        let buffer = self.program.buffers.get(usize::from(buffer.0));
        buffer.map_or(Extent::Tiles(1), |buffer| buffer.rows)
    }

    pub(super) fn floats_of(&mut self, name: &str, rows: Extent, columns: usize) -> BufferId {
        self.program.buffer(name, Content::Floats, rows, columns)
    }

    /// A buffer of so many columns, with a row for each of `x`'s.
    pub(super) fn floats_like(&mut self, name: &str, x: BufferId, columns: usize) -> BufferId {
        let rows = self.extent(x);
        self.floats_of(name, rows, columns)
    }

    /// The buffer itself if nobody else is going to read it, else a copy.
    pub(super) fn own(&mut self, node: &str, buffer: BufferId) -> BufferId {
        if self
            .readers
            .get(&buffer)
            .is_none_or(|&readers| readers == 0)
        {
            return buffer;
        }
        let columns = self.columns(buffer);
        let to = self.floats_like(node, buffer, columns);
        self.program.push(node, Op::Copy { to, from: buffer });
        to
    }
}
