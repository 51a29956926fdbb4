//! The header of a safetensors file, checked against the bytes that follow it.

use std::collections::BTreeMap;
use std::ops::Range;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::elements::Elements;
use crate::error::Fault;

/// The largest header that is read; the format's own limit.
const MAX_HEADER: usize = 100_000_000;

/// One tensor of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Storage format, or the name of one that isn't ours.
    pub elements: Result<Elements, String>,
    /// Shape in row order.
    pub shape: Vec<usize>,
    /// Where the elements lie, in bytes from the start of the file.
    pub range: Range<usize>,
}

/// The tensors of the safetensors file `bytes`, by name.
///
/// # Errors
/// Where the header is not one, or a tensor's bytes are not all there. Nothing is allocated beyond a small multiple of the
/// header's own length.
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Entry>, Fault> {
    let fault = |reason: String| Fault::new("safetensors header", reason);
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| {
        fault("the file is shorter than the 8 bytes of the header's length".into())
    })?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER {
        return Err(fault(format!(
            "a length of {length} bytes is above the limit of {MAX_HEADER}"
        )));
    }
    let (header, data) = rest.split_at_checked(length).ok_or_else(|| {
        fault(format!(
            "{length} bytes are announced, {} follow",
            rest.len()
        ))
    })?;
    let metadata: Metadata =
        serde_json::from_slice(header).map_err(|error| fault(error.to_string()))?;
    let start = bytes.len() - data.len();
    let mut tensors = BTreeMap::new();
    for (name, info) in metadata.tensors() {
        let (from, to) = info.data_offsets;
        if from > to || to > data.len() {
            return Err(Fault::new(
                format!("tensor {name}"),
                format!("bytes {from} to {to} of {}", data.len()),
            ));
        }
        let elements = match info.dtype {
            Dtype::F32 => Ok(Elements::F32),
            Dtype::F16 => Ok(Elements::F16),
            Dtype::BF16 => Ok(Elements::Bf16),
            other => Err(other.to_string()),
        };
        let shape = info.shape.clone();
        tensors.insert(
            name,
            Entry {
                elements,
                shape,
                range: start + from..start + to,
            },
        );
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    fn two_tensors() -> Vec<u8> {
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"I64","shape":[],"data_offsets":[12,20]}}"#;
        file(header, 20)
    }

    #[test]
    fn tensors_are_found_and_other_formats_are_named() {
        let bytes = two_tensors();
        let tensors = parse(&bytes).unwrap();
        assert_eq!(tensors["a"].shape, [2, 3]);
        assert_eq!(tensors["a"].elements, Ok(Elements::Bf16));
        assert_eq!(tensors["a"].range, bytes.len() - 20..bytes.len() - 8);
        assert_eq!(tensors["b"].elements, Err("I64".to_owned()));
    }

    #[test]
    fn truncated_files_are_refused_and_damaged_ones_never_panic() {
        let bytes = two_tensors();
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "cut at {length}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                if let Ok(tensors) = parse(&damaged) {
                    assert!(
                        tensors
                            .values()
                            .all(|tensor| tensor.range.end <= damaged.len())
                    );
                }
            }
        }
    }

    #[test]
    fn sizes_that_can_not_be_are_refused() {
        assert!(parse(&[0xff; 16]).is_err());
        let big = 1u64 << 60;
        let many: Vec<String> = (0..15)
            .map(|i| {
                let (from, to) = (i * big, (i + 1) * big);
                format!(r#""t{i}":{{"dtype":"U8","shape":[{big}],"data_offsets":[{from},{to}]}}"#)
            })
            .collect();
        assert!(parse(&file(&format!("{{{}}}", many.join(",")), 8)).is_err());
        let wrapping =
            r#"{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}"#;
        assert!(parse(&file(wrapping, 4)).is_err());
    }
}
