//! An activation by itself, element by element.

use furlong_core::{Isa, activation};
use tract_core::internal::*;

use crate::rewrite::Activation;

/// `x` to `activation(x)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Activate {
    activation: Activation,
    isa: Isa,
}

impl Activate {
    /// The op for an activation.
    pub(crate) fn new(activation: Activation, isa: Isa) -> Activate {
        Activate { activation, isa }
    }
}

impl Op for Activate {
    fn name(&self) -> StaticName {
        let name = match self.activation {
            Activation::Silu => "Silu",
            Activation::GeluTanh => "GeluTanh",
            Activation::GeluErf => "Gelu",
        };
        name.into()
    }

    op_as_typed_op!();
}

impl EvalOp for Activate {
    not_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut tensor = args_1!(inputs).into_tensor();
        // SAFETY: types were checked when the graph was made: it is f32.
        let values = unsafe { tensor.as_slice_mut_unchecked::<f32>() };
        match self.activation {
            Activation::Silu => activation::silu(self.isa, values),
            Activation::GeluTanh => activation::gelu_tanh(self.isa, values),
            Activation::GeluErf => activation::gelu_erf(self.isa, values),
        }
        Ok(tvec!(tensor.into_tvalue()))
    }
}

impl TypedOp for Activate {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let [input] = inputs else {
            bail!("an activation has one input")
        };
        Ok(tvec!(f32::fact(&*input.shape)))
    }

    as_op!();
}
