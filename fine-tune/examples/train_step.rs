//! How long a training step takes and how much memory it needs: our side of `tests/parity/train_step.py`.
//!
//!     cargo run --release -p furlong-fine-tune --example train_step -- tiny --steps 20
//!     cargo run --release -p furlong-fine-tune --example train_step -- smollm2 --lora 8 --batch 2
//!
//! Prints one line of JSON: the median seconds of a step (forward, backward, and plain gradient descent as the cheapest
//! optimiser), its CPU seconds, and the process's peak memory. `RAYON_NUM_THREADS` sets the threads.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use furlong_fine_tune::architecture::Architecture;
use furlong_fine_tune::architecture::config::SentenceHead;
use furlong_fine_tune::checkpoint::Checkpoint;
use furlong_fine_tune::train::adapter::AdapterSettings;
use furlong_fine_tune::train::model::{Batch, Gradients, Model, ModelOptions};
use furlong_fine_tune::train::run::{DeviceKind, Job, Replicas, devices};
use serde_json::{Value, json};

#[derive(Parser)]
struct Arguments {
    /// `tiny` or `smollm2`, both with random weights, or a checkpoint.
    model: String,
    /// Train an adapter of this rank on all linear layers; everything without it.
    #[arg(long)]
    lora: Option<usize>,
    /// Make it DoRA.
    #[arg(long)]
    dora: bool,
    /// Compute each block again on the way back.
    #[arg(long)]
    recompute: bool,
    #[arg(long, default_value_t = 8)]
    batch: usize,
    #[arg(long, default_value_t = 128)]
    tokens: usize,
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// What computes.
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // On a thread of rayon's, as `fine-tune train` does.
    rayon::scope(|_| measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<()> {
    let options = ModelOptions {
        adapter: arguments.lora.map(|r| AdapterSettings {
            r,
            use_dora: arguments.dora,
            ..AdapterSettings::default()
        }),
        recompute: arguments.recompute,
        ..ModelOptions::default()
    };
    let device = devices(arguments.device, 1)?.remove(0);
    let model = match shape(&arguments.model) {
        Some(config) => {
            let path = Path::new(&arguments.model);
            let architecture = Architecture::from_config(path, &config, SentenceHead::NONE)?;
            Model::random(&architecture, &options, 1, &device)?
        }
        None => {
            let checkpoint = Checkpoint::open(Path::new(&arguments.model))?;
            Model::from_checkpoint(&checkpoint, &options, 1, &device)?
        }
    };
    let vocabulary = model.architecture().vocab_size();
    let sequences: Vec<Vec<u32>> = (0..arguments.batch)
        .map(|row| {
            let ids = 0..arguments.tokens;
            ids.map(|i| ((i * 7919 + row * 104_729) % vocabulary) as u32)
                .collect()
        })
        .collect();
    let job = Job::without_dropout((Batch::of_sequences(&sequences)?, None));
    let mut replicas = Replicas::new(model, Vec::new(), arguments.batch, 1.0);
    let (mut wall, mut cpu, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=arguments.steps {
        let (start, cpu_start) = (Instant::now(), cpu_time()?);
        let mut gradients = Gradients::new();
        let loss = replicas.backward(std::slice::from_ref(&job), &mut gradients)?;
        let rate = -0.01 / loss.weight;
        let ids: Vec<_> = gradients.iter().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(gradient) = gradients.take(id) {
                replicas
                    .first_mut()
                    .parameters_mut()
                    .update(id, |value| value + gradient * rate);
            }
        }
        losses.push(loss.mean());
        wall.push(start.elapsed());
        cpu.push(cpu_time()? - cpu_start);
    }
    let status = std::fs::read_to_string("/proc/self/status").context("reading peak memory")?;
    let peak_kib: Option<u64> = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    println!(
        "{}",
        json!({
            "step_s": median(wall.split_off(1)),
            "step_cpu_s": median(cpu.split_off(1)),
            "peak_mib": peak_kib.map(|kib| kib / 1024),
            "first_loss": losses.first(),
            "last_loss": losses.last(),
        })
    );
    Ok(())
}

/// The configs that `tests/parity/train_step.py` has too.
fn shape(name: &str) -> Option<Value> {
    match name {
        "tiny" => Some(json!({
            "model_type": "llama", "vocab_size": 2048, "hidden_size": 128, "intermediate_size": 344,
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
        })),
        "smollm2" => Some(json!({
            "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536,
            "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
            "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
            "tie_word_embeddings": true,
        })),
        _ => None,
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times
        .get(times.len() / 2)
        .map_or(f64::NAN, Duration::as_secs_f64)
}

/// CPU time of the process so far, all threads.
fn cpu_time() -> Result<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Ok(Duration::new(
        time.tv_sec.try_into().context("CPU seconds")?,
        time.tv_nsec.try_into().context("CPU nanoseconds")?,
    ))
}
