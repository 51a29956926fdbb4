//! From a batch through all blocks to the states of its tokens, and back.

use burn::tensor::Tensor;

use super::block::{BlockKept, Pass};
use super::inputs::Inputs;
use super::{Gradients, Model};
use crate::train::layers::Context;

/// What is kept of a forward pass.
#[derive(Debug)]
pub(super) struct Kept {
    /// What was embedded, before its norm.
    unnormed: Option<Tensor<2>>,
    /// Of the blocks from the lowest that is trained.
    blocks: Vec<KeptBlock>,
    /// The result of the last block, before the norm behind it.
    last: Tensor<2>,
}

#[derive(Debug)]
enum KeptBlock {
    All(Box<BlockKept>),
    /// Only the block's input: it is computed again.
    Input(Box<Tensor<2>>),
}

impl Model {
    /// The states of all tokens, `[rows * tokens, width]`.
    pub(super) fn states(&self, inputs: &Inputs) -> Tensor<2> {
        let pass = self.pass(inputs);
        let blocks = self.body.blocks.iter();
        let mut x = blocks.fold(self.embed(inputs).0, |x, block| block.forward(&pass, x).0);
        match self.body.norm {
            Some(norm) => norm.forward(&self.parameters, &mut x),
            None => x,
        }
    }

    /// The same, with what the way back needs.
    pub(super) fn states_kept(&self, inputs: &Inputs) -> (Tensor<2>, Kept) {
        let pass = self.pass(inputs);
        let (mut x, unnormed) = self.embed(inputs);
        let mut blocks = Vec::with_capacity(self.body.blocks.len());
        for block in &self.body.blocks {
            let input = self.options.recompute.then(|| x.clone());
            let (y, all) = block.forward(&pass, x);
            x = y;
            if block.index < self.lowest {
                continue;
            }
            blocks.push(match input {
                Some(input) => KeptBlock::Input(Box::new(input)),
                None => KeptBlock::All(Box::new(all)),
            });
        }
        let states = match self.body.norm {
            Some(norm) => norm.forward(&self.parameters, &mut x),
            None => x.clone(),
        };
        let kept = Kept {
            unnormed,
            blocks,
            last: x,
        };
        (states, kept)
    }

    /// Adds the gradients of all parameters below the states, whose own is `dstates`.
    pub(super) fn states_back(
        &self,
        inputs: &Inputs,
        mut kept: Kept,
        dstates: Tensor<2>,
        gradients: &mut Gradients,
    ) {
        let pass = self.pass(inputs);
        let mut dx = match self.body.norm {
            Some(norm) => norm.backward(&self.parameters, &mut kept.last, dstates, gradients),
            None => dstates,
        };
        drop(kept.last);
        let trained = self.body.blocks.iter().skip(self.lowest);
        for (block, kept) in trained.zip(kept.blocks).rev() {
            let kept = match kept {
                KeptBlock::All(kept) => *kept,
                KeptBlock::Input(input) => block.forward(&pass, *input).1,
            };
            // Nothing below that block is trained along with an adapter.
            let wanted = block.index > self.lowest || self.options.adapter.is_none();
            match block.backward(&pass, kept, dx, wanted, gradients) {
                Some(next) => dx = next,
                None => return,
            }
        }
        self.embed_back(inputs, kept.unnormed, dx, gradients);
    }

    fn pass<'a>(&'a self, inputs: &'a Inputs) -> Pass<'a> {
        Pass {
            context: Context {
                parameters: &self.parameters,
                dropout: inputs.dropout,
            },
            visible: &inputs.visible,
            rotation: inputs.rotation.as_ref(),
        }
    }
}
