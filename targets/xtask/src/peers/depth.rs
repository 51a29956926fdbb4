//! How decoding slows down as the context grows.

use super::entrants::{self, Work};
use super::samples::{Entrant, Pair, in_turns, ratio_table};
use super::{Options, Section};
use crate::board::Builder;
use crate::build;
use crate::models::{self, Base};
use anyhow::Result;

/// Tokens in the cache.
const DEPTHS: [usize; 2] = [64, 2048];
const FIGURES: [(&str, &str); 1] = [("decode_ms", "decode, ms")];

/// Measures and compares, with one thread.
///
/// # Errors
/// When a peer can't be built.
pub fn compare(options: &Options) -> Result<Section> {
    let exporter = models::exporter(&Builder::Host)?;
    let program = build::furlong(&Builder::Host)?;
    let mut entrants = Vec::new();
    let mut pairs = Vec::new();
    for (weights, format) in [("q4", "Q4_0"), ("q8", "Q8_0")] {
        let ours = models::export(&exporter, Base::SmolLm2, weights)?;
        let (llama, theirs) = entrants::llama_model(format)?;
        let peers = [format!("furlong {weights}"), format!("llama.cpp {format}")];
        let name = |peer: &str, depth: usize| format!("{peer} after {depth}");
        for depth in DEPTHS {
            let work = Work {
                prompt: 1,
                decoded: 32,
                depth,
                threads: 1,
            };
            let (program, ours) = (program.clone(), ours.clone());
            entrants.push(Entrant::new(name(&peers[0], depth), move || {
                entrants::furlong(&program, &ours, work)
            }));
            let (llama, theirs) = (llama.clone(), theirs.clone());
            entrants.push(Entrant::new(name(&peers[1], depth), move || {
                let decode = entrants::llama_decode_ms(&llama, &theirs, work)?;
                Ok(vec![("decode_ms", decode)])
            }));
        }
        for peer in &peers {
            pairs.push(Pair::new(name(peer, DEPTHS[1]), name(peer, DEPTHS[0])));
        }
        for depth in DEPTHS {
            pairs.push(Pair::new(name(&peers[0], depth), name(&peers[1], depth)));
        }
    }
    let samples = in_turns("depth", options.rounds, &entrants);
    let ratios = samples.ratios(&pairs, &FIGURES);
    let text = samples.table("tokens in the cache", &FIGURES) + &ratio_table(&ratios, &FIGURES);
    Section::new(text, &(samples, ratios))
}
