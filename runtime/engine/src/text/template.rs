//! Chat templates: how a model wants a conversation written out as one prompt.
//!
//! Hugging Face models bring theirs as a Jinja template, in `tokenizer_config.json` or in `chat_template.jinja`. It is
//! a program from a stranger: it runs with a budget that bounds its time and its memory.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, ErrorKind, Value, context};

use super::namespaces;
use super::python_json;
use super::strftime::strftime;
use crate::files::CONFIG_LIMIT;
use crate::{Error, ModelFiles};

/// The budget of one rendering: a million instructions, or 64 bytes of memory for each of them.
const FUEL: u64 = 1_000_000;
/// The longest template, in bytes. The longest in use today has 17,000.
const MAX_SOURCE_BYTES: usize = 64 << 10;
/// The stack of compiling and rendering, in bytes: enough for the deepest expression that fits into a template, and
/// for the deepest value that the budget pays for.
const STACK: usize = 128 << 20;
/// How deep a template may nest and recurse.
const RECURSION: usize = 100;

/// Who says something in a conversation, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message from `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// A model's chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    path: PathBuf,
    environment: Environment<'static>,
    tokens: Vec<(String, String)>,
}

/// The text of a special token in `tokenizer_config.json`: a string, or an object with `content`.
pub(super) fn token_text<'a>(config: &'a serde_json::Value, key: &str) -> Option<&'a str> {
    let value = config.get(key)?;
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The name the template has inside its environment.
const NAME: &str = "chat_template";

impl ChatTemplate {
    /// Loads the template of a model folder: `chat_template.jinja`, or `chat_template` in `tokenizer_config.json`,
    /// the one named `default` if there are several. `None` when the model has none.
    ///
    /// # Errors
    /// A file that can't be read, or a template that isn't valid Jinja.
    pub fn load(folder: &Path) -> Result<Option<Self>, Error> {
        Self::load_files(&folder.into())
    }

    /// As [`ChatTemplate::load`], from the files of a model wherever they are.
    ///
    /// # Errors
    /// As [`ChatTemplate::load`].
    pub fn load_files(files: &ModelFiles) -> Result<Option<Self>, Error> {
        const CONFIG: &str = "tokenizer_config.json";
        const TEMPLATE: &str = "chat_template.jinja";
        let config = files.read_json(CONFIG)?.unwrap_or_default();
        let tokens: Vec<(String, String)> = ["bos_token", "eos_token", "unk_token", "pad_token"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), token_text(&config, key)?.to_owned())))
            .collect();
        if let Some(bytes) = files.read(TEMPLATE, CONFIG_LIMIT)? {
            let file_path = files.path(TEMPLATE);
            let source = String::from_utf8(bytes.into_owned())
                .map_err(|error| Error::invalid(&file_path, "text", error.to_string()))?;
            return Self::new(&file_path, &source, tokens).map(Some);
        }
        let source = match config.get("chat_template") {
            Some(serde_json::Value::String(source)) => Some(source.as_str()),
            Some(serde_json::Value::Array(named)) => default_of(named),
            _ => None,
        };
        source
            .map(|source| Self::new(&files.path(CONFIG), source, tokens))
            .transpose()
    }

    /// Takes the source of a template. `tokens` are names and texts of special tokens it may use (`bos_token`, `<s>`);
    /// `path` only names the template in errors.
    ///
    /// # Errors
    /// A source that isn't valid Jinja.
    pub fn new(path: &Path, source: &str, tokens: Vec<(String, String)>) -> Result<Self, Error> {
        if source.len() > MAX_SOURCE_BYTES {
            let reason = format!("is longer than the {MAX_SOURCE_BYTES} bytes allowed for it");
            return Err(Error::invalid(path, "chat template", reason));
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| failure(path, &error))?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        on_large_stack(path, || {
            environment
                .add_template_owned(NAME, without_generation_marks(source))
                .map_err(|error| failure(path, &error))?;
            let template = environment
                .get_template(NAME)
                .map_err(|error| failure(path, &error))?;
            namespaces::check(&template)
                .map_err(|(line, reason)| Error::invalid(path, place(line), reason))
        })?;
        Ok(Self {
            path: path.to_owned(),
            environment,
            tokens,
        })
    }

    /// Writes a conversation out as a prompt, with the beginning of the assistant's answer at its end if
    /// `add_generation_prompt`. `now` is what the template takes for today.
    ///
    /// # Errors
    /// A conversation that the template refuses, or a template that fails or runs out of its budget.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, Error> {
        on_large_stack(&self.path, || {
            self.render_here(messages, add_generation_prompt, now)
        })
    }

    fn render_here(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, Error> {
        let strftime_now =
            Value::from_function(move |format: String| -> String { strftime(now, &format) });
        let tokens = Value::from_pairs(
            self.tokens
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str())),
        );
        let messages: Value = messages
            .iter()
            .map(|message| {
                let pairs = [("role", &message.role), ("content", &message.content)];
                Value::from_pairs(pairs.map(|(key, text)| (key, text.as_str())))
            })
            .collect();
        let values = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            strftime_now => strftime_now,
            ..tokens
        };
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(values))
            .map_err(|error| failure(&self.path, &error))
    }
}

/// Runs `work` on a thread whose stack holds what a stranger's template may need.
fn on_large_stack<T: Send>(
    path: &Path,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| Error::io(path, "start the template engine for", error))?
            .join()
            .unwrap_or_else(|_| {
                let reason = "the template made the template engine fail";
                Err(Error::invalid(path, "chat template", reason))
            })
    })
}

/// The template named `default` in a list of named ones, or the only one.
fn default_of(named: &[serde_json::Value]) -> Option<&str> {
    let is_default = |entry: &&serde_json::Value| {
        entry.get("name").and_then(serde_json::Value::as_str) == Some("default")
    };
    let chosen = match named {
        [only] => Some(only),
        _ => named.iter().find(is_default),
    };
    chosen?.get("template")?.as_str()
}

/// `{% generation %}` marks the assistant's words for training; here it has no meaning, and minijinja doesn't know it.
/// An `if` that is always true keeps the white space as it is.
fn without_generation_marks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(position) = rest.find("{%") {
        let (before, tag) = rest.split_at(position);
        out.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let word = tag
            .trim_start_matches("{%")
            .trim_end_matches("%}")
            .trim_matches(['-', '+'])
            .trim();
        match word {
            "generation" => out.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => out.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// How templates refuse a conversation.
fn raise_exception(message: String) -> Result<String, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// `tojson` as Hugging Face has it: Python's `json.dumps` without escapes for other scripts or HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _: Option<bool> = options.get("ensure_ascii")?;
    let _: Option<bool> = options.get("sort_keys")?;
    let _: Option<Value> = options.get("separators")?;
    options.assert_all_used()?;
    python_json::dumps(value, indent.map(|indent| indent.min(16))).map_err(|error| {
        minijinja::Error::new(ErrorKind::InvalidOperation, "can't write as JSON").with_source(error)
    })
}

fn place(line: Option<usize>) -> String {
    match line {
        Some(line) => format!("chat template, line {line}"),
        None => "chat template".to_owned(),
    }
}

fn failure(path: &Path, error: &minijinja::Error) -> Error {
    let mut reason = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(&cause.to_string());
        source = cause.source();
    }
    Error::invalid(path, place(error.line()), reason)
}
