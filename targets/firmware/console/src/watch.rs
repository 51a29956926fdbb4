//! Runs what carries the line (an emulator, a serial port), types prompts into it and shows what comes out.

use crate::line::{Piece, Splitter};
use anyhow::{Context, Result, bail};
use defmt_decoder::{DecodeError, Locations, StreamDecoder, Table};
use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

/// What to watch.
#[derive(clap::Args)]
pub struct Options {
    /// The program that runs there: its logs' texts are in it
    #[arg(long)]
    program: PathBuf,
    /// Type this line, then the end of the transmission; without it, standard input
    #[arg(long)]
    prompt: Option<String>,
    /// A serial port to talk to, in place of a command
    #[arg(long, conflicts_with = "command")]
    serial: Option<PathBuf>,
    /// The speed of the serial port
    #[arg(long, default_value_t = 115_200)]
    baud: u32,
    /// The command whose output it is
    #[arg(last = true)]
    command: Vec<String>,
}

/// Ends a transmission: firmware/src/commands.rs.
const END_OF_TRANSMISSION: &[u8] = &[4];

/// Watches until the command ends; gives its status.
///
/// # Errors
/// When the program or the line can't be read.
pub fn run(options: &Options) -> Result<ExitCode> {
    let elf = fs::read(&options.program)
        .with_context(|| format!("reading {}", options.program.display()))?;
    let table = Table::parse(&elf)?.with_context(|| {
        format!(
            "{}: has no defmt logs; is it the firmware?",
            options.program.display()
        )
    })?;
    let locations = table.get_locations(&elf).ok();
    let mut screen = Screen {
        decoder: table.new_stream_decoder(),
        locations,
        splitter: Splitter::default(),
    };
    if let Some(port) = &options.serial {
        let baud = options.baud.to_string();
        let settings = ["-F", &port.display().to_string(), &baud, "raw", "-echo"].map(String::from);
        let set = Command::new("stty").args(settings).status();
        if !set.is_ok_and(|status| status.success()) {
            bail!(
                "{}: can't be set to {baud} baud; is it plugged in, and are you in the group that owns it (dialout)?",
                port.display()
            );
        }
        let open = || {
            File::options()
                .read(true)
                .write(true)
                .open(port)
                .with_context(|| format!("opening {}", port.display()))
        };
        type_into(open()?, options.prompt.clone());
        screen.show_all(open()?, options.prompt.is_some())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some((program, arguments)) = options.command.split_first() else {
        bail!("neither a command nor --serial");
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    let input = child.stdin.take().context("its input is a pipe")?;
    type_into(input, options.prompt.clone());
    let output = child.stdout.take().context("its output is a pipe")?;
    screen.show_all(output, false)?;
    let status = child.wait()?;
    // No code: a signal ended it.
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Types the prompt, or what is typed here, in a thread of its own. It isn't waited for: standard input may never end.
fn type_into(mut line: impl Write + Send + 'static, prompt: Option<String>) {
    thread::spawn(move || -> io::Result<()> {
        match prompt {
            Some(prompt) => writeln!(line, "{prompt}")?,
            None => {
                for text in io::stdin().lock().split(b'\n') {
                    line.write_all(&text?)?;
                    line.write_all(b"\n")?;
                    line.flush()?;
                }
            }
        }
        line.write_all(END_OF_TRANSMISSION)?;
        line.flush()
    });
}

struct Screen<'t> {
    decoder: Box<dyn StreamDecoder + Send + Sync + 't>,
    locations: Option<Locations>,
    splitter: Splitter,
}

impl Screen<'_> {
    /// Shows all that comes; `one_answer` stops after the first line of text.
    fn show_all(&mut self, mut output: impl Read, one_answer: bool) -> Result<()> {
        let mut bytes = [0; 4096];
        loop {
            let count = match output.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("reading what the board says"),
            };
            for piece in self.splitter.push(&bytes[..count]) {
                match piece {
                    Piece::Text(text) => {
                        let mut out = io::stdout().lock();
                        out.write_all(&text)?;
                        out.flush()?;
                        if one_answer && text.contains(&b'\n') {
                            return Ok(());
                        }
                    }
                    Piece::Frame(frame) => self.show_log(&frame),
                }
            }
        }
    }

    fn show_log(&mut self, frame: &[u8]) {
        self.decoder.received(frame);
        loop {
            match self.decoder.decode() {
                Ok(frame) => {
                    let level = frame.level().map_or("print", |level| level.as_str());
                    let place = self
                        .locations
                        .as_ref()
                        .and_then(|all| all.get(&frame.index()))
                        .map(|place| format!(" ({}:{})", place.file.display(), place.line))
                        .filter(|_| level != "info")
                        .unwrap_or_default();
                    eprintln!("{level:5} {}{place}", frame.display_message());
                }
                Err(DecodeError::UnexpectedEof) => return,
                Err(DecodeError::Malformed) => {
                    eprintln!("(a log frame arrived damaged)");
                    return;
                }
            }
        }
    }
}
