//! Rows of a table, looked up by number.

use burn::tensor::{IndexingUpdateOp, Int, Tensor};

use crate::train::model::{Gradients, ParameterId, Parameters};

/// The rows of `table`, `[entries, width]`, that `ids` name.
pub fn forward(parameters: &Parameters, table: ParameterId, ids: Tensor<1, Int>) -> Tensor<2> {
    parameters[table].value().clone().select(0, ids)
}

/// Adds `dy`, `[ids, width]`, to the gradients of the rows that were looked up, where the table is trained.
pub fn backward(
    parameters: &Parameters,
    table: ParameterId,
    ids: Tensor<1, Int>,
    dy: Tensor<2>,
    gradients: &mut Gradients,
) {
    if parameters[table].is_trainable() {
        let sum = match gradients.take(table) {
            Some(sum) => sum,
            None => parameters[table].value().zeros_like(),
        };
        gradients.add(table, sum.select_assign(0, ids, dy, IndexingUpdateOp::Add));
    }
}
