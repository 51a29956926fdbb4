//! Attention over the tokens of one segment, with shared key/value heads.

use burn::tensor::{Bool, Device, Tensor, TensorData, activation};
use furlong_core::{Isa, gradient, softmax::softmax};
use rayon::prelude::*;

use super::dropout::{Dropout, Site};
use super::host;
use crate::train::model::Batch;

/// Numbers of heads and their width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; each serves `heads / kv_heads` query heads that lie together.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// What the scores `q·k` are multiplied by.
    pub scale: f32,
}

/// Which tokens of its row each token sees: a range.
#[derive(Debug, Clone)]
pub struct Visible {
    rows: usize,
    tokens: usize,
    /// For each token the first one it sees, and the one behind the last.
    ranges: Vec<(u32, u32)>,
    /// The same as what is hidden, `[rows, 1, tokens, tokens]`, or with one row where all are alike; not for the CPU.
    hidden: Option<Tensor<4, Bool>>,
}

impl Visible {
    /// Own segment only; where `causal`, nothing behind the token.
    pub fn new(batch: &Batch, causal: bool, device: &Device) -> Visible {
        let tokens = batch.tokens;
        let mut ranges = Vec::with_capacity(batch.len());
        for row in batch.segments.chunks(tokens.max(1)) {
            let mut first = 0;
            for part in row.chunk_by(|a, b| a == b) {
                let end = first + part.len();
                ranges.extend(
                    (first..end)
                        .map(|token| (first as u32, if causal { token + 1 } else { end } as u32)),
                );
                first = end;
            }
        }
        let hidden = host::kernels(device)
            .is_none()
            .then(|| hidden(&ranges, tokens, device));
        Visible {
            rows: batch.rows,
            tokens,
            ranges,
            hidden,
        }
    }
}

fn hidden(ranges: &[(u32, u32)], tokens: usize, device: &Device) -> Tensor<4, Bool> {
    let mut rows = ranges.chunks(tokens.max(1));
    let first = rows.next().unwrap_or_default();
    let shown = if rows.all(|row| row == first) {
        first
    } else {
        ranges
    };
    let hidden: Vec<bool> = shown
        .iter()
        .flat_map(|&(first, end)| (0..tokens as u32).map(move |t| t < first || t >= end))
        .collect();
    let rows = shown.len() / tokens.max(1);
    Tensor::from_data(TensorData::new(hidden, [rows, 1, tokens, tokens]), device)
}

/// What attention keeps for the way back: its inputs by head, and the probabilities.
#[derive(Debug)]
pub struct AttentionKept {
    /// `[rows * kv_heads, group * tokens, head_dim]`
    query: Tensor<3>,
    /// `[rows * kv_heads, tokens, head_dim]`
    key: Tensor<3>,
    /// `[rows * kv_heads, tokens, head_dim]`
    value: Tensor<3>,
    /// `[rows * kv_heads, group * tokens, tokens]`
    probabilities: Tensor<3>,
    /// What the probabilities were multiplied by where a share of them was dropped.
    mask: Option<Tensor<3>>,
}

/// Mixes values `[rows * tokens, kv_heads * head_dim]` by the scores of queries `[rows * tokens, heads * head_dim]` and keys, to
/// `[rows * tokens, heads * head_dim]`. A share of the probabilities may be dropped, at a place of `dropout`.
pub fn forward(
    shape: &AttentionShape,
    visible: &Visible,
    [query, key, value]: [Tensor<2>; 3],
    (dropout, site, share): (Dropout, Site, f32),
) -> (Tensor<2>, AttentionKept) {
    let query = split_queries(shape, visible, query);
    let [key, value] = [key, value].map(|x| split_keys(shape, visible, x));
    let scores = query.clone().matmul(key.clone().transpose());
    let dims = scores.dims();
    let probabilities = match host::kernels_of(&scores) {
        Some(isa) => softmax_on_host(isa, shape, visible, scores),
        None => softmax_by_operations(shape, visible, scores),
    };
    let mask = dropout
        .mask(site, share, [dims[0] * dims[1], dims[2]], &query.device())
        .map(|mask| mask.reshape(dims));
    let mixed = dropped(probabilities.clone(), &mask).matmul(value.clone());
    let kept = AttentionKept {
        query,
        key,
        value,
        probabilities,
        mask,
    };
    (join_queries(shape, visible, mixed), kept)
}

/// The gradients of query, key and value, shaped as they were.
pub fn backward(
    shape: &AttentionShape,
    visible: &Visible,
    kept: AttentionKept,
    dy: Tensor<2>,
) -> [Tensor<2>; 3] {
    let AttentionKept {
        query,
        key,
        value,
        probabilities,
        mask,
    } = kept;
    let dmixed = split_queries(shape, visible, dy);
    let dvalue = dropped(probabilities.clone(), &mask)
        .transpose()
        .matmul(dmixed.clone());
    let dprobabilities = dropped(dmixed.matmul(value.transpose()), &mask);
    let dscores = match host::kernels_of(&dprobabilities) {
        Some(isa) => softmax_back_on_host(isa, shape, visible, probabilities, dprobabilities),
        None => {
            let along = (dprobabilities.clone() * probabilities.clone()).sum_dim(2);
            (dprobabilities - along) * probabilities * shape.scale
        }
    };
    let dquery = dscores.clone().matmul(key);
    let dkey = dscores.transpose().matmul(query);
    [
        join_queries(shape, visible, dquery),
        join_keys(shape, visible, dkey),
        join_keys(shape, visible, dvalue),
    ]
}

fn dropped(probabilities: Tensor<3>, mask: &Option<Tensor<3>>) -> Tensor<3> {
    match mask {
        Some(mask) => probabilities * mask.clone(),
        None => probabilities,
    }
}

fn softmax_by_operations(
    shape: &AttentionShape,
    visible: &Visible,
    scores: Tensor<3>,
) -> Tensor<3> {
    let dims = scores.dims();
    let full = [visible.rows, shape.heads, visible.tokens, visible.tokens];
    let scores: Tensor<4> = (scores * shape.scale).reshape(full);
    let scores = match &visible.hidden {
        Some(hidden) => scores.mask_fill(hidden.clone().expand(full), f32::NEG_INFINITY),
        None => scores,
    };
    activation::softmax(scores, 3).reshape(dims)
}

/// The range that row `index` of `[rows, heads, tokens]` sees.
fn range_of(shape: &AttentionShape, visible: &Visible, index: usize) -> std::ops::Range<usize> {
    let row = index / (shape.heads * visible.tokens);
    let place = row * visible.tokens + index % visible.tokens;
    let (first, end) = visible.ranges.get(place).copied().unwrap_or_default();
    first as usize..end as usize
}

fn softmax_on_host(
    isa: Isa,
    shape: &AttentionShape,
    visible: &Visible,
    scores: Tensor<3>,
) -> Tensor<3> {
    let device = scores.device();
    let mut data = host::take(scores);
    host::each_part(host::write(&mut data), visible.tokens, |first, rows| {
        for (index, row) in (first..).zip(rows.chunks_exact_mut(visible.tokens)) {
            let range = range_of(shape, visible, index);
            let (seen, behind) = row.split_at_mut(range.end);
            let (before, seen) = seen.split_at_mut(range.start);
            before.fill(0.0);
            behind.fill(0.0);
            seen.iter_mut().for_each(|score| *score *= shape.scale);
            softmax(isa, seen);
        }
    });
    Tensor::from_data(data, &device)
}

fn softmax_back_on_host(
    isa: Isa,
    shape: &AttentionShape,
    visible: &Visible,
    probabilities: Tensor<3>,
    dprobabilities: Tensor<3>,
) -> Tensor<3> {
    let device = probabilities.device();
    let tokens = visible.tokens;
    let probabilities = host::take(probabilities);
    let probabilities = host::read(&probabilities);
    let mut data = host::take(dprobabilities);
    host::each_part(host::write(&mut data), tokens, |first, rows| {
        let probabilities = host::beside(probabilities, first, tokens, rows);
        let rows = rows
            .chunks_exact_mut(tokens)
            .zip(probabilities.chunks_exact(tokens));
        for (index, (gradient, probabilities)) in (first..).zip(rows) {
            let range = range_of(shape, visible, index);
            let seen = probabilities.get(range.clone()).unwrap_or_default();
            let (inside, behind) = gradient.split_at_mut(range.end);
            let (before, inside) = inside.split_at_mut(range.start);
            before.fill(0.0);
            behind.fill(0.0);
            host::succeed(gradient::softmax(isa, seen, shape.scale, inside));
        }
    });
    Tensor::from_data(data, &device)
}

/// `[rows * tokens, heads * head_dim]` by key/value head.
fn split_queries(shape: &AttentionShape, visible: &Visible, x: Tensor<2>) -> Tensor<3> {
    let (tokens, group) = (visible.tokens, shape.heads / shape.kv_heads);
    by_head(x, visible, shape.heads, shape.head_dim).reshape([
        visible.rows * shape.kv_heads,
        group * tokens,
        shape.head_dim,
    ])
}

fn join_queries(shape: &AttentionShape, visible: &Visible, x: Tensor<3>) -> Tensor<2> {
    by_token(x, visible, shape.heads, shape.head_dim)
}

/// `[rows * tokens, kv_heads * head_dim]` by head.
fn split_keys(shape: &AttentionShape, visible: &Visible, x: Tensor<2>) -> Tensor<3> {
    by_head(x, visible, shape.kv_heads, shape.head_dim)
}

fn join_keys(shape: &AttentionShape, visible: &Visible, x: Tensor<3>) -> Tensor<2> {
    by_token(x, visible, shape.kv_heads, shape.head_dim)
}

/// `[rows * heads, tokens, head_dim]` from `[rows * tokens, heads * head_dim]`.
fn by_head(x: Tensor<2>, visible: &Visible, heads: usize, head_dim: usize) -> Tensor<3> {
    let (rows, tokens) = (visible.rows, visible.tokens);
    let dims = [rows * heads, tokens, head_dim];
    if host::kernels_of(&x).is_some() {
        return swapped_on_host(x, [rows, tokens, heads, head_dim], dims);
    }
    let x: Tensor<4> = x.reshape([rows, tokens, heads, head_dim]);
    x.permute([0, 2, 1, 3]).reshape(dims)
}

/// `[rows * tokens, heads * head_dim]` from `[rows * heads, tokens, head_dim]`, or any other shape of the same order.
fn by_token(x: Tensor<3>, visible: &Visible, heads: usize, head_dim: usize) -> Tensor<2> {
    let (rows, tokens) = (visible.rows, visible.tokens);
    let dims = [rows * tokens, heads * head_dim];
    if host::kernels_of(&x).is_some() {
        return swapped_on_host(x, [rows, heads, tokens, head_dim], dims);
    }
    let x: Tensor<4> = x.reshape([rows, heads, tokens, head_dim]);
    x.permute([0, 2, 1, 3]).reshape(dims)
}

/// Swaps the two middle dimensions of `[rows, a, b, width]`, and calls the result `dims`.
fn swapped_on_host<const D: usize, const E: usize>(
    x: Tensor<D>,
    [_, a, b, width]: [usize; 4],
    dims: [usize; E],
) -> Tensor<E> {
    let device = x.device();
    let data = host::take(x);
    let values = host::read(&data);
    let mut swapped = vec![0.0; values.len()];
    let block = a * width;
    swapped
        .par_chunks_mut(block.max(1))
        .enumerate()
        .for_each(|(index, out)| {
            let (row, place) = (index / b, index % b);
            let start = (row * a * b + place) * width;
            for (out, from) in out
                .chunks_exact_mut(width)
                .zip((start..).step_by(b * width))
            {
                out.copy_from_slice(&values[from..from + width]);
            }
        });
    Tensor::from_data(TensorData::new(swapped, dims), &device)
}
