//! One transformer block, whatever its family: attention and feed-forward, each added to the residual stream.

use burn::tensor::Tensor;

use super::{Gradients, Parameters};
use crate::train::layers::attention::{self, AttentionKept};
use crate::train::layers::linear::LinearKept;
use crate::train::layers::{
    AttentionShape, Context, Dropout, Linear, Mlp, Norm, Rotation, Site, Visible,
};

/// What is the same for all blocks of a batch.
#[derive(Debug)]
pub struct Pass<'a> {
    /// Parameters and masks.
    pub context: Context<'a>,
    /// Who sees whom.
    pub visible: &'a Visible,
    /// How queries and keys are turned, if they are.
    pub rotation: Option<&'a Rotation>,
}

/// A block.
#[derive(Debug)]
pub struct Block {
    /// Its number, from 0.
    pub index: usize,
    /// Where its norms are.
    pub order: NormOrder,
    /// The attention's norm.
    pub attention_norm: Norm,
    /// Where query, key and value come from.
    pub projections: Projections,
    /// Norms of query and key over each head.
    pub head_norms: Option<[Norm; 2]>,
    /// Heads.
    pub shape: AttentionShape,
    /// The attention's output projection.
    pub attention_output: Linear,
    /// The feed-forward's norm.
    pub mlp_norm: Norm,
    /// The gate's linear map, in gated layers.
    pub gate: Option<Linear>,
    /// The first linear map.
    pub up: Linear,
    /// What lies between.
    pub mlp: Mlp,
    /// The last linear map.
    pub down: Linear,
    /// Share of what is added to the residual stream that is dropped.
    pub residual_dropout: f32,
    /// Share of the attention probabilities that is dropped.
    pub attention_dropout: f32,
}

/// Where the norms of a block are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormOrder {
    /// On the inputs of attention and feed-forward: `x + f(norm(x))`.
    Before,
    /// On what comes of adding their results, as in the original transformer and BERT: `norm(x + f(x))`.
    After,
}

/// The linear maps that make query, key and value.
#[derive(Debug)]
pub enum Projections {
    /// One each.
    Separate(Box<[Linear; 3]>),
    /// One for all three, whose outputs lie side by side.
    Fused(Box<Linear>),
}

/// What a block keeps for the way back. Normed rows, masks and the feed-forward's middle are computed again.
#[derive(Debug)]
pub struct BlockKept {
    x: Tensor<2>,
    projections: Vec<LinearKept>,
    /// Query and key before the norms over heads.
    unnormed: Option<[Tensor<2>; 2]>,
    attention: AttentionKept,
    mixed: Tensor<2>,
    attention_output: LinearKept,
    /// The residual stream after attention.
    middle: Tensor<2>,
    gate: Option<(Tensor<2>, LinearKept)>,
    up: (Tensor<2>, LinearKept),
    down: LinearKept,
    /// The residual stream after the feed-forward, where a norm follows.
    last: Option<Tensor<2>>,
}

impl Block {
    /// The block's result for `x`, `[rows, width]`.
    pub fn forward(&self, pass: &Pass, mut x: Tensor<2>) -> (Tensor<2>, BlockKept) {
        let Context {
            parameters,
            dropout,
        } = pass.context;
        let input = match self.order {
            NormOrder::Before => self.attention_norm.forward(parameters, &mut x),
            NormOrder::After => x.clone(),
        };
        let ([mut query, mut key, value], projections) = self.project(pass, &input);
        drop(input);
        let mut unnormed = None;
        if let Some([query_norm, key_norm]) = self.head_norms {
            unnormed = Some([query.clone(), key.clone()]);
            query = self.over_heads(query, |x| query_norm.forward(parameters, x));
            key = self.over_heads(key, |x| key_norm.forward(parameters, x));
        }
        if let Some(rotation) = pass.rotation {
            query = rotation.forward(query, self.shape.heads);
            key = rotation.forward(key, self.shape.kv_heads);
        }
        let (mixed, attention) = attention::forward(
            &self.shape,
            pass.visible,
            [query, key, value],
            (dropout, self.site(ATTENTION_SITE), self.attention_dropout),
        );
        let (out, attention_output) = self.attention_output.forward(pass.context, &mixed);
        let mut middle = self.dropped(dropout, 0, out) + x.clone();

        let normed = match self.order {
            NormOrder::Before => self.mlp_norm.forward(parameters, &mut middle),
            NormOrder::After => self.attention_norm.forward(parameters, &mut middle),
        };
        let mut gate = self
            .gate
            .as_ref()
            .map(|gate| gate.forward(pass.context, &normed));
        let mut up = self.up.forward(pass.context, &normed);
        let inner = self
            .mlp
            .forward(gate.as_mut().map(|(gate, _)| gate), &mut up.0);
        let (out, down) = self.down.forward(pass.context, &inner);
        drop(inner);
        let out = self.dropped(dropout, 1, out);
        let (y, last) = match self.order {
            NormOrder::Before => (out + middle.clone(), None),
            NormOrder::After => {
                let mut last = out + normed;
                let y = self.mlp_norm.forward(parameters, &mut last);
                (y, Some(last))
            }
        };
        let kept = BlockKept {
            x,
            projections,
            unnormed,
            attention,
            mixed,
            attention_output,
            middle,
            gate,
            up,
            down,
            last,
        };
        (y, kept)
    }

    /// The gradient of the block's input from that of its result; `None` unless `wanted`.
    pub fn backward(
        &self,
        pass: &Pass,
        mut kept: BlockKept,
        dy: Tensor<2>,
        wanted: bool,
        gradients: &mut Gradients,
    ) -> Option<Tensor<2>> {
        let Context {
            parameters,
            dropout,
        } = pass.context;
        let dlast = match kept.last {
            Some(ref mut last) => self.mlp_norm.backward(parameters, last, dy, gradients),
            None => dy,
        };
        let middle_norm = match self.order {
            NormOrder::Before => self.mlp_norm,
            NormOrder::After => self.attention_norm,
        };
        let normed = middle_norm.forward(parameters, &mut kept.middle);
        let dout = self.dropped(dropout, 1, dlast.clone());
        let dnormed = self.mlp_back(
            pass,
            &normed,
            (kept.gate, kept.up, kept.down),
            dout,
            gradients,
        )?;
        drop(normed);
        // The residual stream goes around the norm, or through it with the rest.
        let dmiddle = match self.order {
            NormOrder::Before => {
                middle_norm.backward(parameters, &mut kept.middle, dnormed, gradients) + dlast
            }
            NormOrder::After => {
                let dnormed = dnormed + dlast;
                middle_norm.backward(parameters, &mut kept.middle, dnormed, gradients)
            }
        };

        let dout = self.dropped(dropout, 0, dmiddle.clone());
        let dmixed = self.attention_output.backward(
            pass.context,
            &kept.mixed,
            kept.attention_output,
            dout,
            true,
            gradients,
        )?;
        let [mut dquery, mut dkey, dvalue] =
            attention::backward(&self.shape, pass.visible, kept.attention, dmixed);
        if let Some(rotation) = pass.rotation {
            dquery = rotation.backward(dquery, self.shape.heads);
            dkey = rotation.backward(dkey, self.shape.kv_heads);
        }
        if let (Some([query_norm, key_norm]), Some([query, key])) = (self.head_norms, kept.unnormed)
        {
            dquery = self.over_heads_back(query_norm, parameters, query, dquery, gradients);
            dkey = self.over_heads_back(key_norm, parameters, key, dkey, gradients);
        }
        let input = match self.order {
            NormOrder::Before => self.attention_norm.forward(parameters, &mut kept.x),
            NormOrder::After => kept.x.clone(),
        };
        let dinput = self.project_back(
            pass,
            &input,
            kept.projections,
            [dquery, dkey, dvalue],
            wanted,
            gradients,
        )?;
        let dx = match self.order {
            NormOrder::Before => {
                self.attention_norm
                    .backward(parameters, &mut kept.x, dinput, gradients)
            }
            NormOrder::After => dinput,
        };
        Some(dx + dmiddle)
    }

    /// From the gradient of the feed-forward's result to that of its input, `normed`.
    fn mlp_back(
        &self,
        pass: &Pass,
        normed: &Tensor<2>,
        (gate, up, down): (
            Option<(Tensor<2>, LinearKept)>,
            (Tensor<2>, LinearKept),
            LinearKept,
        ),
        dout: Tensor<2>,
        gradients: &mut Gradients,
    ) -> Option<Tensor<2>> {
        let (mut gate, gate_kept) = gate.unzip();
        let (mut up, up_kept) = up;
        let inner = self.mlp.forward(gate.as_mut(), &mut up);
        let dinner = self
            .down
            .backward(pass.context, &inner, down, dout, true, gradients)?;
        drop(inner);
        let (dgate, dup) = self.mlp.backward(gate, up, dinner);
        let dnormed = self
            .up
            .backward(pass.context, normed, up_kept, dup, true, gradients)?;
        let (Some(gate), Some(kept), Some(dgate)) = (&self.gate, gate_kept, dgate) else {
            return Some(dnormed);
        };
        let of_gate = gate.backward(pass.context, normed, kept, dgate, true, gradients)?;
        Some(dnormed + of_gate)
    }

    fn project(&self, pass: &Pass, input: &Tensor<2>) -> ([Tensor<2>; 3], Vec<LinearKept>) {
        match &self.projections {
            Projections::Separate(maps) => {
                let [query, key, value] =
                    maps.each_ref().map(|map| map.forward(pass.context, input));
                ([query.0, key.0, value.0], vec![query.1, key.1, value.1])
            }
            Projections::Fused(map) => {
                let (all, kept) = map.forward(pass.context, input);
                let mut start = 0;
                let parts = self.widths().map(|width| {
                    let part = all.clone().narrow(1, start, width);
                    start += width;
                    part
                });
                (parts, vec![kept])
            }
        }
    }

    fn project_back(
        &self,
        pass: &Pass,
        input: &Tensor<2>,
        kept: Vec<LinearKept>,
        [dquery, dkey, dvalue]: [Tensor<2>; 3],
        wanted: bool,
        gradients: &mut Gradients,
    ) -> Option<Tensor<2>> {
        let (maps, results) = match &self.projections {
            Projections::Separate(maps) => (maps.as_slice(), vec![dquery, dkey, dvalue]),
            Projections::Fused(map) => (
                std::slice::from_ref(map.as_ref()),
                vec![Tensor::cat(vec![dquery, dkey, dvalue], 1)],
            ),
        };
        maps.iter()
            .zip(kept)
            .zip(results)
            .filter_map(|((map, kept), dy)| {
                map.backward(pass.context, input, kept, dy, wanted, gradients)
            })
            .reduce(|sum, part| sum + part)
    }

    /// Widths of query, key and value.
    fn widths(&self) -> [usize; 3] {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.shape;
        [heads, kv_heads, kv_heads].map(|heads| heads * head_dim)
    }

    /// Applies `map` to `x`, `[rows, heads * head_dim]`, as `[rows * heads, head_dim]`.
    fn over_heads(&self, x: Tensor<2>, map: impl FnOnce(&mut Tensor<2>) -> Tensor<2>) -> Tensor<2> {
        let dims = x.dims();
        let head_dim = self.shape.head_dim;
        map(&mut x.reshape([dims[0] * dims[1] / head_dim, head_dim])).reshape(dims)
    }

    fn over_heads_back(
        &self,
        norm: Norm,
        parameters: &Parameters,
        x: Tensor<2>,
        dy: Tensor<2>,
        gradients: &mut Gradients,
    ) -> Tensor<2> {
        let dims = x.dims();
        let by_head = [dims[0] * dims[1] / self.shape.head_dim, self.shape.head_dim];
        norm.backward(
            parameters,
            &mut x.reshape(by_head),
            dy.reshape(by_head),
            gradients,
        )
        .reshape(dims)
    }

    /// Drops a share of what is added to the residual stream by attention (0) or feed-forward (1); and of its gradient, alike.
    fn dropped(&self, dropout: Dropout, part: usize, x: Tensor<2>) -> Tensor<2> {
        let site = self.site(RESIDUAL_SITES + part);
        match dropout.mask(site, self.residual_dropout, x.dims(), &x.device()) {
            Some(mask) => x * mask,
            None => x,
        }
    }

    fn site(&self, index: usize) -> Site {
        Site::new(self.index, index)
    }

    /// The block's linear maps.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        let projections = match &self.projections {
            Projections::Separate(maps) => maps.as_slice(),
            Projections::Fused(map) => std::slice::from_ref(map.as_ref()),
        };
        projections
            .iter()
            .chain([&self.attention_output])
            .chain(&self.gate)
            .chain([&self.up, &self.down])
    }

    /// The same, to be changed.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = &mut Linear> {
        let projections = match &mut self.projections {
            Projections::Separate(maps) => maps.as_mut_slice(),
            Projections::Fused(map) => std::slice::from_mut(map.as_mut()),
        };
        projections
            .iter_mut()
            .chain([&mut self.attention_output])
            .chain(&mut self.gate)
            .chain([&mut self.up, &mut self.down])
    }
}

/// Sites of a block behind those of its linear maps.
const RESIDUAL_SITES: usize = 16;
const ATTENTION_SITE: usize = 18;
