//! Sizes of values' axes, as far as the graph says them without being run.
//!
//! What exporters write for `x.view(batch, tokens, heads, -1)` is a `Reshape` by a shape that the graph computes: `Shape`, `Gather`,
//! `Unsqueeze`, `Concat`. Two sizes are the same here when they can be followed back to the same axis of the same value, or to one
//! name among the graph's inputs. What can't be followed is a size of its own, so nothing is taken for the same that isn't.

use std::collections::HashMap;

use tract_onnx::pb::{NodeProto, tensor_shape_proto::dimension::Value};

use super::constants;
use super::draft::Draft;
use super::node::{input, int, ints};
use super::spec::OpSpec;
use crate::Error;

/// How far a size is followed before it counts as unknown.
const MAX_STEPS: usize = 256;

/// The size of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Size {
    /// A number.
    Known(usize),
    /// A name that the graph's inputs give it.
    Named(String),
    /// That of this axis of this value, whatever it is.
    Of(String, usize),
    /// In the shape of a `Reshape`: what is left, `-1`.
    Rest,
    /// In the shape of a `Reshape`: the input's size of the same axis, `0`.
    Same,
}

/// Sizes that were followed before: a layer is followed only to the one below it.
#[derive(Debug, Default)]
pub(super) struct Axes {
    known: HashMap<(String, usize), Size>,
}

impl Axes {
    /// The size of an axis of a value.
    ///
    /// # Errors
    /// A constant that can't be read.
    pub(super) fn size(&mut self, draft: &Draft, value: &str, axis: usize) -> Result<Size, Error> {
        self.follow(draft, value, axis, 0)
    }

    /// The sizes that a `Reshape` gives, if each of them is said; zeros are resolved.
    ///
    /// # Errors
    /// As [`Axes::size`].
    pub(super) fn reshaped(
        &mut self,
        draft: &Draft,
        node: &NodeProto,
    ) -> Result<Option<Vec<Size>>, Error> {
        self.reshape(draft, node, 0)
    }

    fn follow(
        &mut self,
        draft: &Draft,
        value: &str,
        axis: usize,
        steps: usize,
    ) -> Result<Size, Error> {
        let key = (value.to_owned(), axis);
        if let Some(size) = self.known.get(&key) {
            return Ok(size.clone());
        }
        let own = || Size::Of(value.to_owned(), axis);
        if steps > MAX_STEPS {
            return Ok(own());
        }
        let size = match draft.producer(value) {
            Some((_, node)) => self.produced(draft, node, axis, steps + 1)?,
            None => draft
                .input_dimension(value, axis)
                .and_then(|dim| match dim {
                    Value::DimValue(size) => usize::try_from(*size).ok().map(Size::Known),
                    Value::DimParam(name) if !name.is_empty() => Some(Size::Named(name.clone())),
                    Value::DimParam(_) => None,
                }),
        };
        let size = size.unwrap_or_else(own);
        self.known.insert(key, size.clone());
        Ok(size)
    }

    /// The size of an axis of what a node makes, from its inputs.
    fn produced(
        &mut self,
        draft: &Draft,
        node: &NodeProto,
        axis: usize,
        steps: usize,
    ) -> Result<Option<Size>, Error> {
        let source = match node.op_type.as_str() {
            "Transpose" => {
                let from = ints(node, "perm").and_then(|perm| perm.get(axis));
                let from = from.and_then(|&from| usize::try_from(from).ok());
                return match (input(node, 0), from) {
                    (Some(source), Some(from)) => self.follow(draft, source, from, steps).map(Some),
                    _ => Ok(None),
                };
            }
            "Reshape" => {
                let sizes = self.reshape(draft, node, steps)?;
                let size = sizes.and_then(|sizes| sizes.get(axis).cloned());
                return Ok(size.filter(|size| *size != Size::Rest));
            }
            "Identity" | "Cast" | "Dropout" | "LayerNormalization" | "RMSNormalization"
            | "Gelu" => input(node, 0),
            // Sentences run along the first axis of both.
            "MatMul" if axis == 0 => input(node, 1),
            "Add" | "Mul" | "Div" | "Sub" => activation(draft, node),
            _ => kept_by(draft, node, axis),
        };
        let Some(source) = source.filter(|source| draft.initialiser(source).is_none()) else {
            return Ok(None);
        };
        self.follow(draft, source, axis, steps).map(Some)
    }

    fn reshape(
        &mut self,
        draft: &Draft,
        node: &NodeProto,
        steps: usize,
    ) -> Result<Option<Vec<Size>>, Error> {
        let (Some(source), Some(shape)) = (input(node, 0), input(node, 1)) else {
            return Ok(None);
        };
        let Some(mut sizes) = self.elements(draft, shape, steps)? else {
            return Ok(None);
        };
        let keeps_zeros = int(node, "allowzero").unwrap_or(0) != 0;
        for (axis, size) in sizes.iter_mut().enumerate() {
            if *size == Size::Same {
                *size = match keeps_zeros {
                    true => Size::Known(0),
                    false => self.follow(draft, source, axis, steps + 1)?,
                };
            }
        }
        Ok(Some(sizes))
    }

    /// The elements of a value that is a list of sizes.
    fn elements(
        &mut self,
        draft: &Draft,
        value: &str,
        steps: usize,
    ) -> Result<Option<Vec<Size>>, Error> {
        if steps > MAX_STEPS {
            return Ok(None);
        }
        if let Some(numbers) = constants::whole_numbers(draft, value)? {
            let size = |number: &i64| match number {
                -1 => Some(Size::Rest),
                0 => Some(Size::Same),
                _ => usize::try_from(*number).ok().map(Size::Known),
            };
            return Ok(numbers.iter().map(size).collect());
        }
        let Some((_, node)) = draft.producer(value) else {
            return Ok(None);
        };
        match node.op_type.as_str() {
            "Identity" | "Cast" | "Unsqueeze" | "Squeeze" => match input(node, 0) {
                Some(source) => self.elements(draft, source, steps + 1),
                None => Ok(None),
            },
            "Concat" => {
                let mut all = Vec::new();
                for part in &node.input {
                    match self.elements(draft, part, steps + 1)? {
                        Some(sizes) => all.extend(sizes),
                        None => return Ok(None),
                    }
                }
                Ok(Some(all))
            }
            "Shape" | "Gather" | "Slice" => self.shape_part(draft, node, steps + 1),
            _ => Ok(None),
        }
    }

    /// The elements of a `Shape`, or of a look-up or a slice in one.
    fn shape_part(
        &mut self,
        draft: &Draft,
        node: &NodeProto,
        steps: usize,
    ) -> Result<Option<Vec<Size>>, Error> {
        let of_shape = |node: &NodeProto| {
            let (_, shape) = draft.producer(input(node, 0)?)?;
            let whole = int(shape, "start").unwrap_or(0) == 0 && int(shape, "end").is_none();
            let source = input(shape, 0).filter(|_| shape.op_type == "Shape" && whole)?;
            Some(source.to_owned())
        };
        let number = |index: usize| -> Result<Option<i64>, Error> {
            let Some(value) = input(node, index) else {
                return Ok(None);
            };
            let numbers = constants::whole_numbers(draft, value)?;
            Ok(numbers.and_then(|numbers| match numbers.as_slice() {
                &[number] => Some(number),
                _ => None,
            }))
        };
        let (source, start, end) = match node.op_type.as_str() {
            "Shape" => {
                let end = int(node, "end").unwrap_or(i64::MAX);
                let source = input(node, 0).map(str::to_owned);
                (source, int(node, "start").unwrap_or(0), end)
            }
            "Gather" if int(node, "axis").unwrap_or(0) == 0 => match number(1)? {
                // One before the first from the end is the end itself.
                Some(-1) => (of_shape(node), -1, i64::MAX),
                Some(axis) => (of_shape(node), axis, axis + 1),
                None => return Ok(None),
            },
            "Slice" if input(node, 4).is_none() || number(4)? == Some(1) => {
                match (number(1)?, number(2)?) {
                    (Some(start), Some(end)) => (of_shape(node), start, end),
                    _ => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        let Some(source) = source else {
            return Ok(None);
        };
        let rank = self.rank(draft, &source, steps)?;
        let place = |at: i64| match (usize::try_from(at), rank) {
            (Ok(at), Some(rank)) => Some(at.min(rank)),
            (Ok(at), None) => Some(at),
            (Err(_), Some(rank)) => {
                let back = usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX);
                Some(rank.saturating_sub(back))
            }
            (Err(_), None) => None,
        };
        let (Some(start), Some(end)) = (place(start), place(end)) else {
            return Ok(None);
        };
        // More axes than any tensor has: an end that can't be told without the rank.
        if end > 8 {
            return Ok(None);
        }
        let sizes = (start..end).map(|axis| self.follow(draft, &source, axis, steps));
        sizes.collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// How many axes a value has.
    fn rank(&mut self, draft: &Draft, value: &str, steps: usize) -> Result<Option<usize>, Error> {
        match draft.producer(value) {
            Some((_, node)) if node.op_type == "Transpose" => {
                Ok(ints(node, "perm").map(<[i64]>::len))
            }
            Some((_, node)) if node.op_type == "Reshape" => {
                Ok(self.reshape(draft, node, steps)?.map(|sizes| sizes.len()))
            }
            Some(_) => Ok(None),
            None => Ok(draft.input_dims(value).map(|dims| dims.len())),
        }
    }
}

/// The operand of an element-wise node of two that has the shape of the result: the first that is computed.
fn activation<'n>(draft: &Draft, node: &'n NodeProto) -> Option<&'n str> {
    [input(node, 0)?, input(node, 1)?]
        .into_iter()
        .find(|value| draft.initialiser(value).is_none())
}

/// The input whose axis `axis` one of our nodes keeps.
fn kept_by<'n>(draft: &Draft, node: &'n NodeProto, axis: usize) -> Option<&'n str> {
    let source = input(node, 0)?;
    match draft.spec_of(node)? {
        // Tokens `[batch, tokens]` to `[batch, tokens, columns]`.
        OpSpec::Gather(..) => draft
            .input_dims(source)
            .is_some_and(|dims| axis < dims.len())
            .then_some(source),
        OpSpec::Taken => None,
        _ => (axis < 2).then_some(source),
    }
}
