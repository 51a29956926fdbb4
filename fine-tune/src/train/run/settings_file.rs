//! Settings in a TOML file: the same keys as the flags, turned into flags, so that there is one parser and one set of checks.

use std::path::Path;

use clap::{Args, Command};
use serde_json::Value;

use super::settings::{FILES, FREE, Settings};
use crate::error::{Error, Result};

/// The largest settings file, in bytes.
const LIMIT: u64 = 1 << 20;

/// The flags that a settings file stands for, to be put before those of the command line, which then win.
///
/// # Errors
/// A file that can't be read, is no TOML, or has a key that is no setting.
pub fn flags(path: &Path) -> Result<Vec<String>> {
    let length = path.metadata().map_err(Error::io(path))?.len();
    if length > LIMIT {
        return Err(Error::malformed(path, "file", "too long for settings"));
    }
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|error| Error::malformed(path, "TOML", error.to_string().trim().to_owned()))?;
    let known = Settings::augment_args(Command::new("train"));
    let mut flags = Vec::new();
    for (key, value) in table {
        if !known
            .get_arguments()
            .any(|known| known.get_long() == Some(&key))
        {
            return Err(Error::unsupported(
                path,
                "a key",
                key,
                "the flags of `fine-tune train --help`, without the dashes",
            ));
        }
        let text = scalar(&value).ok_or_else(|| {
            Error::malformed(path, &key, "must be a text, a number or true or false")
        })?;
        flags.push(format!("--{key}={text}"));
    }
    Ok(flags)
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(values) => {
            let texts: Option<Vec<String>> = values.iter().map(scalar).collect();
            Some(texts?.join(","))
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// Settings as TOML; [`flags`] gives them back.
pub fn text(settings: &Settings) -> String {
    let pairs = pairs(settings).into_iter();
    // JSON's texts, numbers and booleans are TOML's, too.
    let lines = pairs.map(|(key, value)| format!("{key} = {value}\n"));
    lines.collect()
}

/// The first setting that makes another run of it: its name, and what it was and is.
pub(super) fn difference(then: &Settings, now: &Settings) -> Option<(String, String, String)> {
    let (then, now) = (pairs(then), pairs(now));
    let names = then.iter().chain(&now).map(|(key, _)| key);
    let value = |of: &[(String, Value)], name: &str| {
        let found = of.iter().find(|(key, _)| key == name);
        found.map_or("not set".to_owned(), |(_, value)| value.to_string())
    };
    names
        .filter(|name| !FREE.contains(&name.as_str()))
        .map(|name| (name.clone(), value(&then, name), value(&now, name)))
        .find(|(_, then, now)| then != now)
}

/// The settings without the names of files, which mean nothing on another machine.
pub(super) fn without_files(settings: &Settings) -> Value {
    let pairs = pairs(settings).into_iter();
    Value::Object(
        pairs
            .filter(|(key, _)| !FILES.contains(&key.as_str()))
            .collect(),
    )
}

fn pairs(settings: &Settings) -> Vec<(String, Value)> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(map)) => map
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    #[command(args_override_self = true, no_binary_name = true)]
    struct Program {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(flags: &[String]) -> Settings {
        Program::try_parse_from(flags).unwrap().settings
    }

    #[test]
    fn settings_come_back_from_their_file_and_flags_win() {
        Program::command().debug_assert();
        let given = [
            "--data=it's \"new\".jsonl",
            "--learning-rate=1e-7",
            "--chat",
            "--by-length=false",
            "--epochs=7",
            "--target-modules=q_proj,v_proj",
            "--schedule=inverse-sqrt",
            "--seed=9223372036854775807",
        ];
        let settings = parse(&given.map(str::to_owned));
        assert!(settings.data.chat && !settings.data.by_length);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text(&settings)).unwrap();
        let mut flags = flags(file.path()).unwrap();
        assert_eq!(parse(&flags), settings);
        assert_eq!(difference(&settings, &parse(&flags)), None);
        flags.extend(["--epochs=8".to_owned(), "--threads=2".to_owned()]);
        let changed = difference(&settings, &parse(&flags)).unwrap();
        assert_eq!(
            changed,
            ("epochs".to_owned(), "7".to_owned(), "8".to_owned())
        );
        for wrong in ["epoch = 1", "epochs = {}", "epochs = "] {
            std::fs::write(file.path(), wrong).unwrap();
            super::flags(file.path()).unwrap_err();
        }
    }
}
