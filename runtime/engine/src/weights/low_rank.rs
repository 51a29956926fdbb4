//! What an adapter adds to a linear layer, `y += s · B · (A · x)`, beside the packed weights and never in them.

use std::ops::Range;

use furlong_core::low_rank::{down, down_len, pack_down, pack_up, up, up_len};
use furlong_core::{Error as CoreError, Isa, MatrixMut};

use crate::pool::Pool;

/// Tokens of a prompt that a thread multiplies by A at once.
const TOKENS_AT_ONCE: usize = 8;

/// One pair of factors, and the rows that it changes.
#[derive(Debug)]
pub(crate) struct Change {
    /// `[rank, cols]`.
    pub a: Vec<f32>,
    /// The length of the inner axis.
    pub rank: usize,
    /// What the product is multiplied by.
    pub scale: f32,
    /// The parts of B, by where their rows are.
    pub parts: Vec<ChangePart>,
}

/// Some rows of B.
#[derive(Debug)]
pub(crate) struct ChangePart {
    /// Which of the layer's matrices it changes.
    pub matrix: usize,
    /// Which rows of it; they start on a tile.
    pub rows: Range<usize>,
    /// `[rows, rank]`.
    pub b: Vec<f32>,
}

/// All that an adapter adds to one layer.
#[derive(Debug)]
pub(crate) struct LowRank {
    isa: Isa,
    /// `[ranks, cols]`: the A of all changes, one below the other.
    down: Vec<i16>,
    /// `[ranks]`: what the products with A are multiplied by.
    scales: Vec<f32>,
    ups: Vec<Up>,
}

/// Rows of one B.
#[derive(Debug)]
struct Up {
    matrix: usize,
    rows: Range<usize>,
    /// Which of all products with A it reads.
    ranks: Range<usize>,
    codes: Vec<i16>,
    scales: Vec<f32>,
}

/// A layer's change for some tokens, half done: rows of it can be added to a result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SidePath<'a> {
    layer: &'a LowRank,
    /// `[tokens, ranks]`: products with A.
    hidden: &'a [f32],
}

impl LowRank {
    /// Packs `changes` of a layer with `cols` inputs.
    ///
    /// # Errors
    /// Lengths that contradict each other.
    pub(crate) fn new(changes: Vec<Change>, cols: usize, isa: Isa) -> Result<LowRank, CoreError> {
        let (mut down, mut factors, mut ups) = (Vec::new(), Vec::new(), Vec::new());
        for change in changes {
            let ranks = factors.len()..factors.len() + change.rank;
            down.extend(change.a);
            factors.extend(std::iter::repeat_n(change.scale, change.rank));
            for part in change.parts {
                let mut codes = vec![0; up_len(part.rows.len(), change.rank)?];
                let mut scales = vec![0.0; part.rows.len()];
                pack_up(&part.b, change.rank, &mut codes, &mut scales)?;
                ups.push(Up {
                    matrix: part.matrix,
                    rows: part.rows,
                    ranks: ranks.clone(),
                    codes,
                    scales,
                });
            }
        }
        let mut codes = vec![0; down_len(factors.len(), cols)?];
        let mut scales = vec![0.0; factors.len()];
        pack_down(&down, cols, &mut codes, &mut scales)?;
        scales.iter_mut().zip(factors).for_each(|(s, f)| *s *= f);
        Ok(LowRank {
            isa,
            down: codes,
            scales,
            ups,
        })
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let ups = self
            .ups
            .iter()
            .map(|up| size_of_val(&*up.codes) + size_of_val(&*up.scales));
        size_of_val(&*self.down) + size_of_val(&*self.scales) + ups.sum::<usize>()
    }

    /// Multiplies `x` `[tokens, cols]` by A; `hidden` is working memory.
    ///
    /// # Errors
    /// A length that doesn't fit.
    pub(crate) fn begin<'a>(
        &'a self,
        x: &[f32],
        tokens: usize,
        hidden: &'a mut Vec<f32>,
        pool: &Pool,
    ) -> Result<SidePath<'a>, CoreError> {
        let (ranks, cols) = (self.scales.len(), x.len() / tokens.max(1));
        hidden.resize(tokens * ranks, 0.0);
        pool.for_rows(hidden, ranks, TOKENS_AT_ONCE, |first, rows| {
            for (index, row) in rows.chunks_exact_mut(ranks).enumerate() {
                let token = first + index;
                let x = x.get(token * cols..(token + 1) * cols);
                down(
                    self.isa,
                    &self.down,
                    &self.scales,
                    x.unwrap_or_default(),
                    row,
                )?;
            }
            Ok::<(), CoreError>(())
        })?;
        Ok(SidePath {
            layer: self,
            hidden,
        })
    }
}

impl SidePath<'_> {
    /// Adds the change of the rows `rows` of the layer's matrix `matrix` to `out` `[tokens, rows]`.
    ///
    /// # Errors
    /// A view that doesn't fit, or rows that don't start and end on a tile.
    pub(crate) fn add(
        &self,
        matrix: usize,
        rows: Range<usize>,
        mut out: MatrixMut<'_>,
    ) -> Result<(), CoreError> {
        let LowRank {
            isa, scales, ups, ..
        } = self.layer;
        for part in ups.iter().filter(|part| part.matrix == matrix) {
            let start = rows.start.max(part.rows.start);
            let end = rows.end.min(part.rows.end);
            if start >= end {
                continue;
            }
            let columns = start - rows.start..end - rows.start;
            let range = start - part.rows.start..end - part.rows.start;
            for (token, hidden) in self.hidden.chunks_exact(scales.len()).enumerate() {
                let row = out.row_mut(token).ok_or(CoreError::Shape)?;
                let row = row.get_mut(columns.clone()).ok_or(CoreError::Shape)?;
                let hidden = hidden.get(part.ranks.clone()).unwrap_or_default();
                up(*isa, &part.codes, &part.scales, hidden, range.clone(), row)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
