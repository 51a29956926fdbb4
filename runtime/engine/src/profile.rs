//! Where a session's time goes, op by op.
//!
//! tract can run a plan with a function of ours in the place of each op's evaluation: that is where the clock is read. A
//! session that isn't profiled runs its plan as always, and pays nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use tract_core::internal::*;
use tract_core::plan;

use crate::model::{Inner, op};
use crate::ops::QuantGather;
use crate::report;

/// The output layer, which a session applies itself.
const HEAD: &str = "Head";
/// What a session and tract do around the ops.
const PLAN: &str = "Plan";
/// What the caller does between two reads: choosing a token, writing it out.
const SAMPLING: &str = "Sampling";

/// What a session's reads have cost since [`Session::start_profile`](crate::Session::start_profile).
#[derive(Debug, Clone, Serialize)]
pub struct Profile {
    /// Reads of several tokens of which only the last one's logits were wanted.
    pub prompt: PhaseProfile,
    /// Reads of a single token, and those that gave the logits of every position (drafts being checked).
    pub decode: PhaseProfile,
}

/// One kind of reads.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PhaseProfile {
    /// How often the session was given tokens.
    pub reads: usize,
    /// How many tokens that were.
    pub tokens: usize,
    /// What ran, in the order of the graph; then the output layer, and what lies between.
    pub rows: Vec<ProfileRow>,
}

/// One node of the graph, or all nodes with the same op.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProfileRow {
    /// The op's name. `Head` is the output layer, `Plan` the work around the ops, `Sampling` the caller's time between two
    /// reads.
    pub op: String,
    /// The node's name, or for several how many there are.
    pub node: String,
    /// How often it ran.
    pub calls: usize,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Bytes of weights that it read: all of a layer's each time, of a table the rows that were looked up.
    pub weights_bytes: u64,
}

impl PhaseProfile {
    /// All rows' seconds.
    pub fn seconds(&self) -> f64 {
        self.rows.iter().map(|row| row.seconds).sum()
    }

    /// The rows with nodes of the same op summed up, the slowest first.
    pub fn by_op(&self) -> Vec<ProfileRow> {
        let mut by_op: BTreeMap<&str, (usize, ProfileRow)> = BTreeMap::new();
        for row in &self.rows {
            match by_op.get_mut(row.op.as_str()) {
                None => drop(by_op.insert(&row.op, (1, row.clone()))),
                Some((nodes, sum)) => {
                    *nodes += 1;
                    sum.node = format!("{nodes} nodes");
                    sum.calls += row.calls;
                    sum.seconds += row.seconds;
                    sum.weights_bytes += row.weights_bytes;
                }
            }
        }
        let mut rows: Vec<ProfileRow> = by_op.into_values().map(|(_, row)| row).collect();
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        rows
    }
}

/// Keeps the times while a session runs.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    phases: [Times; 2],
    /// Which of them the current read belongs to.
    decoding: bool,
    /// When the last read ended.
    idle_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Times {
    reads: usize,
    tokens: usize,
    /// By the node's index.
    nodes: Vec<Cost>,
    head: Cost,
    sampling: Cost,
    /// All reads, from their start to their end.
    whole: Cost,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    calls: usize,
    time: Duration,
}

impl Cost {
    fn add(&mut self, time: Duration) {
        self.calls += 1;
        self.time += time;
    }
}

impl Recorder {
    /// A read of `tokens` tokens begins.
    pub(crate) fn begin(&mut self, tokens: usize, all_positions: bool) -> Instant {
        let now = Instant::now();
        self.decoding = tokens == 1 || all_positions;
        let idle = self.idle_since.take();
        let times = self.times();
        times.reads += 1;
        times.tokens += tokens;
        if let Some(since) = idle {
            times.sampling.add(now.duration_since(since));
        }
        now
    }

    /// The read that began at `start` is over.
    pub(crate) fn end(&mut self, start: Instant) {
        let now = Instant::now();
        self.times().whole.add(now.duration_since(start));
        self.idle_since = Some(now);
    }

    /// The caller did something else than choosing a token: that time isn't counted.
    pub(crate) fn pause(&mut self) {
        self.idle_since = None;
    }

    /// Runs a plan, as [`TypedSimpleState::run`] does, with a clock at each node.
    pub(crate) fn run(
        &mut self,
        state: &mut TypedSimpleState,
        inputs: TVec<TValue>,
    ) -> TractResult<TVec<TValue>> {
        let nodes = &mut self.times().nodes;
        nodes.resize(state.model().nodes().len(), Cost::default());
        state.run_plan_with_eval(inputs, |context, op_state, node, inputs| {
            let start = Instant::now();
            let outputs = plan::eval(context, op_state, node, inputs);
            if let Some(cost) = nodes.get_mut(node.id) {
                cost.add(start.elapsed());
            }
            outputs
        })
    }

    /// The output layer ran from `start` until now.
    pub(crate) fn head(&mut self, start: Instant) {
        self.times().head.add(start.elapsed());
    }

    fn times(&mut self) -> &mut Times {
        let [prompt, decode] = &mut self.phases;
        if self.decoding { decode } else { prompt }
    }

    /// What was kept, by the names that the model has for it.
    pub(crate) fn profile(&self, inner: &Inner) -> Profile {
        let [prompt, decode] = &self.phases;
        Profile {
            prompt: prompt.profile(inner),
            decode: decode.profile(inner),
        }
    }
}

impl Times {
    fn profile(&self, inner: &Inner) -> PhaseProfile {
        let model = inner.compiled.plan.model();
        let mut rows: Vec<ProfileRow> = model
            .nodes()
            .iter()
            .zip(&self.nodes)
            .filter(|(_, cost)| cost.calls > 0)
            .map(|(node, &cost)| {
                let weights = match op::<QuantGather>(node.op.as_ref()) {
                    Some(gather) => gather.table().row_bytes() as u64 * self.tokens as u64,
                    None => weights_bytes(node.op.as_ref()) * cost.calls as u64,
                };
                row(node.op.name().as_ref(), &node.name, cost, weights)
            })
            .collect();
        if let Some(head) = &inner.head {
            let bytes: usize = head.matrices().iter().map(|matrix| matrix.bytes()).sum();
            rows.push(row(
                HEAD,
                "logits",
                self.head,
                (bytes * self.head.calls) as u64,
            ));
        }
        let inside: Duration = self.nodes.iter().map(|cost| cost.time).sum();
        let around = Cost {
            calls: self.whole.calls,
            time: self.whole.time.saturating_sub(inside + self.head.time),
        };
        rows.push(row(PLAN, "around the ops", around, 0));
        rows.push(row(SAMPLING, "between two reads", self.sampling, 0));
        rows.retain(|row| row.calls > 0);
        PhaseProfile {
            reads: self.reads,
            tokens: self.tokens,
            rows,
        }
    }
}

fn row(op: &str, node: &str, cost: Cost, weights_bytes: u64) -> ProfileRow {
    ProfileRow {
        op: op.to_owned(),
        node: node.to_owned(),
        calls: cost.calls,
        seconds: cost.time.as_secs_f64(),
        weights_bytes,
    }
}

/// Bytes of all matrices of an op.
fn weights_bytes(node: &dyn TypedOp) -> u64 {
    report::weight_bytes(node) as u64
}
