//! Which ops the work of an answer goes to.

use crate::counter;
use furlong_core::plan::{Op, Plan};

/// The kinds of ops, in the order in which they are reported.
const KINDS: [&str; 7] = [
    "linear",
    "gated linear",
    "attention",
    "activations for linear",
    "norm",
    "gather",
    "rest",
];

/// Work by kind of op.
pub(crate) struct Profile<'p> {
    plan: Plan<'p>,
    kinds: [u64; KINDS.len()],
    last: u64,
}

impl<'p> Profile<'p> {
    /// Nothing is counted yet.
    pub(crate) fn begin(plan: &Plan<'p>) -> Self {
        Self {
            plan: *plan,
            kinds: [0; KINDS.len()],
            last: counter::now(),
        }
    }

    /// What was counted since the last call was work of this op.
    pub(crate) fn worked(&mut self, op: u16) {
        let now = counter::now();
        let kind = self.plan.op(usize::from(op)).map_or(6, |op| kind(&op));
        if let Some(sum) = self.kinds.get_mut(kind) {
            *sum = sum.saturating_add(now.saturating_sub(self.last));
        }
        self.last = now;
    }

    /// Logs the sums.
    pub(crate) fn report(&self) {
        let all = self
            .kinds
            .iter()
            .fold(0u64, |sum, kind| sum.saturating_add(*kind));
        for (name, sum) in KINDS.iter().zip(self.kinds) {
            if sum > 0 {
                let percent = sum.saturating_mul(100).checked_div(all).unwrap_or(0);
                defmt::info!(
                    "{=u64} % {=u64} {=str}: {=str}",
                    percent,
                    sum,
                    counter::UNIT,
                    *name
                );
            }
        }
    }
}

/// The place of an op among [`KINDS`].
fn kind(op: &Op) -> usize {
    match op {
        Op::Multiply { .. } => 0,
        Op::Gated { .. } => 1,
        Op::Attend { .. } | Op::SelfAttend { .. } | Op::Place { .. } | Op::Append { .. } => 2,
        Op::Prepare { .. } => 3,
        Op::Norm { .. } => 4,
        Op::Gather { .. } => 5,
        Op::Add { .. }
        | Op::Copy { .. }
        | Op::Activate { .. }
        | Op::Pool { .. }
        | Op::Unfold { .. }
        | Op::Prepend { .. } => 6,
    }
}
