//! Looks rows of a table up by index; the table stays in the model's file.

use std::sync::Arc;

use tract_core::internal::*;

use super::{core_error, equal_by_weights};
use crate::weights::RowTable;

/// `[..]` of i64 to `[.., cols]` of f32. A negative index counts from the end.
#[derive(Debug, Clone)]
pub(crate) struct QuantGather {
    table: Arc<RowTable>,
}

equal_by_weights!(QuantGather, table);

impl QuantGather {
    /// A look-up in `table`.
    pub(crate) fn new(table: RowTable) -> QuantGather {
        QuantGather {
            table: Arc::new(table),
        }
    }

    /// The table.
    pub(crate) fn table(&self) -> &RowTable {
        &self.table
    }
}

impl Op for QuantGather {
    fn name(&self) -> StaticName {
        "QuantGather".into()
    }

    op_as_typed_op!();
}

impl EvalOp for QuantGather {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let indices = args_1!(inputs);
        let mut shape: TVec<usize> = indices.shape().into();
        shape.push(self.table.cols());
        let view = indices.try_as_plain_ram()?;
        let indices = view.as_slice::<i64>()?;
        let rows = self.table.rows();
        let row = |&index: &i64| {
            let row = if index < 0 {
                index.checked_add_unsigned(rows as u64)?
            } else {
                index
            };
            usize::try_from(row).ok().filter(|&row| row < rows)
        };
        if let Some(index) = indices.iter().find(|index| row(index).is_none()) {
            bail!("index {index} is outside the table of {rows} rows");
        }
        // SAFETY: plain numbers, and `gather` writes all of them or fails.
        let mut output = unsafe { Tensor::uninitialized::<f32>(&shape)? };
        // SAFETY: the tensor was made of this type just above.
        let out = unsafe { output.as_slice_mut_unchecked::<f32>() };
        self.table
            .gather(indices.iter().filter_map(row), out)
            .map_err(core_error)?;
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for QuantGather {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [indices] = inputs else {
            bail!("a look-up has one input")
        };
        let mut shape: TVec<TDim> = indices.shape.iter().cloned().collect();
        shape.push(self.table.cols().to_dim());
        Ok(tvec!(f32::fact(shape)))
    }

    as_op!();
}
