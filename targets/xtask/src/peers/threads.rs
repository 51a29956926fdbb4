//! What a second thread is worth: on an idle machine, and beside another program that keeps a core busy.

use super::entrants::{self, Work};
use super::samples::{Entrant, Figures, Pair, in_turns, ratio_table};
use super::{Options, Section};
use crate::board::Builder;
use crate::build;
use crate::models::{self, Base};
use anyhow::Result;
use std::hint;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const FIGURES: [(&str, &str); 2] = [("prefill_ms", "prompt, ms"), ("decode_ms", "decode, ms")];

/// Measures and compares.
///
/// # Errors
/// When a peer can't be built.
pub fn compare(options: &Options) -> Result<Section> {
    let exporter = models::exporter(&Builder::Host)?;
    let program = build::furlong(&Builder::Host)?;
    let loads: &[bool] = if options.busy {
        &[false, true]
    } else {
        &[false]
    };
    let mut entrants = Vec::new();
    let mut pairs = Vec::new();
    for (weights, format) in [("q4", "Q4_0"), ("q8", "Q8_0")] {
        let ours = models::export(&exporter, Base::SmolLm2, weights)?;
        let (llama, theirs) = entrants::llama_model(format)?;
        for &busy in loads {
            let name = |peer: &str, threads: usize| {
                let load = if busy { ", a core busy" } else { "" };
                work(threads).name(peer) + load
            };
            let peers = [format!("furlong {weights}"), format!("llama.cpp {format}")];
            for threads in [1, 2] {
                let (program, ours) = (program.clone(), ours.clone());
                entrants.push(Entrant::new(name(&peers[0], threads), move || {
                    beside(busy, || entrants::furlong(&program, &ours, work(threads)))
                }));
                let (llama, theirs) = (llama.clone(), theirs.clone());
                entrants.push(Entrant::new(name(&peers[1], threads), move || {
                    beside(busy, || entrants::llama(&llama, &theirs, work(threads)))
                }));
            }
            for peer in &peers {
                pairs.push(Pair::new(name(peer, 2), name(peer, 1)));
            }
            pairs.push(Pair::new(name(&peers[0], 2), name(&peers[1], 2)));
        }
    }
    let samples = in_turns("threads", options.rounds, &entrants);
    let ratios = samples.ratios(&pairs, &FIGURES);
    let text = samples.table("threads, a token", &FIGURES) + &ratio_table(&ratios, &FIGURES);
    Section::new(text, &(samples, ratios))
}

fn work(threads: usize) -> Work {
    Work {
        prompt: 128,
        decoded: 64,
        depth: 0,
        threads,
    }
}

/// Measures, if wanted while a thread of this program uses all the time it can get.
fn beside(busy: bool, measure: impl FnOnce() -> Result<Figures>) -> Result<Figures> {
    if !busy {
        return measure();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
        });
        let measured = measure();
        done.store(true, Ordering::Relaxed);
        measured
    })
}
