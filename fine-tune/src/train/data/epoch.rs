//! In which order samples are seen, and in whose company.

use serde::{Deserialize, Serialize};

use super::Sample;
use super::batch::lay_out;
use crate::comparison::Random;
use crate::train::model::Batch;

/// How samples are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrangement {
    /// Rows of a batch.
    pub rows: usize,
    /// The most tokens of a row of several samples; `None` gives each sample a row of its own.
    pub packed: Option<usize>,
    /// Put samples of like length into the same batch, so that there is little padding.
    pub by_length: bool,
    /// Columns of a batch are a multiple of this.
    pub multiple: usize,
}

/// Where in the data a run stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Epochs that are over.
    pub epoch: u64,
    /// Batches of this epoch that are done.
    pub batch: usize,
}

/// The batches of one pass over the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// For each batch, for each of its rows, the samples by index.
    batches: Vec<Vec<Vec<usize>>>,
    multiple: usize,
}

/// Batches among which samples are sorted by length. Sorting all would give every epoch the same batches.
const WINDOW: usize = 32;
/// Rows that are open at a time while samples are packed.
const OPEN_ROWS: usize = 64;

impl Epoch {
    /// Epoch `number` (from 0) over `samples` in an order that follows from `seed`.
    pub fn shuffled(samples: &[Sample], arrangement: Arrangement, seed: u64, number: u64) -> Epoch {
        let mut random = Random::new(seed, number);
        let mut order: Vec<usize> = (0..samples.len()).collect();
        shuffle(&mut order, &mut random);
        let length = |index: &usize| samples[*index].tokens.len();
        if arrangement.by_length && arrangement.packed.is_none() {
            for window in order.chunks_mut(WINDOW * arrangement.rows) {
                window.sort_by_key(|index| (length(index), *index));
            }
        }
        let mut epoch = Epoch::in_order(samples, &order, arrangement);
        shuffle(&mut epoch.batches, &mut random);
        epoch
    }

    /// One pass over `samples` as they come, for an evaluation.
    pub fn ordered(samples: &[Sample], arrangement: Arrangement) -> Epoch {
        let order: Vec<usize> = (0..samples.len()).collect();
        Epoch::in_order(samples, &order, arrangement)
    }

    fn in_order(samples: &[Sample], order: &[usize], arrangement: Arrangement) -> Epoch {
        let rows = match arrangement.packed {
            None => order.iter().map(|&index| vec![index]).collect(),
            Some(room) => pack(samples, order, room),
        };
        let batches = rows.chunks(arrangement.rows.max(1)).map(<[_]>::to_vec);
        Epoch {
            batches: batches.collect(),
            multiple: arrangement.multiple,
        }
    }

    /// How many batches there are.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The batch of this number; `None` past the last. `samples` are those that the epoch was made from.
    pub fn batch(&self, number: usize, samples: &[Sample]) -> Option<Batch> {
        let rows: Vec<Vec<&Sample>> = self
            .batches
            .get(number)?
            .iter()
            .map(|row| row.iter().map(|&index| &samples[index]).collect())
            .collect();
        Some(lay_out(&rows, self.multiple))
    }
}

/// Puts samples into rows of at most `room` tokens: each into the first open row that it fits into.
fn pack(samples: &[Sample], order: &[usize], room: usize) -> Vec<Vec<usize>> {
    let mut open: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut rows = Vec::new();
    for &index in order {
        let length = samples[index].tokens.len();
        let fitting = open.iter_mut().find(|(used, _)| used + length <= room);
        if let Some((used, row)) = fitting {
            *used += length;
            row.push(index);
            continue;
        }
        if open.len() == OPEN_ROWS {
            // The fullest is the least likely to take another.
            let fullest = (0..OPEN_ROWS).max_by_key(|&row| open[row].0).unwrap_or(0);
            rows.push(open.remove(fullest).1);
        }
        open.push((length, vec![index]));
    }
    rows.extend(open.into_iter().map(|(_, row)| row));
    rows
}

/// A fair shuffle: R. Fisher, F. Yates, as in D. Knuth, «The Art of Computer Programming», volume 2, algorithm P.
fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last + 1));
    }
}
