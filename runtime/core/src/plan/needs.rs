//! Which parts of this crate a plan needs: what its firmware must not leave out.

use super::{CacheFormat, Op, Plan, PlanError, PlanKind, TensorFormat, TensorId};
use crate::{Feature, IsaKind, WeightFormat};

pub(super) fn needs(plan: &Plan<'_>, feature: Feature) -> Result<bool, PlanError> {
    let header = &plan.header;
    let keeps = |cache| header.kind == PlanKind::Decoder && header.cache == cache;
    let by_header = match feature {
        Feature::KvF16 => keeps(CacheFormat::F16),
        Feature::KvF32 => keeps(CacheFormat::F32),
        Feature::KvQ8 => keeps(CacheFormat::Q8),
        Feature::Encoder => header.kind != PlanKind::Decoder,
        Feature::Scalar => header.isa == IsaKind::Scalar,
        Feature::Words => plan.tokenizer().is_some_and(|tokenizer| tokenizer.cuts()),
        Feature::Q4 | Feature::Q8 | Feature::Dense | Feature::Table => false,
    };
    if by_header {
        return Ok(true);
    }
    for index in 0..header.tensors.count as u16 {
        let by_tensor = match plan.tensor(TensorId(index))?.format {
            TensorFormat::Packed(format) if feature == Feature::Scalar => {
                matches!(format, WeightFormat::Block { block: 16, .. })
            }
            TensorFormat::Packed(format) => Feature::of_weights(format) == feature,
            TensorFormat::Rows8(_) => feature == Feature::Encoder,
            _ => false,
        };
        if by_tensor {
            return Ok(true);
        }
    }
    for index in 0..plan.op_count() {
        let by_op = match plan.op(index)? {
            Op::SelfAttend { .. } | Op::Unfold { .. } | Op::Prepend { .. } | Op::Pool { .. } => {
                feature == Feature::Encoder
            }
            Op::Gather { table, .. } if feature == Feature::Table => {
                !matches!(plan.tensor(table)?.format, TensorFormat::Packed(_))
            }
            _ => false,
        };
        if by_op {
            return Ok(true);
        }
    }
    Ok(false)
}
