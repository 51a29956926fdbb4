//! How the program says that something went wrong.

use std::fmt;
use std::io::ErrorKind;
use std::process::ExitCode;

use furlong_runtime::Error;

/// What to do next, attached to an error with `.context(Hint(…))`.
#[derive(Debug)]
pub struct Hint(pub String);

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT.
pub const INTERRUPTED: u8 = 130;

/// Writes an error with its causes and a hint to standard error; returns the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read the output has had enough of it.
        return ExitCode::SUCCESS;
    }
    let hint = error.downcast_ref::<Hint>().map(|hint| hint.0.as_str());
    let hint = hint.or_else(|| next_step(error.downcast_ref()?));
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let said = causes.last().is_some_and(|last| last.contains(&cause));
        if hint != Some(cause.as_str()) && !said {
            causes.push(cause);
        }
    }
    eprintln!("error: {}", causes.join(": "));
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
    ExitCode::FAILURE
}

/// What to do about an error of the engine, in terms of this program's options.
fn next_step(error: &Error) -> Option<&'static str> {
    match error {
        Error::Io { file, source, .. }
            if source.kind() == ErrorKind::NotFound
                && file.extension() == Some("onnx".as_ref()) =>
        {
            Some("a model folder is what `fine-tune export --out DIR` has written")
        }
        Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
            Some("`--model` takes a folder that `fine-tune export --out DIR` has written")
        }
        Error::ContextFull { .. } => {
            Some("shorten the text, or raise --context up to what the model was made for")
        }
        Error::UnsupportedOps { .. } => {
            Some("export the model again with `fine-tune export`, or another way, without these")
        }
        _ => None,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}
