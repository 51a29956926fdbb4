//! A batch on its way into the model: checked, moved to the device, embedded.

use burn::tensor::{Int, Tensor, TensorData};

use super::{Batch, Gradients, Model};
use crate::architecture::{Positions, sinusoidal_table};
use crate::error::Result;
use crate::train::layers::{Dropout, Rotation, Site, Visible, embedding};

/// The place of the embedding's dropout, behind those of the blocks.
const EMBEDDING_SITE: Site = Site::last(0);

impl Model {
    /// Checks a batch and moves it to the device.
    pub(super) fn inputs(&self, batch: &Batch, dropout_seed: Option<u64>) -> Result<Inputs> {
        let body = &self.body;
        batch.check(body.vocab_size, body.context_length)?;
        let device = self.parameters.device();
        let integers = |list: &[u32]| -> Tensor<1, Int> {
            let list: Vec<i32> = list.iter().map(|&x| x as i32).collect();
            let count = list.len();
            Tensor::from_data(TensorData::new(list, [count]), device)
        };
        let rotation = match &body.positions {
            Positions::Rotary(rotary) => Some(Rotation::new(rotary, &batch.positions, device)?),
            Positions::Learned | Positions::Sinusoidal => None,
        };
        let sinusoids = (body.positions == Positions::Sinusoidal).then(|| {
            let last = batch
                .positions
                .iter()
                .max()
                .map_or(0, |&last| last as usize);
            let table = sinusoidal_table(last + 1, body.width);
            let table: Tensor<2> =
                Tensor::from_data(TensorData::new(table, [last + 1, body.width]), device);
            table.select(0, integers(&batch.positions))
        });
        Ok(Inputs {
            ids: integers(&batch.ids),
            positions: integers(&batch.positions),
            types: integers(&vec![0; batch.len()]),
            visible: Visible::new(batch, body.causal, device),
            rotation,
            sinusoids,
            dropout: Dropout::new(dropout_seed),
        })
    }

    /// What enters the first block, `[rows * tokens, width]`, and the same before its norm, where there is one.
    pub(super) fn embed(&self, inputs: &Inputs) -> (Tensor<2>, Option<Tensor<2>>) {
        let (body, parameters) = (&self.body, &self.parameters);
        let mut x = embedding::forward(parameters, body.embedding, inputs.ids.clone());
        if body.embedding_scale != 1.0 {
            x = x * body.embedding_scale;
        }
        if let Some(table) = body.position_table {
            x = x + embedding::forward(parameters, table, inputs.positions.clone());
        }
        if let Some(table) = body.type_table {
            x = x + embedding::forward(parameters, table, inputs.types.clone());
        }
        if let Some(sinusoids) = &inputs.sinusoids {
            x = x + sinusoids.clone();
        }
        match body.embedding_norm {
            Some(norm) => {
                let normed = norm.forward(parameters, &mut x);
                (self.embedding_dropped(inputs, normed), Some(x))
            }
            None => (self.embedding_dropped(inputs, x), None),
        }
    }

    /// The gradients of everything that enters the first block, whose own is `dx`.
    pub(super) fn embed_back(
        &self,
        inputs: &Inputs,
        unnormed: Option<Tensor<2>>,
        dx: Tensor<2>,
        gradients: &mut Gradients,
    ) {
        let (body, parameters) = (&self.body, &self.parameters);
        let mut dx = self.embedding_dropped(inputs, dx);
        if let (Some(norm), Some(mut x)) = (body.embedding_norm, unnormed) {
            dx = norm.backward(parameters, &mut x, dx, gradients);
        }
        let tables = [
            (body.position_table, &inputs.positions),
            (body.type_table, &inputs.types),
        ];
        for (table, ids) in tables {
            if let Some(table) = table {
                embedding::backward(parameters, table, ids.clone(), dx.clone(), gradients);
            }
        }
        if body.embedding_scale != 1.0 {
            dx = dx * body.embedding_scale;
        }
        embedding::backward(
            parameters,
            body.embedding,
            inputs.ids.clone(),
            dx,
            gradients,
        );
    }

    fn embedding_dropped(&self, inputs: &Inputs, x: Tensor<2>) -> Tensor<2> {
        let share = self.options.residual_dropout;
        match inputs
            .dropout
            .mask(EMBEDDING_SITE, share, x.dims(), &x.device())
        {
            Some(mask) => x * mask,
            None => x,
        }
    }
}

/// A batch on the device.
#[derive(Debug)]
pub(super) struct Inputs {
    ids: Tensor<1, Int>,
    positions: Tensor<1, Int>,
    types: Tensor<1, Int>,
    pub(super) visible: Visible,
    pub(super) rotation: Option<Rotation>,
    /// The original transformer's positions, `[rows * tokens, width]`.
    sinusoids: Option<Tensor<2>>,
    pub(super) dropout: Dropout,
}
