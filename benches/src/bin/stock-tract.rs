//! How fast tract runs an exported decoder without our ops: milliseconds a token, on the processors and on the clock, as JSON.
//! A peer for `cargo xtask peers`.
//!
//! `stock-tract MODEL_FOLDER PROMPT_TOKENS DECODED_TOKENS THREADS`

use furlong_runtime::{Array, Error, Graph, GraphOptions};
use rustix::time::{ClockId, clock_gettime};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::exit;

/// Named arrays, as a graph takes and gives them.
type Arrays = Vec<(String, Array)>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, numbers @ ..] = arguments.as_slice() else {
        usage()
    };
    let numbers: Option<Vec<NonZeroUsize>> = numbers.iter().map(|text| text.parse().ok()).collect();
    let Some([prompt, decoded, threads]) = numbers.as_deref() else {
        usage()
    };
    match measure(Path::new(model), prompt.get(), decoded.get(), *threads) {
        Ok([prefill, decode]) => println!(
            "{{\"prefill_cpu_ms\": {}, \"prefill_ms\": {}, \"decode_cpu_ms\": {}, \"decode_ms\": {}}}",
            prefill.cpu, prefill.wall, decode.cpu, decode.wall
        ),
        Err(error) => {
            eprintln!("{error}");
            exit(1)
        }
    }
}

fn usage() -> ! {
    eprintln!("usage: stock-tract MODEL_FOLDER PROMPT_TOKENS DECODED_TOKENS THREADS");
    exit(2)
}

/// Milliseconds a token.
struct Cost {
    cpu: f64,
    wall: f64,
}

/// What a token of the prompt and a decoded token cost.
fn measure(
    model: &Path,
    prompt: usize,
    decoded: usize,
    threads: NonZeroUsize,
) -> Result<[Cost; 2], Error> {
    let options = GraphOptions {
        stock: true,
        threads: Some(threads),
    };
    let graph = Graph::load(&model.join("model.onnx"), &options)?;
    let tokens: Vec<i64> = (0..prompt as i64)
        .map(|index| 1000 + index * 37 % 9000)
        .collect();
    extend(&graph, empty(&graph)?, 0, &tokens)?;
    let start = Cost::now();
    extend(&graph, empty(&graph)?, 0, &tokens)?;
    let prefill = start.each(prompt);

    let mut past = extend(&graph, empty(&graph)?, 0, &tokens[..8.min(prompt)])?;
    let first = 8.min(prompt) as i64;
    past = extend(&graph, past, first, &[4000])?;
    let start = Cost::now();
    for step in 1..=decoded as i64 {
        past = extend(&graph, past, first + step, &[4000])?;
    }
    Ok([prefill, start.each(decoded)])
}

impl Cost {
    /// What both clocks show.
    fn now() -> Cost {
        let ms = |clock| {
            let time = clock_gettime(clock);
            time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
        };
        Cost {
            cpu: ms(ClockId::ProcessCPUTime),
            wall: ms(ClockId::Monotonic),
        }
    }

    /// What has passed since, for each of so many.
    fn each(&self, count: usize) -> Cost {
        let now = Cost::now();
        Cost {
            cpu: (now.cpu - self.cpu) / count as f64,
            wall: (now.wall - self.wall) / count as f64,
        }
    }
}

/// Caches that hold nothing yet.
fn empty(graph: &Graph) -> Result<Arrays, Error> {
    let caches = graph
        .inputs()
        .iter()
        .filter(|input| input.name.starts_with("past_key_values."));
    caches
        .map(|input| {
            let size = |axis: usize| {
                input
                    .shape
                    .get(axis)
                    .and_then(|size| size.parse().ok())
                    .unwrap_or(0)
            };
            Ok((
                input.name.clone(),
                Array::new(vec![1, size(1), 0, size(3)], Vec::<f32>::new())?,
            ))
        })
        .collect()
}

/// Reads tokens; gives the caches with them in it.
fn extend(graph: &Graph, past: Arrays, position: i64, ids: &[i64]) -> Result<Arrays, Error> {
    let positions: Vec<i64> = (position..position + ids.len() as i64).collect();
    let mut inputs = past;
    inputs.push((
        "input_ids".into(),
        Array::new(vec![1, ids.len()], ids.to_vec())?,
    ));
    inputs.push((
        "position_ids".into(),
        Array::new(vec![1, ids.len()], positions)?,
    ));
    let outputs = graph.run(inputs)?.into_iter();
    Ok(outputs
        .filter_map(|(name, array)| {
            Some((
                format!("past_key_values.{}", name.strip_prefix("present.")?),
                array,
            ))
        })
        .collect())
}
