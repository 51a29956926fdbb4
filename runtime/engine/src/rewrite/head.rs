//! Cuts the layer that makes the logits off a decoder, so that it runs only for the positions that are wanted.

use super::draft::Draft;
use super::node::input;
use super::spec::{LinearSpec, OpSpec};

/// The output layer of a decoder.
pub(crate) struct Head {
    /// The layer: its rows are the vocabulary.
    pub linear: LinearSpec,
}

/// Takes the linear layer that makes the graph's only output out of the graph; its input is the output then.
pub(crate) fn cut(draft: &mut Draft) -> Option<Head> {
    let [logits] = draft.outputs() else {
        return None;
    };
    let (id, node) = draft.producer(&logits.name)?;
    let hidden = input(node, 0)?.to_owned();
    if !matches!(draft.spec(id), Some(OpSpec::Linear(_))) || draft.is_input(&hidden) {
        return None;
    }
    let Some(OpSpec::Linear(linear)) = draft.take_spec(id) else {
        return None;
    };
    draft.remove(id);
    draft.set_outputs(&[hidden]);
    Some(Head { linear })
}
