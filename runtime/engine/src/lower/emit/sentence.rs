//! What an encoder does around its layers: masks, types, learnt positions, and one row for the whole sentence.
//!
//! A sentence comes alone and is never padded. So its mask is 1 everywhere and its tokens are of type 0, whatever the graph
//! makes of them, and most of these nodes need no op: what their values are follows from that.

use furlong_core::plan::{Activation, BufferId, Op, TensorId};
use tract_core::internal::*;
use tract_core::ops::array::{Gather, Slice, StridedSlice};
use tract_core::ops::nn::Reduce;

use super::super::constants;
use super::super::program::Extent;
use super::{Emitter, Value};
use crate::Error;

/// A value that no buffer holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Implied {
    /// The same number everywhere.
    Uniform(f32),
    /// A row of a table for each token, by its position.
    Table(TensorId),
    /// The sum of the rows of a buffer.
    Sum(BufferId),
    /// How many rows there are.
    Count,
    /// The squares of a row's numbers.
    Squares(BufferId),
    /// Their sum.
    SquareSum(BufferId),
    /// Its root, the row's length.
    Length(BufferId),
}

use Implied::*;

/// Divisors are kept above a number no larger than this, so that an empty sentence gives no infinity.
const LEAST_DIVISOR: f32 = 1e-6;

impl<'s> Emitter<'s> {
    /// Lowers a node of these that decoders don't have; `None` for an operator that is none of them.
    pub(super) fn around_layers(&mut self, node: &TypedNode) -> Option<Result<(), Error>> {
        let name = node.op.name();
        Some(match name.as_ref() {
            "AddAxis" | "RmAxis" | "MoveAxis" | "Reshape" => match self.turn(node) {
                Some(turned) => turned,
                None if matches!(name.as_ref(), "AddAxis" | "RmAxis") => self.pass(node),
                None => return None,
            },
            "Conv" => self.convolution(node),
            "Concat" => self.prepend(node),
            "MultiBroadcastTo" | "DynMultiBroadcastTo" => match self.value(node, 0) {
                Some(Value::Implied(Uniform(_))) => self.pass(node),
                _ => return None,
            },
            "Mul" | "Sub" | "Div" | "Max" => self.combine(node, name.as_ref()),
            "Slice" | "StridedSlice" => self.slice(node),
            "Gather" => self.first_row(node),
            "Reduce<Sum>" => self.sum_of(node),
            "Square" | "Sqrt" => self.root(node),
            "Tanh" => self.activate(node, Activation::Tanh),
            _ => return None,
        })
    }

    /// What a node reads as its input `slot`: a value, or the number that fills a constant.
    pub(super) fn value(&self, node: &TypedNode, slot: usize) -> Option<Value> {
        let input = node.inputs.get(slot)?;
        if let Some(&value) = self.values.get(input) {
            return Some(value);
        }
        let numbers = self.constant_floats(node, slot)?;
        let (&first, rest) = numbers.split_first()?;
        let uniform = rest.iter().all(|&x| x == first);
        uniform.then_some(Value::Implied(Uniform(first)))
    }

    /// The numbers of a constant that a node reads as its input `slot`.
    pub(super) fn constant_floats(&self, node: &TypedNode, slot: usize) -> Option<Vec<f32>> {
        let fact = self
            .source
            .graph
            .outlet_fact(*node.inputs.get(slot)?)
            .ok()?;
        let numbers = fact.konst.as_ref()?.cast_to::<f32>().ok()?;
        let view = numbers.try_as_plain_ram().ok()?;
        Some(view.as_slice::<f32>().ok()?.to_vec())
    }

    /// Whether the mask that attention reads as its input `slot` lets every token see every other.
    pub(super) fn hides_nothing(&self, node: &TypedNode, slot: usize) -> Result<(), Error> {
        let fact = node
            .inputs
            .get(slot)
            .map(|input| self.source.graph.outlet_fact(*input));
        let truth = matches!(fact, Some(Ok(fact)) if fact.datum_type == bool::datum_type());
        match self.value(node, slot) {
            Some(Value::Implied(Uniform(keep))) if truth && keep != 0.0 => Ok(()),
            Some(Value::Implied(Uniform(added))) if !truth && added == 0.0 => Ok(()),
            _ => Err(self.unsupported(&format!(
                "node {:?} has a mask that hides more than padding",
                node.name
            ))),
        }
    }

    /// Products, differences, quotients and larger ones of values that are implied.
    fn combine(&mut self, node: &TypedNode, operator: &str) -> Result<(), Error> {
        let values = (self.value(node, 0), self.value(node, 1));
        let (Some(a), Some(b)) = values else {
            return Err(self.unsupported_node(node));
        };
        let implied = match (operator, a, b) {
            ("Mul", Value::Implied(Uniform(a)), Value::Implied(Uniform(b))) => Uniform(a * b),
            ("Sub", Value::Implied(Uniform(a)), Value::Implied(Uniform(b))) => Uniform(a - b),
            ("Mul", Value::Floats(_), Value::Implied(Uniform(1.0))) => return self.pass(node),
            ("Mul", Value::Implied(Uniform(1.0)), Value::Floats(_)) => {
                let buffer = self.take(node, 1)?;
                self.give(node, 0, buffer);
                return Ok(());
            }
            // There is at least one token, and a row of zeros stays one.
            ("Max", Value::Implied(kept @ (Count | Length(_))), Value::Implied(Uniform(least)))
            | ("Max", Value::Implied(Uniform(least)), Value::Implied(kept @ (Count | Length(_))))
                if least <= LEAST_DIVISOR =>
            {
                kept
            }
            ("Div", Value::Implied(Sum(x)), Value::Implied(Uniform(count)))
                if self.extent(x) == Extent::Fixed(count as usize) =>
            {
                return self.pool(node, x, false, false);
            }
            ("Div", Value::Implied(Sum(x)), Value::Implied(Count)) => {
                return self.pool(node, x, false, false);
            }
            ("Div", Value::Floats(row), Value::Implied(Length(of))) if row == of => {
                let row = self.take(node, 0)?;
                return self.pool(node, row, true, true);
            }
            _ => return Err(self.unsupported_node(node)),
        };
        self.imply(node, implied)
    }

    fn imply(&mut self, node: &TypedNode, implied: Implied) -> Result<(), Error> {
        let outlet = OutletId::new(node.id, 0);
        self.values.insert(outlet, Value::Implied(implied));
        Ok(())
    }

    /// One row of the rows of `x`.
    fn pool(
        &mut self,
        node: &TypedNode,
        x: BufferId,
        first: bool,
        normalise: bool,
    ) -> Result<(), Error> {
        let out = self.pooled(&node.name, x, first, normalise);
        self.give(node, 0, out);
        Ok(())
    }

    /// A buffer with the mean of the rows of `x`, or the first of them, perhaps scaled to length 1.
    pub(super) fn pooled(
        &mut self,
        name: &str,
        x: BufferId,
        first: bool,
        normalise: bool,
    ) -> BufferId {
        let columns = self.columns(x);
        let out = self.floats_of(name, Extent::Fixed(1), columns);
        let op = Op::Pool {
            x,
            out,
            first,
            normalise,
        };
        self.program.push(name, op);
        out
    }

    /// The first rows of a constant table, or the first row of a buffer.
    fn slice(&mut self, node: &TypedNode) -> Result<(), Error> {
        let Some((axis, end)) = self.cut_off(node) else {
            return Err(self.unsupported_node(node));
        };
        let table = node.inputs.first().and_then(|input| {
            let fact = self.source.graph.outlet_fact(*input).ok()?;
            fact.konst.clone()
        });
        if let Some(table) = table.filter(|_| axis == 0) {
            return self.position_table(node, &table);
        }
        match self.value(node, 0) {
            Some(Value::Floats(_)) if axis == 1 && end == 1.to_dim() => {
                let x = self.take(node, 0)?;
                self.pool(node, x, true, false)
            }
            _ => Err(self.unsupported_node(node)),
        }
    }

    /// The axis of a slice that starts at 0, and where it ends.
    fn cut_off(&self, node: &TypedNode) -> Option<(usize, TDim)> {
        if let Some(slice) = node.op_as::<Slice>() {
            return (slice.start == 0.to_dim()).then(|| (slice.axis, slice.end.clone()));
        }
        let slice = node.op_as::<StridedSlice>()?;
        let input = |slot: usize| {
            let fact = self
                .source
                .graph
                .outlet_fact(*node.inputs.get(slot)?)
                .ok()?;
            let numbers = fact.konst.as_ref()?.cast_to::<TDim>().ok()?.into_owned();
            match numbers.try_as_plain_ram().ok()?.as_slice::<TDim>().ok()? {
                [only] => Some(only.clone()),
                _ => None,
            }
        };
        let axis = match slice.optional_axes_input {
            Some(slot) => usize::try_from(input(slot)?.to_i64().ok()?).ok()?,
            None => 0,
        };
        let step = match slice.optional_steps_input {
            Some(slot) => input(slot)?,
            None => 1.to_dim(),
        };
        let plain = (slice.begin_mask, slice.end_mask, slice.shrink_axis_mask) == (0, 0, 0)
            && input(1)? == 0.to_dim()
            && step == 1.to_dim();
        plain.then_some((axis, input(2)?))
    }

    /// A table of which each token takes the row of its position.
    fn position_table(&mut self, node: &TypedNode, table: &Tensor) -> Result<(), Error> {
        let context = self.source.context;
        let &[rows, columns] = table.shape() else {
            return Err(self.unsupported_node(node));
        };
        if rows < context {
            let what = format!("node {:?} has positions for {rows} tokens", node.name);
            return Err(self.unsupported(&what));
        }
        let numbers = table.cast_to::<f32>();
        let numbers = numbers
            .as_ref()
            .ok()
            .and_then(|t| t.try_as_plain_ram().ok());
        let numbers = numbers
            .as_ref()
            .and_then(|view| view.as_slice::<f32>().ok());
        let Some(first) = numbers.and_then(|all| all.get(..context * columns)) else {
            return Err(self.unsupported_node(node));
        };
        let table = constants::rows(&node.name, context, columns, first);
        let table = self.program.tensor(table);
        self.imply(node, Table(table))
    }

    /// The first row of a buffer, looked up by index.
    fn first_row(&mut self, node: &TypedNode) -> Result<(), Error> {
        let axis = node.op_as::<Gather>().map(|gather| gather.axis);
        match (axis, self.value(node, 0), self.value(node, 1)) {
            (Some(1), Some(Value::Floats(_)), Some(Value::Implied(Uniform(0.0)))) => {
                let x = self.take(node, 0)?;
                self.pool(node, x, true, false)
            }
            _ => Err(self.unsupported_node(node)),
        }
    }

    /// Sums over the tokens, or over the columns of a row of squares.
    fn sum_of(&mut self, node: &TypedNode) -> Result<(), Error> {
        let axes = node.op_as::<Reduce>().map(|reduce| reduce.axes.as_slice());
        let implied = match (self.value(node, 0), axes) {
            // The op that reads the buffer comes later, so it stays marked as still to be read.
            (Some(Value::Floats(x)), Some([1])) => Sum(x),
            (Some(Value::Implied(Uniform(1.0))), Some([1])) => Count,
            (Some(Value::Implied(Squares(row))), Some([_])) => SquareSum(row),
            _ => return Err(self.unsupported_node(node)),
        };
        self.imply(node, implied)
    }

    /// Squares of one row, and the root of their sum.
    fn root(&mut self, node: &TypedNode) -> Result<(), Error> {
        let implied = match (node.op.name().as_ref(), self.value(node, 0)) {
            ("Square", Some(Value::Floats(x))) if self.extent(x) == Extent::Fixed(1) => Squares(x),
            ("Sqrt", Some(Value::Implied(SquareSum(row)))) => Length(row),
            _ => return Err(self.unsupported_node(node)),
        };
        self.imply(node, implied)
    }
}
