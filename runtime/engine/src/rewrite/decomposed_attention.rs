//! Attention of all tokens over all of them, written out in elementary ops, becomes `SelfAttention`.
//!
//! What PyTorch exports for an encoder: the outputs of three linear layers are divided into heads by `Reshape` and `Transpose`,
//! `softmax(q · kᵀ · scale + mask) · v` is two `MatMul` with a `Softmax` between them, and the heads are put side by side again. The
//! factor may be on the scores, or its root on queries and on keys; scores that are all hidden may be caught by `IsNaN`.
//! Found from its end: what nothing reads any more goes when the graph is pruned.

use tract_onnx::pb::NodeProto;

use super::axes::{Axes, Size};
use super::constants::{scalar, scaled};
use super::draft::Draft;
use super::node::{input, int, ints, output};
use super::operand::swaps_heads_and_tokens;
use super::spec::{AttentionInputs, OpSpec, SelfAttentionSpec};
use crate::Error;

/// Rewrites every such attention.
///
/// # Errors
/// A constant that can't be read.
pub(crate) fn rewrite(draft: &mut Draft) -> Result<(), Error> {
    let mut axes = Axes::default();
    for id in draft.ids_of("Reshape") {
        let found = match draft.node(id) {
            Some(node) => Search {
                draft,
                axes: &mut axes,
            }
            .attention(node)?,
            None => None,
        };
        let Some((spec, inputs, result)) = found else {
            continue;
        };
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        draft.replace(
            &[id],
            &result,
            OpSpec::SelfAttention(spec),
            &inputs,
            &[&result],
        );
    }
    Ok(())
}

/// Queries, keys or values in heads.
struct Heads {
    /// `[batch, tokens, heads · columns]`.
    flat: String,
    heads: usize,
    columns: usize,
    /// What they are multiplied by.
    factor: f32,
}

/// Scores before the softmax.
struct Scores {
    query: Heads,
    key: Heads,
    factor: f32,
    mask: Option<String>,
}

struct Search<'d, 'a> {
    draft: &'d Draft,
    axes: &'a mut Axes,
}

impl<'d> Search<'d, '_> {
    /// What ends in this `Reshape`: the op, what it reads and what it makes.
    fn attention(
        &mut self,
        node: &NodeProto,
    ) -> Result<Option<(SelfAttentionSpec, Vec<String>, String)>, Error> {
        let Some(turned) = self
            .producer(node, 0, "Transpose")
            .filter(|node| swaps_heads_and_tokens(node))
        else {
            return Ok(None);
        };
        let mut inner = input(turned, 0).and_then(|value| self.draft.producer(value));
        let divided = inner
            .map(|(_, node)| node)
            .filter(|node| node.op_type == "Reshape");
        if let Some(divided) = divided {
            inner = input(divided, 0).and_then(|value| self.draft.producer(value));
        }
        let Some((_, product)) = inner.filter(|(_, node)| node.op_type == "MatMul") else {
            return Ok(None);
        };
        let (Some(weights), Some(value)) = (input(product, 0), input(product, 1)) else {
            return Ok(None);
        };
        let (weights, value) = (weights.to_owned(), value.to_owned());
        let Some(scores) = self.scores(&weights)? else {
            return Ok(None);
        };
        let Some(value) = self.heads(&value)?.filter(|value| value.factor == 1.0) else {
            return Ok(None);
        };
        let Scores {
            query,
            key,
            factor,
            mask,
        } = scores;
        let shared =
            query.columns == key.columns && key.heads == value.heads && query.heads == key.heads;
        let batch = self.axes.size(self.draft, &query.flat, 0)?;
        let tokens = self.axes.size(self.draft, &query.flat, 1)?;
        let inner = [
            batch.clone(),
            Size::Known(query.heads),
            tokens.clone(),
            Size::Known(value.columns),
        ];
        let outer = [batch, tokens, Size::Known(value.heads * value.columns)];
        let keeps = match divided {
            Some(divided) => self.gives(divided, &inner)?,
            None => true,
        };
        if !shared || !keeps || !self.gives(node, &outer)? {
            return Ok(None);
        }
        let spec = SelfAttentionSpec {
            heads: query.heads,
            kv_heads: key.heads,
            head_dim: key.columns,
            value_dim: value.columns,
            scale: factor * query.factor * key.factor,
            inputs: AttentionInputs::Separate,
            masked: mask.is_some(),
        };
        let mut inputs = vec![query.flat, key.flat, value.flat];
        inputs.extend(mask);
        Ok(output(node, 0).map(|result| (spec, inputs, result.to_owned())))
    }

    /// Whether a `Reshape` gives these sizes.
    fn gives(&mut self, node: &NodeProto, wanted: &[Size]) -> Result<bool, Error> {
        let sizes = self.axes.reshaped(self.draft, node)?;
        Ok(sizes.is_some_and(|sizes| {
            sizes.len() == wanted.len()
                && sizes
                    .iter()
                    .zip(wanted)
                    .all(|(size, wanted)| size == wanted || *size == Size::Rest)
        }))
    }

    /// What a softmax is taken of, from its result.
    fn scores(&mut self, weights: &str) -> Result<Option<Scores>, Error> {
        let Some(softmax) = self.softmax(weights)? else {
            return Ok(None);
        };
        let mut value = input(softmax, 0).unwrap_or_default().to_owned();
        let mut mask = None;
        if let Some((_, add)) = self
            .draft
            .producer(&value)
            .filter(|(_, node)| node.op_type == "Add")
        {
            let (a, b) = (
                input(add, 0).unwrap_or_default(),
                input(add, 1).unwrap_or_default(),
            );
            let (scores, hidden) = match self.product(a)? {
                Some(_) => (a, b),
                None => (b, a),
            };
            if !self.is_mask(hidden)? {
                return Ok(None);
            }
            mask = Some(hidden.to_owned());
            value = scores.to_owned();
        }
        let Some((product, factor)) = self.product(&value)? else {
            return Ok(None);
        };
        let query = self.heads(input(product, 0).unwrap_or_default())?;
        let key = self.keys(input(product, 1).unwrap_or_default())?;
        Ok(match (query, key) {
            (Some(query), Some(key)) => Some(Scores {
                query,
                key,
                factor,
                mask,
            }),
            _ => None,
        })
    }

    /// Whether a value can be a mask: one number for all positions is none.
    fn is_mask(&self, value: &str) -> Result<bool, Error> {
        let Some(tensor) = self.draft.initialiser(value) else {
            return Ok(true);
        };
        let dims = self.draft.tensor(tensor)?.dims;
        Ok(dims.last().is_some_and(|&positions| positions > 1))
    }

    /// The softmax over the last axis that makes `weights`, perhaps with its numbers that are none made zero.
    fn softmax(&self, weights: &str) -> Result<Option<&'d NodeProto>, Error> {
        let Some((_, mut node)) = self.draft.producer(weights) else {
            return Ok(None);
        };
        if node.op_type == "Where" {
            let is_nan = self.producer(node, 0, "IsNaN");
            let zero = scalar(self.draft, input(node, 1).unwrap_or_default())? == Some(0.0);
            let same = is_nan.is_some_and(|is_nan| input(is_nan, 0) == input(node, 2));
            match self.producer(node, 2, "Softmax").filter(|_| zero && same) {
                Some(softmax) => node = softmax,
                None => return Ok(None),
            }
        }
        let last = node.op_type == "Softmax" && matches!(int(node, "axis"), Some(-1 | 3));
        Ok(last.then_some(node))
    }

    /// The product of queries and keys that makes `value`, and what it is multiplied by.
    fn product(&self, value: &str) -> Result<Option<(&'d NodeProto, f32)>, Error> {
        let (value, factor) = scaled(self.draft, value)?.unwrap_or_else(|| (value.to_owned(), 1.0));
        let product = self.draft.producer(&value).map(|(_, node)| node);
        Ok(product
            .filter(|node| node.op_type == "MatMul")
            .map(|node| (node, factor)))
    }

    /// `[batch, heads, tokens, columns]`, followed back to the linear layer that makes it.
    fn heads(&mut self, value: &str) -> Result<Option<Heads>, Error> {
        let (value, factor) = scaled(self.draft, value)?.unwrap_or_else(|| (value.to_owned(), 1.0));
        match self.draft.producer(&value) {
            Some((_, node)) if swaps_heads_and_tokens(node) && node.op_type == "Transpose" => {
                self.divided(node, factor)
            }
            _ => Ok(None),
        }
    }

    /// `[batch, heads, columns, tokens]`.
    fn keys(&mut self, value: &str) -> Result<Option<Heads>, Error> {
        let (value, factor) = scaled(self.draft, value)?.unwrap_or_else(|| (value.to_owned(), 1.0));
        let Some((_, node)) = self.draft.producer(&value) else {
            return Ok(None);
        };
        let inner = match (node.op_type.as_str(), ints(node, "perm")) {
            ("Transpose", Some(&[0, 2, 3, 1])) => return self.divided(node, factor),
            ("Transpose", Some(&[0, 1, 3, 2])) => input(node, 0).map(str::to_owned),
            ("Reshape", _) => self.turned_flat(node)?,
            _ => None,
        };
        let Some(inner) = inner else {
            return Ok(None);
        };
        Ok(self.heads(&inner)?.map(|heads| Heads {
            factor: heads.factor * factor,
            ..heads
        }))
    }

    /// The value whose last two axes are swapped by way of three axes, which is how PyTorch's newer exporter writes it: `Reshape` to
    /// `[batch · heads, tokens, columns]`, `Transpose`, `Reshape` back.
    fn turned_flat(&mut self, node: &NodeProto) -> Result<Option<String>, Error> {
        let turned = self
            .producer(node, 0, "Transpose")
            .filter(|node| ints(node, "perm") == Some(&[0, 2, 1]));
        let flat = turned.and_then(|turned| self.producer(turned, 0, "Reshape"));
        let Some((flat, value)) = flat.and_then(|flat| Some((flat, input(flat, 0)?.to_owned())))
        else {
            return Ok(None);
        };
        let mut sizes = Vec::new();
        for axis in 0..4 {
            sizes.push(self.axes.size(self.draft, &value, axis)?);
        }
        let [batch, heads, tokens, columns] = &sizes[..] else {
            return Ok(None);
        };
        let inner = [Size::Rest, tokens.clone(), columns.clone()];
        let outer = [
            batch.clone(),
            heads.clone(),
            columns.clone(),
            tokens.clone(),
        ];
        let joins = self
            .axes
            .reshaped(self.draft, flat)?
            .is_some_and(|sizes| sizes == inner);
        let parts = self.gives(node, &outer)?;
        Ok((joins && parts).then_some(value))
    }

    /// What a `Transpose` turns, if it is a linear layer's output in heads.
    fn divided(&mut self, node: &NodeProto, factor: f32) -> Result<Option<Heads>, Error> {
        let Some(reshape) = self.producer(node, 0, "Reshape") else {
            return Ok(None);
        };
        let flat = input(reshape, 0).unwrap_or_default();
        let linear = self
            .draft
            .producer(flat)
            .and_then(|(id, _)| self.draft.spec(id));
        let Some(rows) = linear.and_then(OpSpec::linear_rows) else {
            return Ok(None);
        };
        let Some(sizes) = self.axes.reshaped(self.draft, reshape)? else {
            return Ok(None);
        };
        let [batch, tokens, heads, columns] = &sizes[..] else {
            return Ok(None);
        };
        let same = |own: Size, found: &Size| *found == own || *found == Size::Rest;
        let keeps = same(self.axes.size(self.draft, flat, 0)?, batch)
            && same(self.axes.size(self.draft, flat, 1)?, tokens);
        let (heads, columns) = match (heads, columns) {
            (&Size::Known(heads), &Size::Known(columns)) => (heads, columns),
            (&Size::Known(heads), Size::Rest) => (heads, rows.checked_div(heads).unwrap_or(0)),
            (Size::Rest, &Size::Known(columns)) => {
                (rows.checked_div(columns).unwrap_or(0), columns)
            }
            _ => return Ok(None),
        };
        let whole = heads > 0 && columns > 0 && heads.checked_mul(columns) == Some(rows);
        Ok((keeps && whole).then(|| Heads {
            flat: flat.to_owned(),
            heads,
            columns,
            factor,
        }))
    }

    /// The node of this type that makes a node's input.
    fn producer(&self, node: &NodeProto, index: usize, op_type: &str) -> Option<&'d NodeProto> {
        let (_, node) = self.draft.producer(input(node, index)?)?;
        (node.op_type == op_type).then_some(node)
    }
}
