//! Standard operators where stock tract refuses a graph that others run, or runs it otherwise than
//! they do. One file an operator, each with the reason why it exists.

mod attention;
mod flatten;
mod group_query_attention;
mod mul;
mod quantize_linear;

use tract_onnx::model::OnnxOpRegister;

/// Puts our versions of standard operators in the place of tract's.
pub(crate) fn register(ops: &mut OnnxOpRegister) {
    ops.insert("Attention", attention::build);
    ops.insert("Flatten", flatten::build);
    ops.insert("GroupQueryAttention", group_query_attention::build);
    ops.insert("Mul", mul::build);
    ops.insert("QuantizeLinear", quantize_linear::build);
}
