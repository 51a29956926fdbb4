//! Slots for adapters, `x · A · B` beside a linear layer with A and B as inputs of the graph, are taken out: our linear layers take
//! adapters by themselves, whatever the graph has.
//!
//! A slot is empty by default: its factors are constants of rank 0, or inputs of an unknown rank without a default (ONNX Runtime
//! GenAI's convention), so that the path adds zeros.

use std::collections::HashSet;

use super::constants;
use super::draft::{Draft, NodeId};
use super::node::{input, output};
use crate::Error;

/// Takes the empty slots out of the graph, inputs and all.
pub(crate) fn rewrite(draft: &mut Draft) -> Result<(), Error> {
    let mut slots: HashSet<String> = HashSet::new();
    let mut zeros: Vec<String> = Vec::new();
    for id in draft.ids_of("MatMul") {
        let Some(node) = draft.node(id) else { continue };
        let (Some(hidden), Some(b), Some(change)) =
            (input(node, 0), input(node, 1), output(node, 0))
        else {
            continue;
        };
        let Some((_, down)) = draft
            .producer(hidden)
            .filter(|(_, node)| node.op_type == "MatMul")
        else {
            continue;
        };
        let Some(a) = input(down, 1) else { continue };
        let is_empty = |name: &str, rank_axis: usize| -> Result<bool, Error> {
            Ok(match constants::dims(draft, name)? {
                Some(dims) => dims.len() == 2 && dims.get(rank_axis) == Some(&0),
                None => draft
                    .input_dims(name)
                    .is_some_and(|dims| dims.len() == 2 && dims.get(rank_axis) == Some(&None)),
            })
        };
        if is_empty(a, 1)? && is_empty(b, 0)? {
            slots.extend([a.to_owned(), b.to_owned()]);
            zeros.push(change.to_owned());
        }
    }
    while let Some(zero) = zeros.pop() {
        for id in draft.consumers(&zero).to_vec() {
            let Some(node) = draft.node(id) else { continue };
            match node.op_type.as_str() {
                "Add" => bypass(draft, id, &zero),
                "Split" => zeros.extend(node.output.iter().cloned()),
                _ => {}
            }
        }
    }
    if slots.is_empty() {
        return Ok(());
    }
    draft.prune();
    slots.retain(|slot| draft.consumers(slot).is_empty());
    draft.remove_inputs(&slots);
    Ok(())
}

/// Takes out an addition of `zero`. What it added to gets the name of the sum.
fn bypass(draft: &mut Draft, add: NodeId, zero: &str) {
    let Some((kept, sum)) = draft.node(add).and_then(|node| {
        let kept = node.input.iter().find(|name| *name != zero)?;
        Some((kept.clone(), output(node, 0)?.to_owned()))
    }) else {
        return;
    };
    let only_reader = draft.sole_consumer(&kept).map(|(id, _)| id) == Some(add);
    let Some((producer, _)) = draft.producer(&kept).filter(|_| only_reader) else {
        return;
    };
    draft.remove(add);
    if let Some(mut node) = draft.remove(producer) {
        let names = node.output.iter_mut().filter(|name| **name == kept);
        names.for_each(|name| name.clone_from(&sum));
        draft.add(node);
    }
}
