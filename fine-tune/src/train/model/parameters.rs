//! The table of a model's parameters, and of their gradients.
//!
//! Every parameter is a matrix here: a vector `[n]` is kept as `[1, n]`, so that an optimiser needs one kind of tensor.

use std::collections::BTreeMap;

use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::Precision;
use crate::error::{Error, Result};

/// The place of a parameter in its [`Parameters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParameterId(usize);

/// What a parameter is for. Optimisers treat some kinds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A table of which a batch reads some rows: tokens, positions, token types; the head too where it is tied.
    Embedding,
    /// An output head of its own.
    Head,
    /// The weight of a linear layer inside the model.
    Matrix,
    /// A bias, or the weight of a norm.
    Vector,
    /// LoRA's `A`, `[rank, in]`.
    AdapterA,
    /// LoRA's `B`, `[out, rank]`; LoRA+ gives it a higher learning rate.
    AdapterB,
    /// DoRA's length of each output row.
    AdapterMagnitude,
}

impl Role {
    /// Whether weight decay is usually applied: to matrices, not to biases, norms and lengths.
    pub fn decays(self) -> bool {
        !matches!(self, Role::Vector | Role::AdapterMagnitude)
    }

    /// Whether the parameter belongs to an adapter and not to the base model.
    pub fn is_adapter(self) -> bool {
        matches!(
            self,
            Role::AdapterA | Role::AdapterB | Role::AdapterMagnitude
        )
    }
}

/// One parameter.
#[derive(Debug)]
pub struct Parameter {
    name: String,
    shape: Vec<usize>,
    role: Role,
    trainable: bool,
    value: Tensor<2>,
}

impl Parameter {
    /// Its name in the file it belongs to: Hugging Face's for the model, PEFT's for an adapter.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape in that file; a vector has one dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Whether it gets gradients and may be changed.
    pub fn is_trainable(&self) -> bool {
        self.trainable
    }

    /// Its value, `[rows, cols]` or `[1, n]`.
    pub fn value(&self) -> &Tensor<2> {
        &self.value
    }

    /// Its value in row order, in f32.
    pub fn to_vec(&self) -> Vec<f32> {
        numbers(&self.value)
    }
}

/// A matrix's numbers in row order, in f32.
pub(super) fn numbers(value: &Tensor<2>) -> Vec<f32> {
    let data = value.to_data();
    data.try_into_vec_as().expect("floats convert to f32")
}

/// All parameters of a model, in the order of its files, adapters behind.
#[derive(Debug)]
pub struct Parameters {
    device: Device,
    precision: Precision,
    list: Vec<Parameter>,
    by_name: BTreeMap<String, ParameterId>,
}

impl Parameters {
    /// An empty table for a device, whose matrices are multiplied in `precision`.
    pub fn new(device: &Device, precision: Precision) -> Parameters {
        Parameters {
            device: device.clone(),
            precision,
            list: Vec::new(),
            by_name: BTreeMap::new(),
        }
    }

    /// Where the values live.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The product of two matrices of f32, one of them a parameter or on its way to be the gradient of one, in the table's
    /// precision.
    pub fn product(&self, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
        match self.precision {
            Precision::F32 => a.matmul(b),
            Precision::Bf16 => {
                let short = |x: Tensor<2>| x.cast(FloatDType::BF16);
                short(a).matmul(short(b)).cast(FloatDType::F32)
            }
        }
    }

    /// Adds a parameter with `data` in row order; `shape` has one or two dimensions.
    ///
    /// # Errors
    /// When there is one of that name already, or the data doesn't have that shape.
    pub fn add(
        &mut self,
        name: &str,
        shape: &[usize],
        data: Vec<f32>,
        role: Role,
        trainable: bool,
    ) -> Result<ParameterId> {
        let refuse = |reason: String| Err(Error::training(format!("parameter {name}"), reason));
        let [rows, cols] = match *shape {
            [n] => [1, n],
            [rows, cols] => [rows, cols],
            _ => {
                return refuse(format!(
                    "its shape {shape:?} is neither a vector nor a matrix"
                ));
            }
        };
        if rows.checked_mul(cols) != Some(data.len()) {
            return refuse(format!("{} numbers for the shape {shape:?}", data.len()));
        }
        let id = ParameterId(self.list.len());
        if self.by_name.insert(name.to_owned(), id).is_some() {
            return refuse("there are two of it".to_owned());
        }
        self.list.push(Parameter {
            name: name.to_owned(),
            shape: shape.to_vec(),
            role,
            trainable,
            value: Tensor::from_data(TensorData::new(data, [rows, cols]), &self.device),
        });
        Ok(id)
    }

    /// The parameter of that name.
    pub fn find(&self, name: &str) -> Option<ParameterId> {
        self.by_name.get(name).copied()
    }

    /// All parameters.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Parameter)> {
        self.list
            .iter()
            .enumerate()
            .map(|(index, parameter)| (ParameterId(index), parameter))
    }

    /// The parameters that are trained.
    pub fn trainable(&self) -> impl Iterator<Item = (ParameterId, &Parameter)> {
        self.iter().filter(|(_, parameter)| parameter.trainable)
    }

    /// How many numbers are trained.
    pub fn trainable_count(&self) -> usize {
        self.trainable()
            .map(|(_, parameter)| parameter.shape.iter().product::<usize>())
            .sum()
    }

    /// Stops the training of all parameters there are so far: what an adapter's base model needs.
    pub fn freeze(&mut self) {
        self.list
            .iter_mut()
            .for_each(|parameter| parameter.trainable = false);
    }

    /// Lets a parameter be trained again.
    pub fn unfreeze(&mut self, id: ParameterId) {
        self[id].trainable = true;
    }

    /// Replaces a parameter's value by what `change` makes of it. The value is handed over, so that it can be changed in place.
    pub fn update(&mut self, id: ParameterId, change: impl FnOnce(Tensor<2>) -> Tensor<2>) {
        let parameter = &mut self[id];
        let empty = Tensor::empty([0, 0], &parameter.value.device());
        let value = change(std::mem::replace(&mut parameter.value, empty));
        debug_assert_eq!(
            value.dims().iter().product::<usize>(),
            parameter.shape.iter().product::<usize>(),
            "{} keeps its shape",
            parameter.name
        );
        parameter.value = value;
    }

    /// Sets a parameter to `data` in row order, as a checkpoint does.
    ///
    /// # Errors
    /// When it isn't as many numbers as the parameter has.
    pub fn set(&mut self, id: ParameterId, data: Vec<f32>) -> Result<()> {
        let device = self.device.clone();
        let parameter = &mut self[id];
        let dims = parameter.value.dims();
        if data.len() != dims[0] * dims[1] {
            return Err(Error::training(
                format!("parameter {}", parameter.name),
                format!("{} numbers for the shape {:?}", data.len(), parameter.shape),
            ));
        }
        parameter.value = Tensor::from_data(TensorData::new(data, dims), &device);
        Ok(())
    }
}

impl std::ops::Index<ParameterId> for Parameters {
    type Output = Parameter;

    fn index(&self, id: ParameterId) -> &Parameter {
        &self.list[id.0]
    }
}

impl std::ops::IndexMut<ParameterId> for Parameters {
    fn index_mut(&mut self, id: ParameterId) -> &mut Parameter {
        &mut self.list[id.0]
    }
}

/// Gradients by parameter. They add up over batches until they are taken.
#[derive(Debug, Default)]
pub struct Gradients {
    list: BTreeMap<ParameterId, Tensor<2>>,
}

impl Gradients {
    /// No gradients yet.
    pub fn new() -> Gradients {
        Gradients::default()
    }

    /// Adds to a parameter's gradient. The first is kept as it is, without a sum.
    pub fn add(&mut self, id: ParameterId, gradient: Tensor<2>) {
        let sum = match self.list.remove(&id) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.list.insert(id, sum);
    }

    /// A parameter's gradient so far, `[rows, cols]` or `[1, n]` as its value.
    pub fn get(&self, id: ParameterId) -> Option<&Tensor<2>> {
        self.list.get(&id)
    }

    /// Takes a parameter's gradient out.
    pub fn take(&mut self, id: ParameterId) -> Option<Tensor<2>> {
        self.list.remove(&id)
    }

    /// Replaces every gradient by what `change` makes of it: scaling, clipping.
    pub fn map(&mut self, change: impl Fn(ParameterId, Tensor<2>) -> Tensor<2>) {
        let old = std::mem::take(&mut self.list);
        self.list = old
            .into_iter()
            .map(|(id, gradient)| (id, change(id, gradient)))
            .collect();
    }

    /// All gradients, in the order of the parameters.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Tensor<2>)> {
        self.list.iter().map(|(id, gradient)| (*id, gradient))
    }

    /// Checks that exactly the trainable parameters have a gradient of their shape.
    ///
    /// # Errors
    /// When one has none, or a frozen one has one: then the model's backward has a hole, and training would go wrong silently.
    pub fn check(&self, parameters: &Parameters) -> Result<()> {
        for (id, parameter) in parameters.iter() {
            let found = self.get(id).map(Tensor::dims);
            let wanted = parameter.trainable.then(|| parameter.value.dims());
            if found != wanted {
                return Err(Error::training(
                    format!("gradient of {}", parameter.name),
                    format!(
                        "its shape is {found:?} and should be {wanted:?}; report this as a bug"
                    ),
                ));
            }
        }
        Ok(())
    }
}
