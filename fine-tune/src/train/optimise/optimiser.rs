//! Moves all parameters of a model, and remembers what its rules need.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};

use super::adamw::Moments;
use super::muon::orthogonal;
use super::{AdamW, Muon};
use crate::error::Fault;
use crate::train::model::{Gradients, ParameterId, Parameters, Role};

/// Which rule moves the matrices inside the model and the factors of an adapter; everything else is moved by AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimiserKind {
    /// AdamW.
    Adamw,
    /// Muon.
    Muon,
}

/// The rules, and what they have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// Which of them moves the matrices inside the model and the factors of an adapter.
    pub kind: OptimiserKind,
    /// AdamW's settings.
    pub adamw: AdamW,
    /// Muon's settings.
    pub muon: Muon,
    /// Share by which matrices shrink at each step, times the learning rate.
    pub weight_decay: f64,
    /// How many times faster the B factors of LoRA learn: S. Hayou, N. Ghosh, B. Yu, «LoRA+», 2024, arXiv 2402.12354.
    pub lora_plus: f64,
}

impl Rules {
    /// The rule that moves parameters of this role.
    fn of(&self, role: Role) -> OptimiserKind {
        match role {
            Role::Matrix | Role::AdapterA | Role::AdapterB => self.kind,
            _ => OptimiserKind::Adamw,
        }
    }

    /// The learning rate and the decay of parameters of this role, where those of all others is `rate`.
    fn rates(&self, role: Role, rate: f64) -> (f64, f64) {
        let rate = match role {
            Role::AdapterB => rate * self.lora_plus,
            _ => rate,
        };
        let decay = if role.decays() {
            self.weight_decay
        } else {
            0.0
        };
        (rate, decay)
    }
}

/// Directions of matrices that Muon moves, by shape.
type Directions = BTreeMap<[usize; 2], Vec<(ParameterId, Tensor<2>)>>;

/// Numbers of matrices of one shape that are made orthogonal together: enough to keep a device busy, and little beside a model.
const TOGETHER: usize = 1 << 22;

/// What is remembered of one parameter.
#[derive(Debug, Clone)]
enum Memory {
    Adamw(Box<Moments>),
    Muon(Box<Tensor<2>>),
}

/// An optimiser with its state.
#[derive(Debug)]
pub struct Optimiser {
    rules: Rules,
    /// Steps that were done.
    steps: u64,
    memory: BTreeMap<String, Memory>,
}

const MEAN: &str = "mean.";
const SQUARE: &str = "square.";
const MOMENTUM: &str = "momentum.";

impl Optimiser {
    /// An optimiser that has done nothing yet.
    pub fn new(rules: Rules) -> Optimiser {
        Optimiser {
            rules,
            steps: 0,
            memory: BTreeMap::new(),
        }
    }

    /// Moves every parameter that has a gradient, at learning rate `rate`.
    pub fn step(&mut self, parameters: &mut Parameters, mut gradients: Gradients, rate: f64) {
        self.steps += 1;
        let ids: Vec<_> = parameters.trainable().map(|(id, _)| id).collect();
        let mut directions = Directions::new();
        for id in ids {
            let Some(gradient) = gradients.take(id) else {
                continue;
            };
            let parameter = &parameters[id];
            let (name, role) = (parameter.name().to_owned(), parameter.role());
            let before = self.memory.remove(&name);
            match self.rules.of(role) {
                OptimiserKind::Muon => {
                    let momentum = match before {
                        Some(Memory::Muon(momentum)) => Some(*momentum),
                        _ => None,
                    };
                    let (momentum, direction) = self.rules.muon.direction(gradient, momentum);
                    self.memory.insert(name, Memory::Muon(Box::new(momentum)));
                    let dims = direction.dims();
                    let alike = directions.entry(dims).or_default();
                    alike.push((id, direction));
                    if alike.len() * dims[0] * dims[1] >= TOGETHER {
                        let alike = std::mem::take(alike);
                        self.along(alike, parameters, rate);
                    }
                }
                OptimiserKind::Adamw => {
                    let moments = match before {
                        Some(Memory::Adamw(moments)) => Some(*moments),
                        _ => None,
                    };
                    let (rate, decay) = self.rules.rates(role, rate);
                    let (rule, steps) = (self.rules.adamw, self.steps);
                    parameters.update(id, |value| {
                        let (value, moments) =
                            rule.step(value, gradient, moments, steps, rate, decay);
                        self.memory.insert(name, Memory::Adamw(Box::new(moments)));
                        value
                    });
                }
            }
        }
        for alike in directions.into_values() {
            self.along(alike, parameters, rate);
        }
    }

    /// Moves matrices of one shape along their directions, by Muon.
    fn along(&self, alike: Vec<(ParameterId, Tensor<2>)>, parameters: &mut Parameters, rate: f64) {
        if alike.is_empty() {
            return;
        }
        let (ids, directions): (Vec<_>, Vec<_>) = alike.into_iter().unzip();
        for (id, direction) in ids.into_iter().zip(orthogonal(directions)) {
            let (rate, decay) = self.rules.rates(parameters[id].role(), rate);
            parameters.update(id, |value| Muon::moved(value, direction, rate, decay));
        }
    }

    /// All that is remembered, as numbers on the host: with [`restore`](Optimiser::restore) the next step is the same to the bit.
    pub fn save(&self) -> BTreeMap<String, TensorData> {
        let mut saved = BTreeMap::new();
        let mut put = |kind: &str, name: &str, tensor: &Tensor<2>| {
            saved.insert(format!("{kind}{name}"), tensor.to_data());
        };
        for (name, memory) in &self.memory {
            match memory {
                Memory::Adamw(moments) => {
                    put(MEAN, name, &moments.mean);
                    put(SQUARE, name, &moments.square);
                }
                Memory::Muon(momentum) => put(MOMENTUM, name, momentum),
            }
        }
        saved
    }

    /// An optimiser that has done `steps` steps with `parameters` and remembers what was saved then.
    ///
    /// # Errors
    /// When a part is missing, has another shape than its parameter, or belongs to none.
    pub fn restore(
        rules: Rules,
        steps: u64,
        mut saved: BTreeMap<String, TensorData>,
        parameters: &Parameters,
    ) -> Result<Optimiser, Fault> {
        let mut memory = BTreeMap::new();
        for (_, parameter) in parameters.trainable() {
            let dims = parameter.value().dims();
            let mut take = |kind: &str| {
                let name = format!("{kind}{}", parameter.name());
                match saved.remove(&name) {
                    Some(data) if data.shape().as_slice() == dims => {
                        Ok(Tensor::<2>::from_data(data, parameters.device()))
                    }
                    Some(data) => {
                        let reason = format!("has shape {:?}, not {dims:?}", data.shape());
                        Err(Fault::new(name, reason))
                    }
                    None => Err(Fault::new(name, "is missing")),
                }
            };
            let remembered = match rules.of(parameter.role()) {
                OptimiserKind::Muon => Memory::Muon(Box::new(take(MOMENTUM)?)),
                OptimiserKind::Adamw => Memory::Adamw(Box::new(Moments {
                    mean: take(MEAN)?,
                    square: take(SQUARE)?,
                })),
            };
            memory.insert(parameter.name().to_owned(), remembered);
        }
        match saved.into_keys().next() {
            Some(name) => Err(Fault::new(name, "belongs to no parameter of the model")),
            None => Ok(Optimiser {
                rules,
                steps,
                memory,
            }),
        }
    }
}
