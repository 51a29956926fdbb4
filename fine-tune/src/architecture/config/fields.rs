//! Fields of a JSON object, read with their type and range checked; every complaint names file and field.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A JSON object and the file it is from. A field that is `null` counts as absent.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    path: &'a Path,
    prefix: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The fields of `value`, which must be an object.
    pub fn new(path: &'a Path, value: &'a Value) -> Result<Fields<'a>> {
        match value {
            Value::Object(map) => Ok(Fields {
                path,
                prefix: "",
                map,
            }),
            _ => Err(Error::malformed(
                path,
                "first byte",
                "the file is not a JSON object",
            )),
        }
    }

    /// The object in field `name`, if there is one; its fields are reported as `name.field`.
    pub fn object(&self, name: &'a str) -> Result<Option<Fields<'a>>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Fields {
                path: self.path,
                prefix: name,
                map,
            })),
            Some(other) => Err(self.wrong(name, other, "an object")),
        }
    }

    /// The file.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// All fields.
    pub fn iter(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter().filter(|(_, value)| !value.is_null())
    }

    /// The field as it is; `None` where absent or null.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// A whole number from 1 to `limit`; absent is an error.
    pub fn size(&self, name: &str, limit: usize) -> Result<usize> {
        self.optional_size(name, limit)?
            .ok_or_else(|| Error::malformed(self.path, self.full(name), "the field is missing"))
    }

    /// A whole number from 1 to `limit`, if the field is there.
    pub fn optional_size(&self, name: &str, limit: usize) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_u64()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..=limit).contains(n))
            .map(Some)
            .ok_or_else(|| self.wrong(name, value, &format!("a whole number from 1 to {limit}")))
    }

    /// A whole number from 0 to `limit`, or `default`.
    pub fn count_or(&self, name: &str, limit: usize, default: usize) -> Result<usize> {
        match self.get(name) {
            Some(value) if value.as_u64() == Some(0) => Ok(0),
            _ => Ok(self.optional_size(name, limit)?.unwrap_or(default)),
        }
    }

    /// A finite number above zero, if the field is there.
    pub fn positive(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .as_f64()
            .filter(|n| n.is_finite() && *n > 0.0)
            .map(Some)
            .ok_or_else(|| self.wrong(name, value, "a number above zero"))
    }

    /// A number from the open interval 0 to 1, as an epsilon must be, or `default`.
    pub fn epsilon_or(&self, name: &str, default: f32) -> Result<f32> {
        match self.positive(name)? {
            None => Ok(default),
            Some(n) if n < 1.0 && n as f32 > 0.0 => Ok(n as f32),
            Some(n) => Err(self.unsupported(name, n, "a number between 0 and 1")),
        }
    }

    /// A number from 0 to less than 1, as a share of what is dropped must be, or 0.
    pub fn share(&self, name: &str) -> Result<f32> {
        let Some(value) = self.get(name) else {
            return Ok(0.0);
        };
        value
            .as_f64()
            .map(|n| n as f32)
            .filter(|n| (0.0..1.0).contains(n))
            .ok_or_else(|| self.wrong(name, value, "a number from 0 to less than 1"))
    }

    /// A truth value, or `default`.
    pub fn flag_or(&self, name: &str, default: bool) -> Result<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(name, other, "true or false")),
        }
    }

    /// A string, if the field is there.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, other, "a string")),
        }
    }

    /// Refuses the field unless it is absent, false, zero, or empty.
    pub fn refuse(&self, name: &str, supported: &str) -> Result<()> {
        match self.get(name) {
            None | Some(Value::Bool(false)) => Ok(()),
            Some(Value::Number(n)) if n.as_f64() == Some(0.0) => Ok(()),
            Some(Value::Array(list)) if list.is_empty() => Ok(()),
            Some(Value::Object(map)) if map.is_empty() => Ok(()),
            Some(other) => Err(self.unsupported(name, short(other), supported)),
        }
    }

    /// The error for a value that this version can't handle.
    pub fn unsupported(&self, name: &str, value: impl ToString, supported: &str) -> Error {
        Error::unsupported(self.path, self.full(name), value, supported)
    }

    /// The error for a value of the wrong type or range.
    fn wrong(&self, name: &str, value: &Value, wanted: &str) -> Error {
        Error::malformed(
            self.path,
            self.full(name),
            format!("{} is not {wanted}", short(value)),
        )
    }

    fn full(&self, name: &str) -> String {
        match self.prefix {
            "" => name.to_owned(),
            prefix => format!("{prefix}.{name}"),
        }
    }
}

/// A value as it fits in one line of an error.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
