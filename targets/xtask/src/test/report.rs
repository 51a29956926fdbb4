//! Outcomes of steps: how tests are counted, kept in log files, and summed up.

use crate::shell;
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a step gave.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How many checks passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
    /// Lines worth showing again at the end: figures, or what went wrong.
    pub notes: Vec<String>,
}

impl Outcome {
    /// One check that passed.
    pub fn passed() -> Self {
        Self {
            passed: 1,
            ..Self::default()
        }
    }

    /// A step that couldn't run, or one check that failed.
    pub fn broken(error: &anyhow::Error) -> Self {
        Self {
            failed: 1,
            notes: vec![format!("{error:#}")],
            ..Self::default()
        }
    }

    /// Adds another's counts and notes.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.notes.extend(other.notes);
    }
}

/// A step that has run.
pub struct Finished {
    /// The step's name.
    pub name: &'static str,
    /// How long it took.
    pub time: Duration,
    /// What it gave.
    pub outcome: Outcome,
}

/// Runs a command that is one check: its output is shown only when it fails.
///
/// # Errors
/// When it fails.
pub fn check(command: &mut Command) -> Result<Outcome> {
    shell::quiet(command)?;
    Ok(Outcome::passed())
}

/// Runs Rust tests and counts them. All they write goes to `NAME.log` under the build folder; failures are shown.
///
/// # Errors
/// When the command can't be started, or fails in another way than by failing tests.
pub fn rust_tests(name: &str, command: &mut Command) -> Result<Outcome> {
    let folder = workspace::target()?.join("test-logs");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.log"));
    let mut log =
        fs::File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    let text = shell::show(command);
    writeln!(log, "$ {text}")?;
    let errors = log.try_clone()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .with_context(|| format!("starting: {text}"))?;
    let mut outcome = Outcome::default();
    let mut binaries = 0;
    for line in BufReader::new(child.stdout.take().context("tests have an output")?).lines() {
        let line = line?;
        writeln!(log, "{line}")?;
        if let Some((passed, failed)) = counts(&line) {
            binaries += 1;
            outcome.passed += passed;
            outcome.failed += failed;
        } else if line.starts_with("test ") && line.ends_with(" FAILED") {
            outcome
                .notes
                .push(format!("{line} (see {})", path.display()));
        }
    }
    let status = child.wait()?;
    if !status.success() && outcome.failed == 0 || binaries == 0 {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n  ");
        bail!(
            "{name}: {status}, after {binaries} test programs; {} ends with\n  {tail}",
            path.display()
        );
    }
    Ok(outcome)
}

/// The counts of libtest's last line: `test result: ok. 3 passed; 0 failed; …`.
fn counts(line: &str) -> Option<(usize, usize)> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let mut parts = rest.split("; ").map(|part| {
        part.split(' ')
            .next()
            .and_then(|number| number.parse().ok())
    });
    Some((parts.next()??, parts.next()??))
}

/// Says how one step ended, in one piece: another step may be saying something, too.
pub fn show_step(step: &Finished) {
    let Outcome {
        passed,
        failed,
        notes,
    } = &step.outcome;
    let notes: String = notes.iter().map(|note| format!("    {note}\n")).collect();
    let word = if *failed == 0 { "ok" } else { "FAILED" };
    println!(
        "{notes}xtask: test: {} {word}: {passed} passed, {failed} failed, {:.0} s",
        step.name,
        step.time.as_secs_f64()
    );
}

/// The summing up of what took `total` together.
///
/// # Errors
/// When anything failed.
pub fn show_all(steps: &[Finished], total: Duration) -> Result<()> {
    println!("\n{:15} {:>7} {:>7} {:>7}", "step", "passed", "failed", "s");
    for step in steps {
        let Outcome { passed, failed, .. } = step.outcome;
        println!(
            "{:15} {passed:>7} {failed:>7} {:>7.0}",
            step.name,
            step.time.as_secs_f64()
        );
    }
    let passed: usize = steps.iter().map(|step| step.outcome.passed).sum();
    let failed: usize = steps.iter().map(|step| step.outcome.failed).sum();
    println!(
        "{:15} {passed:>7} {failed:>7} {:>7.0}\n",
        "together",
        total.as_secs_f64()
    );
    for step in steps.iter().filter(|step| step.outcome.failed > 0) {
        println!(
            "{} failed:\n    {}",
            step.name,
            step.outcome.notes.join("\n    ")
        );
    }
    println!("{passed} passed, {failed} failed");
    if failed > 0 {
        std::process::exit(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn tests_are_counted_whether_they_passed_or_not() {
        let passed = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        let failed = "test result: FAILED. 30 passed; 2 failed; 0 ignored; 0 measured; 4 filtered out; finished in 1.20s";
        assert_eq!(counts(passed), Some((3, 0)));
        assert_eq!(counts(failed), Some((30, 2)));
        assert_eq!(counts("test result_is_kept ... ok"), None);
    }
}
