//! Puts our ops where standard patterns stand in the graph, before tract sees it.
//!
//! One file a pattern, each a function from [`Draft`] to `Draft`. A pattern that isn't matched is left as it
//! is: tract runs it. Foreign dialects come first and are turned into the standard one or straight into an
//! [`OpSpec`]; then single ops (linear layers, look-ups, norms), then what joins them (attention with its
//! rotary positions and cache, gated layers), and the output head last.

mod activation;
mod adapter_slots;
mod attention;
mod axes;
mod by_rows;
mod constants;
mod decomposed_attention;
mod decomposed_gelu;
mod decomposed_norm;
mod draft;
mod foreign_attention;
mod foreign_half;
mod foreign_int8;
mod foreign_norm;
mod gated;
mod gather;
mod head;
mod linear;
mod node;
mod norm;
mod operand;
mod self_attention;
mod spec;

pub(crate) use draft::Draft;
pub(crate) use head::Head;
pub(crate) use spec::*;

use foreign_half::Interface;

use crate::Error;
use crate::import::OnnxModel;

/// The domain of our nodes inside a rewritten graph.
pub(crate) const DOMAIN: &str = "furlong";

/// A graph with our ops in it.
pub(crate) struct Rewritten {
    /// What is left for tract, our nodes included.
    pub model: OnnxModel,
    /// What our nodes' `spec` attributes point to.
    pub specs: Vec<OpSpec>,
    /// The linear layer that makes the logits, cut off a decoder.
    pub head: Option<Head>,
}

/// Rewrites a graph that keeps its inputs and outputs.
pub(crate) fn rewrite_graph(mut model: OnnxModel) -> Result<Rewritten, Error> {
    foreign_half::widen(&mut model, Interface::Kept)?;
    let mut draft = Draft::new(model)?;
    rewrite_ops(&mut draft)?;
    decomposed_attention::rewrite(&mut draft)?;
    self_attention::rewrite(&mut draft);
    gated::rewrite(&mut draft);
    norm::rewrite(&mut draft)?;
    let (model, specs) = draft.finish();
    Ok(Rewritten {
        model,
        specs,
        head: None,
    })
}

/// Rewrites an encoder: as [`rewrite_graph`], but weights of 8 bits are multiplied by rows.
pub(crate) fn rewrite_encoder(model: OnnxModel) -> Result<Rewritten, Error> {
    let rewritten = rewrite_graph(model)?;
    Ok(Rewritten {
        specs: by_rows::turn(rewritten.specs),
        ..rewritten
    })
}

/// Rewrites a decoder: its cache moves into the attention ops, and its head out of the graph.
pub(crate) fn rewrite_decoder(mut model: OnnxModel) -> Result<Rewritten, Error> {
    foreign_half::widen(&mut model, Interface::Widened)?;
    let mut draft = Draft::new(model)?;
    rewrite_ops(&mut draft)?;
    attention::rewrite(&mut draft)?;
    gated::rewrite(&mut draft);
    norm::rewrite(&mut draft)?;
    let head = head::cut(&mut draft);
    let (model, specs) = draft.finish();
    Ok(Rewritten { model, specs, head })
}

fn rewrite_ops(draft: &mut Draft) -> Result<(), Error> {
    constants::lift(draft);
    adapter_slots::rewrite(draft)?;
    foreign_norm::rewrite(draft)?;
    decomposed_norm::rewrite(draft)?;
    foreign_int8::rewrite(draft)?;
    linear::rewrite(draft)?;
    gather::rewrite(draft)?;
    activation::rewrite(draft);
    decomposed_gelu::rewrite(draft)?;
    Ok(())
}
