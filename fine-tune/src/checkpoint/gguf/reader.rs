//! The GGUF container, read without trusting it: every count and length is held against the bytes that remain.
//!
//! Nothing is copied but names: arrays and strings stay slices of the file.

use std::collections::BTreeMap;
use std::ops::Range;

use super::value::{Array, Kind, Value};
use crate::checkpoint::elements::Elements;
use crate::error::Fault;

/// How deep arrays may lie in arrays.
const MAX_NESTING: usize = 4;
/// Dimensions of a tensor.
const MAX_DIMENSIONS: u32 = 4;
/// Fewest bytes that one entry of the metadata takes: an empty key, a kind, one byte.
const ENTRY_BYTES: usize = 13;
/// Fewest bytes that one tensor's description takes: an empty name, no dimensions, type and offset.
const TENSOR_BYTES: usize = 24;

/// A GGUF file's metadata and table of tensors.
#[derive(Debug)]
pub struct Gguf<'a> {
    /// Metadata by key.
    pub metadata: BTreeMap<&'a str, Value<'a>>,
    /// Tensors by name.
    pub tensors: BTreeMap<&'a str, TensorEntry>,
}

/// Where and how a tensor lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Storage format, or the number of one that isn't ours.
    pub elements: Result<Elements, String>,
    /// Shape in row order: GGUF's dimensions, reversed.
    pub shape: Vec<usize>,
    /// Bytes from the start of the file; empty where the format isn't ours.
    pub range: Range<usize>,
}

/// Reads the head of a GGUF file of version 2 or 3, little-endian.
///
/// # Errors
/// Names the entry or tensor, its offset in the file, and what is wrong.
pub fn parse(bytes: &[u8]) -> Result<Gguf<'_>, Fault> {
    let mut cursor = Cursor { bytes, at: 0 };
    if cursor.take(4, "magic")? != b"GGUF" {
        return Err(Fault::new(
            "first bytes",
            "not a GGUF file; a Hugging Face checkpoint is given as its folder",
        ));
    }
    let version = cursor.u32("version")?;
    if !(2..=3).contains(&version) {
        return Err(Fault::unsupported(
            "version",
            version,
            "2 and 3, little-endian",
        ));
    }
    let tensors = cursor.count("number of tensors", TENSOR_BYTES)?;
    let entries = cursor.count("number of metadata entries", ENTRY_BYTES)?;
    let mut metadata = BTreeMap::new();
    for _ in 0..entries {
        let at = cursor.at;
        let key = cursor.string("metadata key")?;
        let kind = cursor.kind(key)?;
        let value = cursor.value(kind, key, MAX_NESTING)?;
        if metadata.insert(key, value).is_some() {
            return Err(Fault::new(
                format!("metadata {key} at byte {at}"),
                "the key is there twice",
            ));
        }
    }
    let mut table = Vec::new();
    for _ in 0..tensors {
        table.push(cursor.tensor()?);
    }
    let alignment = alignment(&metadata)?;
    let data = cursor
        .at
        .checked_next_multiple_of(alignment)
        .filter(|start| *start <= bytes.len() || table.is_empty())
        .ok_or_else(|| cursor.fault("tensor data", "the file ends before it"))?;
    let mut by_name = BTreeMap::new();
    for raw in table {
        let name = raw.name;
        if by_name
            .insert(name, raw.entry(data, alignment, bytes.len())?)
            .is_some()
        {
            return Err(Fault::new(format!("tensor {name}"), "there are two of it"));
        }
    }
    Ok(Gguf {
        metadata,
        tensors: by_name,
    })
}

/// What tensor data are aligned to, in bytes.
fn alignment(metadata: &BTreeMap<&str, Value>) -> Result<usize, Fault> {
    match metadata.get("general.alignment") {
        None => Ok(32),
        Some(Value::Unsigned(n)) if n.is_power_of_two() && (8..=1 << 20).contains(n) => {
            Ok(*n as usize)
        }
        Some(_) => Err(Fault::new(
            "general.alignment",
            "not a power of two from 8 to 1048576",
        )),
    }
}

/// A tensor's description, before its place is checked.
struct RawTensor<'a> {
    name: &'a str,
    shape: Vec<usize>,
    kind: u32,
    offset: u64,
}

impl RawTensor<'_> {
    fn entry(self, data: usize, alignment: usize, length: usize) -> Result<TensorEntry, Fault> {
        let fault = |reason: String| Fault::new(format!("tensor {}", self.name), reason);
        let Some(elements) = Elements::from_ggml(self.kind) else {
            let elements = Err(format!("ggml type {}", self.kind));
            return Ok(TensorEntry {
                elements,
                shape: self.shape,
                range: 0..0,
            });
        };
        let size = elements.bytes_of(&self.shape).ok_or_else(|| {
            fault(format!(
                "shape {:?} is too large, or its rows are not whole blocks of {elements:?}",
                self.shape
            ))
        })?;
        let start = usize::try_from(self.offset)
            .ok()
            .filter(|offset| offset % alignment == 0)
            .and_then(|offset| data.checked_add(offset))
            .ok_or_else(|| {
                fault(format!(
                    "offset {} is not a multiple of {alignment}",
                    self.offset
                ))
            })?;
        let end = start
            .checked_add(size)
            .filter(|end| *end <= length)
            .ok_or_else(|| {
                fault(format!(
                    "{size} bytes at {start} end after the file's {length}"
                ))
            })?;
        Ok(TensorEntry {
            elements: Ok(elements),
            shape: self.shape,
            range: start..end,
        })
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn fault(&self, what: &str, reason: impl Into<String>) -> Fault {
        Fault::new(format!("{what} at byte {}", self.at), reason)
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    fn take(&mut self, length: usize, what: &str) -> Result<&'a [u8], Fault> {
        let taken = self
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.get(..length))
            .ok_or_else(|| {
                self.fault(
                    what,
                    format!("{length} bytes are announced, {} are left", self.left()),
                )
            })?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Fault> {
        let taken = self.take(N, what)?;
        taken
            .try_into()
            .map_err(|_| self.fault(what, "the file ends"))
    }

    fn u32(&mut self, what: &str) -> Result<u32, Fault> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, Fault> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A number of things of at least `each` bytes.
    fn count(&mut self, what: &str, each: usize) -> Result<usize, Fault> {
        let count = self.u64(what)?;
        usize::try_from(count)
            .ok()
            .filter(|count| {
                count
                    .checked_mul(each)
                    .is_some_and(|bytes| bytes <= self.left())
            })
            .ok_or_else(|| {
                self.fault(
                    what,
                    format!(
                        "{count} can't fit in the {} bytes that are left",
                        self.left()
                    ),
                )
            })
    }

    fn string(&mut self, what: &str) -> Result<&'a str, Fault> {
        let length = self.count(what, 1)?;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|error| self.fault(what, error.to_string()))
    }

    fn kind(&mut self, what: &str) -> Result<Kind, Fault> {
        let code = self.u32(what)?;
        Kind::from_code(code)
            .ok_or_else(|| self.fault(what, format!("kind of value {code} is unknown")))
    }

    fn value(&mut self, kind: Kind, what: &str, nesting: usize) -> Result<Value<'a>, Fault> {
        Ok(match kind {
            Kind::String => Value::String(self.string(what)?),
            Kind::Array => Value::Array(self.array_value(what, nesting)?),
            _ => {
                let bytes = self.take(kind.bytes(), what)?;
                Value::scalar(kind, bytes).ok_or_else(|| self.fault(what, "not a truth value"))?
            }
        })
    }

    /// Walks over an array, checking each element, and keeps the slice.
    fn array_value(&mut self, what: &str, nesting: usize) -> Result<Array<'a>, Fault> {
        let nesting = nesting.checked_sub(1).ok_or_else(|| {
            self.fault(
                what,
                format!("arrays are nested more than {MAX_NESTING} deep"),
            )
        })?;
        let kind = self.kind(what)?;
        let count = self.count(what, kind.bytes())?;
        let start = self.at;
        match kind {
            Kind::String | Kind::Array | Kind::Bool => {
                for _ in 0..count {
                    self.value(kind, what, nesting)?;
                }
            }
            _ => {
                self.take(count.saturating_mul(kind.bytes()), what)?;
            }
        }
        let bytes = self.bytes.get(start..self.at).unwrap_or_default();
        Ok(Array { kind, count, bytes })
    }

    fn tensor(&mut self) -> Result<RawTensor<'a>, Fault> {
        let name = self.string("tensor name")?;
        let dimensions = self.u32(name)?;
        if dimensions > MAX_DIMENSIONS {
            let reason = format!("{dimensions} dimensions are more than {MAX_DIMENSIONS}");
            return Err(self.fault(name, reason));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let dim = self.u64(name)?;
            let dim = usize::try_from(dim)
                .map_err(|_| self.fault(name, format!("dimension {dim} is too large")))?;
            shape.insert(0, dim);
        }
        Ok(RawTensor {
            name,
            shape,
            kind: self.u32(name)?,
            offset: self.u64(name)?,
        })
    }
}
