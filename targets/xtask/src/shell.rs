//! Running other programs: quietly when it goes well, with their output when it doesn't.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A command for `program` with `args`.
pub fn command<S: AsRef<std::ffi::OsStr>>(
    program: impl AsRef<std::ffi::OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// The command as a person would type it.
pub fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        let arg = arg.to_string_lossy();
        if arg.is_empty() || arg.contains([' ', '"', '$', '*', ';']) {
            text.push_str(&format!(" '{arg}'"));
        } else {
            text.push_str(&format!(" {arg}"));
        }
    }
    text
}

/// Runs a command whose output the user sees.
///
/// # Errors
/// When it can't be started or doesn't succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let text = show(command);
    let status = command
        .status()
        .with_context(|| format!("starting: {text}"))?;
    if !status.success() {
        bail!("failed ({status}): {text}");
    }
    Ok(())
}

/// Runs a command silently; its output is part of the error when it fails.
///
/// # Errors
/// When it can't be started or doesn't succeed.
pub fn quiet(command: &mut Command) -> Result<()> {
    capture(command).map(drop)
}

/// Runs a command silently and gives what it wrote to standard output.
///
/// # Errors
/// When it can't be started, doesn't succeed or writes something that isn't UTF-8.
pub fn capture(command: &mut Command) -> Result<String> {
    let text = show(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting: {text}"))?;
    if !output.status.success() {
        let said = [output.stdout.as_slice(), b"\n", output.stderr.as_slice()].concat();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        let tail = lines[lines.len().saturating_sub(30)..].join("\n  ");
        bail!("failed ({}): {text}\n  {tail}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("reading the output of: {text}"))
}

/// Whether the command starts and succeeds; its output is thrown away.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Where a program lies: itself if it is a path, else found in `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).exists().then(|| PathBuf::from(program));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Says one line about what is being done.
pub fn say(line: impl AsRef<str>) {
    println!("xtask: {}", line.as_ref());
}
