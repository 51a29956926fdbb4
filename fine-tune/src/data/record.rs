//! One line as an example.

use serde_json::{Map, Value};

use super::{Content, Example, Turn};

/// The most turns of a conversation.
const MAX_TURNS: usize = 4096;
/// The longest role and the longest id, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// The example that a line holds; else what is wrong with it.
pub(super) fn parse(line: usize, text: &str) -> Result<Example, String> {
    let object = object(text)?;
    let content = match content(&object)? {
        Content::Prompt(_) => return Err("there is a prompt but no completion".to_owned()),
        content => content,
    };
    if content.whole().trim().is_empty() {
        return Err("there is no text in it".to_owned());
    }
    let id = match object.get("id") {
        None | Some(Value::Null) => line.to_string(),
        Some(Value::String(id)) if !id.is_empty() && id.len() <= MAX_NAME_BYTES => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        Some(_) => {
            return Err(format!(
                "\"id\" must be a number or a text of 1 to {MAX_NAME_BYTES} bytes"
            ));
        }
    };
    Ok(Example { id, line, content })
}

/// The request that a line holds: an example, or plain text.
pub(super) fn parse_request(line: usize, text: &str) -> Result<Example, String> {
    let content = if text.starts_with('{') {
        content(&object(text)?)?
    } else {
        Content::Prompt(text.to_owned())
    };
    let id = line.to_string();
    Ok(Example { id, line, content })
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("not a JSON object".to_owned()),
        Err(error) => Err(format!("not JSON: {error}")),
    }
}

fn content(object: &Map<String, Value>) -> Result<Content, String> {
    let has = |name: &str| object.contains_key(name);
    let text = |name: &str| match object.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        _ => Err(format!("\"{name}\" must be a text")),
    };
    if has("anchor") && !["messages", "prompt", "text"].into_iter().any(has) {
        return Ok(Content::Pair {
            anchor: text("anchor")?,
            positive: text("positive")?,
        });
    }
    match (has("messages"), has("prompt"), has("text")) {
        (true, false, false) => turns(object.get("messages")).map(Content::Messages),
        (false, true, false) if has("completion") => Ok(Content::Completion {
            prompt: text("prompt")?,
            completion: text("completion")?,
        }),
        (false, true, false) => Ok(Content::Prompt(text("prompt")?)),
        (false, false, true) if has("label") => Ok(Content::Labelled {
            text: text("text")?,
            label: match object.get("label") {
                Some(Value::Number(label)) => label.to_string(),
                _ => text("label")?,
            },
        }),
        (false, false, true) => Ok(Content::Text(text("text")?)),
        _ => Err(
            "it must have one of: \"messages\"; \"prompt\" and \"completion\"; \"text\"; \"text\" and \"label\"; \
             \"anchor\" and \"positive\""
                .to_owned(),
        ),
    }
}

fn turns(messages: Option<&Value>) -> Result<Vec<Turn>, String> {
    let Some(Value::Array(messages)) = messages else {
        return Err("\"messages\" must be a list".to_owned());
    };
    if messages.is_empty() || messages.len() > MAX_TURNS {
        return Err(format!("\"messages\" must have 1 to {MAX_TURNS} turns"));
    }
    let turn = |(index, message): (usize, &Value)| {
        let field = |name: &str| message.get(name).and_then(Value::as_str);
        match (field("role"), field("content")) {
            (Some(role), Some(content)) if !role.is_empty() && role.len() <= MAX_NAME_BYTES => {
                Ok(Turn {
                    role: role.to_owned(),
                    content: content.to_owned(),
                })
            }
            _ => Err(format!(
                "turn {} must have the texts \"role\" and \"content\"",
                index + 1
            )),
        }
    };
    messages.iter().enumerate().map(turn).collect()
}
