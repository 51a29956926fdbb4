//! Brings a program to a board, and stays to show what it says.

use super::firmware;
use super::hints;
use crate::board::{Board, Runner};
use crate::shell::{self, say};
use anyhow::{Context, Result, bail};
use furlong_board_file::Transport;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs, io};

/// Runs a program on a board; gives its status.
///
/// # Errors
/// When the board isn't reached, with what to do next.
pub fn run(board: &Board, program: &Path, prompt: Option<&str>) -> Result<ExitCode> {
    match &board.run {
        Runner::EmulatedMachine { .. } => {
            let mut watch = watch_emulated(board, program, prompt)?;
            status(&mut watch)
        }
        Runner::Probe { chip } => probe(program, chip),
        Runner::Uf2 {
            family,
            volume,
            chip,
        } => match drive(volume) {
            Some(drive) if prompt.is_none() => {
                let file = drive.join("furlong.uf2");
                image(program, Some(*family), &file)?;
                say(format!(
                    "flash: {} is on the board, which runs it now. Text and logs need a debug probe: with one connected and \
                     BOOTSEL not held, run this again",
                    file.display()
                ));
                Ok(ExitCode::SUCCESS)
            }
            _ if has_probe() => probe(program, chip),
            Some(_) => bail!(
                "{}: an answer comes back over a debug probe, and none is connected; without --prompt the firmware is flashed",
                board.name
            ),
            None => bail!(
                "{}: neither its drive {volume} nor a debug probe is there. Hold BOOTSEL while plugging it in, see that the drive is \
                 mounted (or set FURLONG_DRIVE to its folder), and run this again",
                board.name
            ),
        },
        Runner::SdCard {
            file,
            card_variable,
            serial_variable,
        } => sd_card(
            board,
            program,
            prompt,
            [file, card_variable, serial_variable],
        ),
        Runner::Host | Runner::Emulated { .. } | Runner::Ssh { .. } => {
            bail!("{}: has an operating system", board.id)
        }
    }
}

/// The command that runs a program in the emulator and shows what it says; prompts come from `prompt` or standard input.
///
/// # Errors
/// When the board isn't an emulated one, or the console can't be built.
pub fn watch_emulated(board: &Board, program: &Path, prompt: Option<&str>) -> Result<Command> {
    let Runner::EmulatedMachine {
        emulator,
        machine,
        cpu,
    } = &board.run
    else {
        bail!("{}: isn't an emulated board", board.id);
    };
    let mut command = Command::new(firmware::console()?);
    command.arg("watch").arg("--program").arg(program);
    if let Some(prompt) = prompt {
        command.args(["--prompt", prompt]);
    }
    let serial = match board.bare_metal.as_ref().map(|board| board.transport) {
        Some(Transport::Pl011 { .. }) => "stdio",
        _ => "none",
    };
    command
        .args(["--", emulator, "-machine", machine, "-cpu", cpu])
        .args(["-display", "none", "-monitor", "none", "-serial", serial])
        .args(["-semihosting-config", "enable=on,target=native"])
        // An instruction takes a nanosecond, so that the board's timer counts them.
        .args(["-icount", "shift=0", "-kernel"])
        .arg(program);
    if machine.starts_with("virt") {
        // It has a network card by default, whose ROM may not be installed.
        command.args(["-nic", "none"]);
    }
    Ok(command)
}

/// Runs a command that stays in the foreground; gives its status.
fn status(command: &mut Command) -> Result<ExitCode> {
    let text = shell::show(command);
    let status = command
        .status()
        .with_context(|| format!("starting: {text}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Flashes and watches through a debug probe.
fn probe(program: &Path, chip: &str) -> Result<ExitCode> {
    need_probe_rs()?;
    if !has_probe() {
        bail!("no debug probe is connected. {}", hints::NO_PROBE);
    }
    let mut command = shell::command("probe-rs", ["run", "--chip", chip]);
    command.arg(program).stderr(Stdio::piped());
    say(format!("flash: {}", shell::show(&command)));
    let mut child = command.spawn().context("starting probe-rs")?;
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().context("its errors are a pipe")?).lines() {
        let line = line?;
        eprintln!("{line}");
        said.push_str(&line);
        said.push('\n');
    }
    let status = child.wait()?;
    if !status.success()
        && let Some(hint) = hints::find(&said)
    {
        bail!(
            "probe-rs didn't get through ({status}). {}",
            hint.replace("CHIP", chip)
        );
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

fn need_probe_rs() -> Result<()> {
    if shell::find("probe-rs").is_none() {
        bail!(
            "probe-rs isn't installed: `cargo install probe-rs-tools --locked`, or see https://probe.rs/docs/getting-started/installation, \
             then run this again"
        );
    }
    Ok(())
}

/// Whether probe-rs sees a probe.
fn has_probe() -> bool {
    shell::find("probe-rs").is_some()
        && shell::capture(&mut shell::command("probe-rs", ["list"]))
            .is_ok_and(|list| !list.contains("No debug probes"))
}

/// The folder where the boot ROM's drive is mounted.
fn drive(volume: &str) -> Option<PathBuf> {
    if let Some(folder) = env::var_os("FURLONG_DRIVE") {
        return Some(PathBuf::from(folder)).filter(|folder| folder.is_dir());
    }
    let user = env::var("USER").unwrap_or_default();
    [
        format!("/media/{user}/{volume}"),
        format!("/run/media/{user}/{volume}"),
        format!("/media/{volume}"),
        format!("/Volumes/{volume}"),
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|folder| folder.is_dir())
}

/// Writes a program as a boot loader wants it.
fn image(program: &Path, uf2_family: Option<u32>, out: &Path) -> Result<()> {
    let mut command = Command::new(firmware::console()?);
    command.arg("image").arg("--program").arg(program);
    if let Some(family) = uf2_family {
        command.args(["--uf2-family", &family.to_string()]);
    }
    shell::quiet(command.arg("--out").arg(out))
}

/// Writes the image to a card, and talks over the serial line when the board has started from it.
fn sd_card(
    board: &Board,
    program: &Path,
    prompt: Option<&str>,
    [file, card, serial]: [&String; 3],
) -> Result<ExitCode> {
    let folder = env::var_os(card).map(PathBuf::from);
    let port = env::var_os(serial).map(PathBuf::from);
    if folder.is_none() && port.is_none() {
        bail!(
            "{}: set {card} to the folder where its SD card is mounted, {serial} to the serial port that its pins 8 and 10 go to, \
             or both; targets/boards/{}.toml says what config.txt needs",
            board.name,
            board.id
        );
    }
    if let Some(folder) = folder {
        let mounted = fs::read_dir(&folder).is_ok_and(|mut files| files.next().is_some());
        if !mounted {
            bail!(
                "{}: no card is mounted there; put it into the reader, mount its first partition and run this again",
                folder.display()
            );
        }
        image(program, None, &folder.join(file))?;
        say(format!("flash: wrote {}", folder.join(file).display()));
        if port.is_some() {
            say("flash: put the card into the board, switch it on, then press Enter");
            io::stdin().read_line(&mut String::new())?;
        }
    }
    let Some(port) = port else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut watch = Command::new(firmware::console()?);
    watch.arg("watch").arg("--program").arg(program);
    watch.arg("--serial").arg(port);
    if let Some(prompt) = prompt {
        watch.args(["--prompt", prompt]);
    }
    status(&mut watch)
}
