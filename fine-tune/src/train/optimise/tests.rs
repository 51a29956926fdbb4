//! burn's own optimisers and schedulers are the oracle.

use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::exponential::ExponentialLrSchedulerConfig;
use burn::lr_scheduler::linear::LinearLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::lr_scheduler::noam::NoamLrSchedulerConfig;
use burn::lr_scheduler::step::StepLrSchedulerConfig;
use burn::optim::{
    AdamWConfig, AdjustLrFn, MuonConfig, Optimizer as Oracle, decay::WeightDecayConfig,
};
use burn::tensor::{Device, Tensor, TensorData};

use super::*;
use crate::comparison::Random;
use crate::train::model::{Gradients, ParameterId, Parameters, Precision, Role};

const RATE: f64 = 0.02;
const DECAY: f64 = 0.1;

fn rules(kind: OptimiserKind) -> Rules {
    Rules {
        kind,
        adamw: AdamW {
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-6,
        },
        muon: Muon { momentum: 0.95 },
        weight_decay: DECAY,
        lora_plus: 4.0,
    }
}

fn numbers(random: &mut Random, count: usize) -> Vec<f32> {
    let number = |_| (random.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
    (0..count).map(number).collect()
}

/// A parameter of each role: a matrix that is little wider than high, a vector, and the narrow factors of an adapter.
fn parameters(device: &Device) -> (Parameters, Vec<ParameterId>) {
    let mut random = Random::new(1, 1);
    let mut parameters = Parameters::new(device, Precision::F32);
    let roles = [
        Role::Matrix,
        Role::Embedding,
        Role::Vector,
        Role::AdapterA,
        Role::AdapterA,
        Role::AdapterB,
    ];
    let ids = roles.into_iter().enumerate().map(|(index, role)| {
        let shape: &[usize] = match role {
            Role::Vector => &[5],
            Role::AdapterA => &[2, 9],
            Role::AdapterB => &[7, 2],
            _ => &[3, 5],
        };
        let data = numbers(&mut random, shape.iter().product());
        parameters
            .add(&format!("{role:?} {index}"), shape, data, role, true)
            .unwrap()
    });
    let ids = ids.collect();
    (parameters, ids)
}

fn gradients(parameters: &Parameters, step: u64) -> Gradients {
    let mut random = Random::new(2, step);
    let mut gradients = Gradients::new();
    for (id, parameter) in parameters.iter() {
        let dims = parameter.value().dims();
        let data = TensorData::new(numbers(&mut random, dims[0] * dims[1]), dims);
        gradients.add(id, Tensor::from_data(data, parameters.device()));
    }
    gradients
}

/// Takes steps with an oracle, beginning at `value`.
fn oracle<O: Oracle>(
    oracle: &O,
    mut value: Tensor<2>,
    rate: f64,
    gradient: impl Fn(u64) -> Tensor<2>,
) -> Vec<f32> {
    let mut state = None;
    for step in 0..6 {
        (value, state) = oracle.step(rate, value, gradient(step), state);
    }
    value.into_data().try_to_vec().unwrap()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() < 2e-6,
            "{what}: {found} is not {expected}"
        );
    }
}

#[test]
fn parameters_move_as_burns_own_optimisers_move_them() {
    let device = Device::flex();
    for kind in [OptimiserKind::Adamw, OptimiserKind::Muon] {
        let (mut trained, ids) = parameters(&device);
        let mut optimiser = Optimiser::new(rules(kind));
        for step in 0..6 {
            let gradients = gradients(&trained, step);
            optimiser.step(&mut trained, gradients, RATE);
        }
        let (start, _) = parameters(&device);
        for id in ids {
            let parameter = &start[id];
            let (role, value) = (parameter.role(), parameter.value().clone());
            let gradient = |step| gradients(&start, step).take(id).unwrap();
            let adamw = |decay: f64| {
                AdamWConfig::new()
                    .with_beta_2(0.99)
                    .with_epsilon(1e-6)
                    .with_weight_decay(decay as f32)
                    .build()
            };
            let expected = match (kind, role) {
                (OptimiserKind::Muon, Role::Matrix | Role::AdapterA | Role::AdapterB) => {
                    let muon = MuonConfig::new()
                        .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
                        .with_weight_decay(Some(WeightDecayConfig {
                            penalty: DECAY as f32,
                        }));
                    let faster = if role == Role::AdapterB { 4.0 } else { 1.0 };
                    oracle(&muon.build(), value, faster * RATE, gradient)
                }
                (_, Role::Vector) => oracle(&adamw(0.0), value, RATE, gradient),
                (_, Role::AdapterB) => oracle(&adamw(DECAY), value, 4.0 * RATE, gradient),
                _ => oracle(&adamw(DECAY), value, RATE, gradient),
            };
            assert_close(&trained[id].to_vec(), &expected, parameter.name());
        }
    }
}

#[test]
fn a_restored_optimiser_goes_on_to_the_bit() {
    let device = Device::flex();
    for kind in [OptimiserKind::Adamw, OptimiserKind::Muon] {
        let (mut trained, ids) = parameters(&device);
        let mut optimiser = Optimiser::new(rules(kind));
        let mut restored = None;
        for step in 0..6 {
            if step == 3 {
                let saved = optimiser.save();
                let (mut copy, _) = parameters(&device);
                for &id in &ids {
                    copy.set(id, trained[id].to_vec()).unwrap();
                }
                let second = Optimiser::restore(rules(kind), 3, saved.clone(), &copy).unwrap();
                restored = Some((second, copy));
                let other = match kind {
                    OptimiserKind::Adamw => OptimiserKind::Muon,
                    OptimiserKind::Muon => OptimiserKind::Adamw,
                };
                Optimiser::restore(rules(other), 3, saved, &trained).unwrap_err();
            }
            let both = restored
                .iter_mut()
                .map(|(optimiser, copy)| (optimiser, copy));
            for (optimiser, parameters) in both.chain([(&mut optimiser, &mut trained)]) {
                let gradients = gradients(parameters, step);
                optimiser.step(parameters, gradients, RATE);
            }
        }
        let (_, copy) = restored.unwrap();
        for id in ids {
            assert_eq!(copy[id].to_vec(), trained[id].to_vec());
        }
    }
}

#[test]
fn clipping_looks_at_all_parameters_together() {
    let device = Device::flex();
    let (parameters, ids) = parameters(&device);
    let all = |gradients: &Gradients| -> Vec<f32> {
        let each = ids.iter().map(|&id| gradients.get(id).unwrap().to_data());
        each.flat_map(|data| data.try_to_vec::<f32>().unwrap())
            .collect()
    };
    let mut clipped = gradients(&parameters, 0);
    let before = all(&clipped);
    let length = before
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum::<f64>()
        .sqrt();
    assert!((norm(&clipped) - length).abs() < 1e-5);
    clip_norm(&mut clipped, length, length + 1.0);
    assert_eq!(all(&clipped), before);
    clip_norm(&mut clipped, length, 0.5);
    let expected: Vec<f32> = before.iter().map(|x| x * (0.5 / length) as f32).collect();
    assert_close(&all(&clipped), &expected, "clipped by norm");
    let mut clipped = gradients(&parameters, 0);
    clip_value(&mut clipped, 0.25);
    let expected: Vec<f32> = before.iter().map(|x| x.clamp(-0.25, 0.25)).collect();
    assert_close(&all(&clipped), &expected, "clipped by value");
}

#[test]
fn schedules_are_burns_own_after_a_warm_up_in_a_straight_line() {
    let schedule = |kind| Schedule {
        kind,
        peak: 0.5,
        warm_up: 20,
        total: 120,
        floor: 0.1,
        factor: 0.3,
        every: 15,
    };
    let scheduler: [(ScheduleKind, ModuleLrScheduler); 5] = [
        (
            ScheduleKind::Cosine,
            CosineAnnealingLrSchedulerConfig::new(0.5, 100)
                .with_min_lr(0.05)
                .init()
                .unwrap(),
        ),
        (
            ScheduleKind::Linear,
            LinearLrSchedulerConfig::new(0.5, 0.05, 100).init().unwrap(),
        ),
        (
            ScheduleKind::Exponential,
            ExponentialLrSchedulerConfig::new(0.5, 0.1f64.powf(0.01))
                .init()
                .unwrap(),
        ),
        (
            ScheduleKind::Step,
            StepLrSchedulerConfig::new(0.5, 15)
                .with_gamma(0.3)
                .init()
                .unwrap(),
        ),
        (
            ScheduleKind::InverseSqrt,
            NoamLrSchedulerConfig::new(0.5 * 20f64.sqrt() * 8.0)
                .with_warmup_steps(20)
                .with_model_size(64)
                .init()
                .unwrap(),
        ),
    ];
    for (kind, mut scheduler) in scheduler {
        let schedule = schedule(kind);
        let rate = |step| schedule.rate(step, &Plateau::new());
        assert!((rate(0) - 0.025).abs() < 1e-12 && (rate(19) - 0.5).abs() < 1e-12);
        // burn's Noam has the warm-up in it.
        let first = if kind == ScheduleKind::InverseSqrt {
            0
        } else {
            20
        };
        for step in first..120 {
            let expected = match kind {
                ScheduleKind::Step => scheduler.step().base().max(0.05),
                _ => scheduler.step().base(),
            };
            assert!((rate(step) - expected).abs() < 1e-12, "{kind:?} {step}");
        }
    }
    assert_eq!(
        schedule(ScheduleKind::Constant).rate(119, &Plateau::new()),
        0.5
    );
}

#[test]
fn a_plateau_lowers_the_rate_after_patience() {
    let schedule = Schedule {
        kind: ScheduleKind::Plateau,
        peak: 1.0,
        warm_up: 0,
        total: 100,
        floor: 0.1,
        factor: 0.5,
        every: 1,
    };
    let mut plateau = Plateau::new();
    // torch's ReduceLROnPlateau with patience 1, threshold 1e-4 relative: lowered by the second evaluation in a row
    // without a lower loss.
    let losses = [
        2.0, 1.0, 0.99999, 1.0, 0.9, 0.9, 0.95, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9,
    ];
    let expected = [
        1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.1, 0.1, 0.1,
    ];
    for (loss, expected) in losses.into_iter().zip(expected) {
        plateau.evaluated(loss, 1);
        assert_eq!(schedule.rate(10, &plateau), expected);
    }
}
