//! The ops in front of an encoder that reads features rather than tokens: patches for convolutions, and a class token.
//!
//! A convolution is a product of patches with its weights: K. Chellapilla and others, «High Performance Convolutional Neural
//! Networks for Document Processing», 2006. `unfold` writes the patches, and the kernels of linear layers do the rest.

use super::execute::{Execution, MISFIT, Progress, first_rows, split};
use super::op::{Op, Patches};
use super::{BufferId, TensorId, cast};

impl Execution<'_, '_> {
    /// Writes the patches of one row of places; `part` says of which.
    pub(super) fn unfold(&mut self, op: &Op, part: usize) -> Progress {
        let Op::Unfold { x, out, patches } = *op else {
            return Err(MISFIT);
        };
        let [x, out] = split(self.plan, self.arena, [x, out])?;
        let (x, out) = (cast::floats(x)?, cast::floats_mut(out)?);
        let shape = patches.usizes();
        let (down, across) = (shape.places[0], shape.places[1]);
        let row = shape
            .columns()
            .and_then(|columns| columns.checked_mul(across));
        let row = row.ok_or(MISFIT)?;
        let start = row.checked_mul(part).ok_or(MISFIT)?;
        let end = start.checked_add(row).ok_or(MISFIT)?;
        let mut to = out.get_mut(start..end).ok_or(MISFIT)?.iter_mut();
        for column in 0..across {
            for top in 0..shape.kernel[0] {
                let y = shape.source(0, part, top);
                for left in 0..shape.kernel[1] {
                    let place = y.zip(shape.source(1, column, left));
                    for channel in 0..shape.size[2] {
                        let at = place.map(|(y, x)| shape.offset([y, x, channel]));
                        // Outside of what there is, all is zero.
                        let value = at.map_or(0.0, |at| x.get(at).copied().unwrap_or(0.0));
                        if let Some(to) = to.next() {
                            *to = value;
                        }
                    }
                }
            }
        }
        let next = part.saturating_add(1);
        Ok((next < down).then_some(next))
    }

    /// Writes a constant's rows and then those of `x`.
    pub(super) fn prepend(&mut self, table: TensorId, x: BufferId, out: BufferId) -> Progress {
        let first = self.plan.floats(table)?;
        let (rows, columns) = self.shape(x)?;
        let (all, _) = self.shape(out)?;
        let [x, out] = split(self.plan, self.arena, [x, out])?;
        let x = first_rows(x, rows, columns)?;
        let out = first_rows(out, all, columns)?;
        let from = first.iter().chain(x.iter());
        out.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Ok(None)
    }
}

/// [`Patches`] in the machine's own words.
pub(super) struct Shape {
    size: [usize; 3],
    strides: [usize; 3],
    kernel: [usize; 2],
    step: [usize; 2],
    pad: [usize; 2],
    pub places: [usize; 2],
}

impl Patches {
    pub(super) fn usizes(&self) -> Shape {
        Shape {
            size: self.size.map(usize::from),
            strides: self.strides.map(|stride| stride as usize),
            kernel: self.kernel.map(usize::from),
            step: self.step.map(usize::from),
            pad: self.pad.map(usize::from),
            places: self.places.map(|places| places as usize),
        }
    }
}

impl Shape {
    /// Numbers of a patch.
    pub(super) fn columns(&self) -> Option<usize> {
        self.kernel[0]
            .checked_mul(self.kernel[1])?
            .checked_mul(self.size[2])
    }

    /// How many patches there are.
    pub(super) fn rows(&self) -> Option<usize> {
        self.places[0].checked_mul(self.places[1])
    }

    /// The largest offset, if it can be counted and nothing is empty.
    pub(super) fn last(&self) -> Option<usize> {
        let mut last = 0usize;
        for (size, stride) in self.size.iter().zip(self.strides) {
            let offset = size.checked_sub(1)?.checked_mul(stride)?;
            last = last.checked_add(offset)?;
        }
        Some(last)
    }

    /// Where the `tap`-th number of the `place`-th patch comes from, along one axis; `None` outside.
    fn source(&self, axis: usize, place: usize, tap: usize) -> Option<usize> {
        let start = place.checked_mul(*self.step.get(axis)?)?;
        let at = start.checked_add(tap)?.checked_sub(*self.pad.get(axis)?)?;
        (at < *self.size.get(axis)?).then_some(at)
    }

    fn offset(&self, place: [usize; 3]) -> usize {
        let along = place.iter().zip(self.strides);
        along.fold(0usize, |sum, (at, stride)| {
            sum.saturating_add(at.saturating_mul(stride))
        })
    }
}
