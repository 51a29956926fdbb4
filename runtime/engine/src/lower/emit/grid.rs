//! Features and what convolutions make of them, until they are rows for an encoder.
//!
//! The graph turns its axes as its operators want them; in the arena numbers stay where they are. A [`Grid`] says which axis
//! of the graph is which of memory, so that a transposition costs nothing and a convolution reads in any order.

use furlong_core::plan::{BufferId, Op, Patches, Rows, TensorFormat};
use furlong_core::{DenseWeights, Floats, PackedLayout, WeightFormat};
use tract_core::internal::*;
use tract_core::ops::array::TypedConcat;
use tract_core::ops::cnn::{Conv, KernelFormat};

use super::super::constants;
use super::super::program::{Extent, PlannedTensor};
use super::{Emitter, Value};
use crate::Error;
use crate::weights::PackError;

/// Most axes of a value in the graph.
const RANK: usize = 6;

/// Numbers of up to three axes in memory, as the graph sees them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Grid {
    buffer: BufferId,
    /// The axes in memory, the last one's numbers side by side.
    memory: [usize; 3],
    /// For each axis of the graph, from which axis of memory on and to which it covers them; nothing for an axis of 1.
    axes: [(u8, u8); RANK],
    rank: usize,
}

impl Grid {
    /// Numbers that lie as the graph has them; `None` for more axes than are known.
    fn plain(buffer: BufferId, shape: &[usize], memory: [usize; 3]) -> Option<Grid> {
        let grid = Grid {
            buffer,
            memory,
            axes: [(0, 0); RANK],
            rank: 0,
        };
        let all: Vec<u8> = (0..3)
            .filter(|&axis| memory[usize::from(axis)] != 1)
            .collect();
        grid.with_axes(shape, &all)
    }

    /// The buffer, which a node reads.
    pub(super) fn read(&self, emitter: &mut Emitter<'_>) -> BufferId {
        emitter.has_read(self.buffer);
        self.buffer
    }

    /// The same view of other numbers.
    pub(super) fn of(self, buffer: BufferId) -> Grid {
        Grid { buffer, ..self }
    }

    /// The same numbers with axes of these sizes, each of which covers some of `axes` of memory in turn.
    fn with_axes(mut self, shape: &[usize], axes: &[u8]) -> Option<Grid> {
        let mut rest = axes;
        self.rank = shape.len();
        for (place, &size) in shape.iter().enumerate() {
            let (mut covered, mut count) = (1, 0);
            while covered < size {
                let &axis = rest.get(count)?;
                covered *= self.memory.get(usize::from(axis))?;
                count += 1;
            }
            let (own, after) = rest.split_at_checked(count)?;
            let ascending = own.windows(2).all(|pair| pair[0] + 1 == pair[1]);
            if covered != size || !ascending {
                return None;
            }
            let first = own.first().copied().unwrap_or(0);
            *self.axes.get_mut(place)? = (first, first + count as u8);
            rest = after;
        }
        rest.is_empty().then_some(self)
    }

    fn size(&self, axis: usize) -> Option<usize> {
        let (first, end) = *self.axes.get(axis).filter(|_| axis < self.rank)?;
        let covered = self.memory.get(usize::from(first)..usize::from(end))?;
        Some(covered.iter().product())
    }

    /// From one number to the next along an axis of the graph that covers at most one of memory.
    fn stride(&self, axis: usize) -> Option<usize> {
        let (first, end) = *self.axes.get(axis).filter(|_| axis < self.rank)?;
        match end - first {
            0 => Some(0),
            1 => Some(self.memory.get(usize::from(end)..)?.iter().product()),
            _ => None,
        }
    }

    /// What an operator that only moves axes makes of it.
    fn turned(mut self, op: &AxisOp) -> Option<Grid> {
        let mut axes = self.axes.get(..self.rank)?.to_vec();
        match op {
            AxisOp::Add(at) if *at <= axes.len() => axes.insert(*at, (0, 0)),
            AxisOp::Rm(at) if *at < axes.len() => {
                let (first, end) = axes.remove(*at);
                if first != end {
                    return None;
                }
            }
            AxisOp::Move(from, to) if *from < axes.len() && *to < axes.len() => {
                let axis = axes.remove(*from);
                axes.insert(*to, axis);
            }
            AxisOp::Reshape(at, from, to) => {
                let after = at.checked_add(from.len())?;
                let turned = axes.get(*at..after)?;
                let covered: Vec<u8> = turned.iter().flat_map(|&(a, b)| a..b).collect();
                let sizes: Option<Vec<usize>> = to.iter().map(|dim| dim.to_usize().ok()).collect();
                let part = self.with_axes(&sizes?, &covered)?;
                axes.splice(*at..after, part.axes.get(..part.rank)?.iter().copied());
            }
            _ => return None,
        }
        self.rank = axes.len();
        self.axes.get_mut(..axes.len())?.copy_from_slice(&axes);
        Some(self)
    }

    /// Whether the graph reads rows of `columns` numbers one after another, as the layers of an encoder do.
    fn is_rows(&self, columns: usize) -> bool {
        let axes = self.axes.get(..self.rank).unwrap_or_default();
        let order: Vec<u8> = axes.iter().flat_map(|&(first, end)| first..end).collect();
        let last = self.rank.checked_sub(1).and_then(|last| self.size(last));
        order.is_sorted() && last == Some(columns)
    }
}

impl<'s> Emitter<'s> {
    /// The features that a graph reads as its input `node`.
    pub(super) fn features(&mut self, node: &TypedNode) -> Result<(), Error> {
        let shape = node
            .outputs
            .first()
            .and_then(|output| output.fact.shape.as_concrete());
        let refuse = || {
            self.unsupported(
                "features whose shape the graph leaves open, or of more than three axes",
            )
        };
        let shape = shape.ok_or_else(refuse)?.to_vec();
        let mut sizes = shape.iter().copied().filter(|&size| size != 1);
        let memory = [(); 3].map(|()| sizes.next().unwrap_or(1));
        if sizes.next().is_some() || self.features.is_some() {
            return Err(refuse());
        }
        let [rows, wide, deep] = memory;
        let buffer = self.floats_of(&node.name, Extent::Fixed(rows), wide * deep);
        let grid =
            Grid::plain(buffer, &shape, memory).ok_or_else(|| self.unsupported_node(node))?;
        self.features = Some(buffer);
        self.give_grid(node, grid);
        Ok(())
    }

    /// Says where a node's output is: rows, where the graph sees them so.
    pub(super) fn give_grid(&mut self, node: &TypedNode, grid: Grid) {
        // Counted as if it were rows, for whoever wants to work in its place.
        self.give(node, 0, grid.buffer);
        if !grid.is_rows(self.columns(grid.buffer)) {
            let outlet = OutletId::new(node.id, 0);
            self.values.insert(outlet, Value::Grid(grid));
        }
    }

    /// What a node reads as its input 0, as a grid.
    fn grid(&self, node: &TypedNode) -> Option<Grid> {
        let input = node.inputs.first()?;
        match *self.values.get(input)? {
            Value::Grid(grid) => Some(grid),
            Value::Floats(buffer) => {
                let Extent::Fixed(rows) = self.extent(buffer) else {
                    return None;
                };
                let fact = self.source.graph.outlet_fact(*input).ok()?;
                let memory = [rows, self.columns(buffer), 1];
                Grid::plain(buffer, fact.shape.as_concrete()?, memory)
            }
            _ => None,
        }
    }

    /// Lowers a node that moves axes; `None` for one that doesn't, or that can't be followed.
    pub(super) fn turn(&mut self, node: &TypedNode) -> Option<Result<(), Error>> {
        let turned = self.grid(node)?.turned(node.op_as::<AxisOp>()?)?;
        turned.read(self);
        self.give_grid(node, turned);
        Some(Ok(()))
    }

    /// A convolution: patches, multiplied by its weights.
    pub(super) fn convolution(&mut self, node: &TypedNode) -> Result<(), Error> {
        let found = node.op_as::<Conv>().and_then(|conv| {
            let grid = self.grid(node)?;
            Some((self.patches(conv, grid)?, conv, grid))
        });
        let Some((patches, conv, grid)) = found else {
            return Err(self.unsupported_node(node));
        };
        let name = node.name.as_str();
        grid.read(self);
        let places = patches.places.map(|count| count as usize);
        let columns = patches.kernel.iter().chain(&patches.size[2..]);
        let columns = columns.map(|&size| usize::from(size)).product::<usize>();
        let rows = Extent::Fixed(places[0] * places[1]);
        let title = format!("{name}, patches");
        let out = self.floats_of(&title, rows, columns);
        let unfold = Op::Unfold {
            x: grid.buffer,
            out,
            patches,
        };
        self.program.push(name, unfold);
        let product = self.kernel_product(node, conv, out, columns)?;
        let outputs = conv.pool_spec.output_channels;
        // Places down, places across, channels, in memory; the graph sees channels where its format has them.
        let memory = [places[0], places[1], outputs];
        let spatial = (0..conv.pool_spec.rank()).map(|axis| match axis {
            0 if conv.pool_spec.rank() == 1 => (0, 1),
            axis => (axis as u8, axis as u8 + 1),
        });
        let mut axes: Vec<(u8, u8)> = spatial.collect();
        let at = match conv.pool_spec.data_format.c_is_last() {
            true => axes.len(),
            false => 0,
        };
        axes.insert(at, (2, 3));
        if conv.pool_spec.data_format.has_n() {
            axes.insert(0, (0, 0));
        }
        let mut turned = Grid {
            buffer: product,
            memory,
            axes: [(0, 0); RANK],
            rank: axes.len(),
        };
        match turned.axes.get_mut(..axes.len()) {
            Some(places) => places.copy_from_slice(&axes),
            None => return Err(self.unsupported_node(node)),
        }
        self.give_grid(node, turned);
        Ok(())
    }

    /// Which patches a convolution of one or two axes reads; `None` for one with groups or gaps.
    fn patches(&self, conv: &Conv, grid: Grid) -> Option<Patches> {
        let pool = &conv.pool_spec;
        let plain = conv.group == 1
            && conv.q_params.is_none()
            && pool.dilations().iter().all(|&dilation| dilation == 1)
            && (1..=2).contains(&pool.rank());
        if !plain {
            return None;
        }
        let batch = usize::from(pool.data_format.has_n());
        let (channel, first) = match pool.data_format.c_is_last() {
            true => (batch + pool.rank(), batch),
            false => (batch, batch + 1),
        };
        let axes: Vec<usize> = (first..first + pool.rank()).collect();
        let sizes: Option<Vec<usize>> = axes.iter().map(|&axis| grid.size(axis)).collect();
        let sizes = sizes?;
        let padding = pool.computed_padding(&sizes);
        // Along the axis that a convolution over time does not have there is one of everything.
        let of = |numbers: Vec<usize>, absent: usize| {
            [numbers[0], numbers.get(1).copied().unwrap_or(absent)]
        };
        let stride = |axis: &usize| grid.stride(*axis);
        let strides: Option<Vec<usize>> = axes.iter().map(stride).collect();
        let (size, strides) = (of(sizes, 1), of(strides?, 0));
        let kernel = of(pool.kernel_shape.to_vec(), 1);
        let step = of(pool.strides().to_vec(), 1);
        let pad = of(padding.iter().map(|dim| dim.pad_before).collect(), 0);
        let places = of(padding.iter().map(|dim| dim.convoluted).collect(), 1);
        let narrow = |number: usize| u16::try_from(number).ok();
        let wide = |number: usize| u32::try_from(number).ok();
        let channels = grid.size(channel)?;
        Some(Patches {
            size: [narrow(size[0])?, narrow(size[1])?, narrow(channels)?],
            strides: [
                wide(strides[0])?,
                wide(strides[1])?,
                wide(grid.stride(channel)?)?,
            ],
            kernel: [narrow(kernel[0])?, narrow(kernel[1])?],
            step: [narrow(step[0])?, narrow(step[1])?],
            pad: [narrow(pad[0])?, narrow(pad[1])?],
            places: [wide(places[0])?, wide(places[1])?],
        })
    }

    /// Multiplies patches by a convolution's weights, in the order in which patches have their numbers.
    fn kernel_product(
        &mut self,
        node: &TypedNode,
        conv: &Conv,
        x: BufferId,
        columns: usize,
    ) -> Result<BufferId, Error> {
        let name = node.name.as_str();
        let rows = conv.pool_spec.output_channels;
        let weights = self.constant_floats(node, 1);
        let weights =
            weights.filter(|w| conv.kernel_fmt == KernelFormat::OIHW && w.len() == rows * columns);
        let bias = self.constant_floats(node, 2);
        let (Some(weights), Some(bias)) = (weights, bias) else {
            return Err(self.unsupported_node(node));
        };
        // From [outputs, channels, taps] to [outputs, taps, channels].
        let channels = conv.pool_spec.input_channels;
        let taps = columns / channels.max(1);
        let turned: Vec<f32> = weights
            .chunks_exact(columns.max(1))
            .flat_map(|row| {
                let number = move |place: usize| {
                    let (tap, channel) = (place / channels, place % channels);
                    row.get(channel * taps + tap).copied().unwrap_or(0.0)
                };
                (0..columns).map(number)
            })
            .collect();
        let refuse = |error| PackError::new(name, error).of(self.source.path);
        let layout = PackedLayout::of(WeightFormat::F32, self.source.isa).map_err(refuse)?;
        let mut bytes = vec![0; layout.packed_bytes(rows, columns).map_err(refuse)?];
        let matrix = DenseWeights::new(rows, columns, Floats::F32(&turned)).map_err(refuse)?;
        layout
            .pack(&matrix.into(), 0..rows, &mut bytes)
            .map_err(refuse)?;
        let weights = self.program.tensor(PlannedTensor {
            name: name.to_owned(),
            format: TensorFormat::Packed(WeightFormat::F32),
            rows,
            columns,
            bytes,
        });
        let bias = match bias.as_slice() {
            &[all] => vec![all; rows],
            _ => bias,
        };
        let bias = bias.iter().any(|&b| b != 0.0).then(|| {
            let bias = constants::vector(&format!("{name}, bias"), &bias);
            self.program.tensor(bias)
        });
        let activations = self.prepare(name, x, WeightFormat::F32, columns, weights, Rows::All)?;
        let out = self.floats_like(name, x, rows);
        self.multiply(name, activations, weights, bias, out);
        Ok(out)
    }

    /// A class token, or other constant rows, before the rows of a buffer.
    pub(super) fn prepend(&mut self, node: &TypedNode) -> Result<(), Error> {
        let axis = node.op_as::<TypedConcat>().map(|concat| concat.axis);
        let first = self.constant_floats(node, 0);
        let x = match (axis, node.inputs.len(), self.value(node, 1)) {
            (Some(1), 2, Some(Value::Floats(x))) => Some((x, self.extent(x))),
            _ => None,
        };
        let (Some(first), Some((x, Extent::Fixed(rows)))) = (first, x) else {
            return Err(self.unsupported_node(node));
        };
        let columns = self.columns(x);
        let some = first.len() / columns.max(1);
        let table = constants::rows(&node.name, some, columns, &first);
        let table = self.program.tensor(table);
        self.take(node, 1)?;
        let out = self.floats_of(&node.name, Extent::Fixed(some + rows), columns);
        self.program.push(&node.name, Op::Prepend { table, x, out });
        self.give(node, 0, out);
        Ok(())
    }
}
