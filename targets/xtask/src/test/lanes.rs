//! Steps side by side: two lanes of steps, each one step after another. One core compiles firmware or runs an emulator while the
//! other does what cargo does for Linux; a step alone would leave it idle.

use super::Step;
use super::report::{self, Finished, Outcome};
use crate::shell::say;
use anyhow::anyhow;
use std::panic;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// Where a step has its place. Cargo locks the folder that it builds in, so steps that build in the same one are in the same lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What is built in the workspace's folder, for this machine and for Linux on others.
    Linux,
    /// What is built in the firmware's folder, and what only runs programs.
    Boards,
}

/// Runs the steps, each when those that it waits for have finished; gives them in the order of the list.
pub fn run(steps: &[&Step]) -> Vec<Finished> {
    let finished = Mutex::new(Vec::new());
    let changed = Condvar::new();
    thread::scope(|scope| {
        for lane in [Lane::Linux, Lane::Boards] {
            let (finished, changed) = (&finished, &changed);
            scope.spawn(move || {
                let numbered = (1..).zip(steps);
                for (number, step) in numbered.filter(|(_, step)| step.lane == lane) {
                    let ready = |done: &mut Vec<Finished>| {
                        steps
                            .iter()
                            .filter(|other| step.after.contains(&other.name))
                            .all(|other| done.iter().any(|done| done.name == other.name))
                    };
                    let done = finished.lock().unwrap_or_else(PoisonError::into_inner);
                    drop(changed.wait_while(done, |done| !ready(done)));
                    let Step { name, about, .. } = step;
                    let count = steps.len();
                    say(format!("test: [{number}/{count}] {name}: {about}"));
                    let done = one(step);
                    report::show_step(&done);
                    let mut all = finished.lock().unwrap_or_else(PoisonError::into_inner);
                    all.push(done);
                    changed.notify_all();
                }
            });
        }
    });
    let mut finished = finished
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    finished.sort_by_key(|done| steps.iter().position(|step| step.name == done.name));
    finished
}

/// A step that can't run has failed, and so has one that panics: others wait for its end.
fn one(step: &Step) -> Finished {
    let start = Instant::now();
    let outcome = panic::catch_unwind(step.run)
        .unwrap_or_else(|_| Err(anyhow!("xtask has panicked; the message is further up")))
        .unwrap_or_else(|error| Outcome::broken(&error));
    Finished {
        name: step.name,
        time: start.elapsed(),
        outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::{Lane, run};
    use crate::test::report::Outcome;
    use crate::test::{ASKED_FOR, STEPS, Step};
    use anyhow::Result;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    #[test]
    fn steps_wait_for_earlier_ones_only() {
        for (index, step) in STEPS.iter().enumerate() {
            for name in step.after {
                let earlier = STEPS[..index].iter().any(|other| other.name == *name);
                assert!(earlier, "{} waits for {name}", step.name);
            }
        }
        assert!(ASKED_FOR.iter().all(|step| step.after.is_empty()));
    }

    static BUILT: AtomicUsize = AtomicUsize::new(0);

    fn build() -> Result<Outcome> {
        thread::sleep(Duration::from_millis(50));
        BUILT.store(1, Ordering::SeqCst);
        panic!("a step may panic");
    }

    fn use_it() -> Result<Outcome> {
        assert_eq!(BUILT.load(Ordering::SeqCst), 1);
        Ok(Outcome::passed())
    }

    #[test]
    fn a_lane_waits_for_the_other_even_if_a_step_there_panics() {
        let step = |name, lane, after, run| Step {
            name,
            about: "",
            lane,
            after,
            run,
        };
        let steps = [
            step("build", Lane::Linux, &[], build as fn() -> Result<Outcome>),
            step("use", Lane::Boards, &["build", "not chosen"], use_it),
            step("again", Lane::Linux, &["use"], use_it),
        ];
        let finished = run(&steps.iter().collect::<Vec<_>>());
        let found: Vec<_> = finished
            .iter()
            .map(|done| (done.name, done.outcome.passed, done.outcome.failed))
            .collect();
        assert_eq!(found, [("build", 0, 1), ("use", 1, 0), ("again", 1, 0)]);
    }
}
