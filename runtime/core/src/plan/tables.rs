//! Parts of the arena and constants of the image: what ops name by a number.

mod buffer;
mod tensor;

pub use buffer::{BUFFER_BYTES, Buffer, Content};
pub use tensor::{BlockParts, Points, TENSOR_ALIGN, TENSOR_BYTES, Tensor, TensorFormat};

use super::{Part, PlanError};

/// The code of an operand that is absent.
const NONE: u16 = u16::MAX;

/// Names a part of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct BufferId(pub u16);

/// Names a constant of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TensorId(pub u16);

impl BufferId {
    pub(super) fn of(code: u16) -> Option<BufferId> {
        (code != NONE).then_some(BufferId(code))
    }

    pub(super) fn code(id: Option<BufferId>) -> u16 {
        id.map_or(NONE, |id| id.0)
    }
}

impl TensorId {
    pub(super) fn of(code: u16) -> Option<TensorId> {
        (code != NONE).then_some(TensorId(code))
    }

    pub(super) fn code(id: Option<TensorId>) -> u16 {
        id.map_or(NONE, |id| id.0)
    }
}

/// The records of one table of the image, `size` bytes each.
pub(super) fn record(
    image: &[u8],
    table: super::Table,
    size: usize,
    index: u16,
    part: Part,
) -> Result<&[u8], PlanError> {
    let refuse = PlanError::Part(part);
    let records = table.range(size).and_then(|range| image.get(range));
    let start = usize::from(index).checked_mul(size).ok_or(refuse)?;
    let end = start.checked_add(size).ok_or(refuse)?;
    records
        .and_then(|records| records.get(start..end))
        .ok_or(refuse)
}
