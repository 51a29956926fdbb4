//! ONNX Runtime's adapter files (`.onnx_adapter`): named arrays that take the places of a graph's inputs.
//!
//! The format is a FlatBuffer (<https://flatbuffers.dev/internals/>) of the schema `adapter_schema.fbs` in ONNX Runtime's sources,
//! whose identifier is `TORT`: a table of versions and of parameters, each with name, dimensions, ONNX's number for its type, and raw
//! bytes at a multiple of 8. Written front to back: a FlatBuffer's offsets point forward, but for those from a table to its vtable,
//! which may lie before it.

use std::path::Path;

use crate::error::{Error, Result};

/// Version of the format.
const FORMAT: u32 = 1;
/// Versions of adapter and model, which ONNX Runtime hands on unread.
const VERSION: u32 = 1;
/// ONNX's number for f32.
const FLOAT: u32 = 1;
/// Offsets have 32 bits, some with a sign.
const LIMIT: usize = i32::MAX as usize;

/// An f32 array with a name.
#[derive(Debug, Clone, Copy)]
pub struct Parameter<'a> {
    /// Name of the graph's input.
    pub name: &'a str,
    /// `[rows, columns]`.
    pub dims: [usize; 2],
    /// Row by row.
    pub values: &'a [f32],
}

/// The bytes of an adapter file.
///
/// # Errors
/// When there are more bytes than the format can point to.
pub fn encode(parameters: &[Parameter<'_>], path: &Path) -> Result<Vec<u8>> {
    let mut file = Buffer::default();
    let root = file.reserve();
    file.bytes.extend(b"TORT");
    // Both tables have four fields of four bytes each.
    let vtable = file.bytes.len();
    for half in [12u16, 20, 4, 8, 12, 16] {
        file.bytes.extend(half.to_le_bytes());
    }
    file.point(root);
    file.table(vtable);
    for number in [FORMAT, VERSION, VERSION] {
        file.number(number);
    }
    let list = file.reserve();
    file.point(list);
    file.number(parameters.len() as u32);
    let places: Vec<usize> = parameters.iter().map(|_| file.reserve()).collect();
    for (parameter, place) in parameters.iter().zip(places) {
        file.point(place);
        file.table(vtable);
        let (name, dims) = (file.reserve(), file.reserve());
        file.number(FLOAT);
        let data = file.reserve();

        file.point(name);
        file.number(parameter.name.len() as u32);
        file.bytes.extend(parameter.name.bytes());
        // A string ends with a zero that isn't counted.
        file.bytes.push(0);
        file.align(4, 0);

        file.align(8, 4);
        file.point(dims);
        file.number(parameter.dims.len() as u32);
        for size in parameter.dims {
            file.bytes.extend((size as i64).to_le_bytes());
        }

        file.align(8, 4);
        file.point(data);
        let bytes: &[u8] = bytemuck::cast_slice(parameter.values);
        if bytes.len() > LIMIT || file.bytes.len() > LIMIT - bytes.len() {
            let reason = "the adapter is larger than 2 GiB, more than this file format holds; merge it instead";
            return Err(Error::adapter(path, "size", reason));
        }
        file.number(bytes.len() as u32);
        file.bytes.extend(bytes);
        file.align(4, 0);
    }
    Ok(file.bytes)
}

/// A FlatBuffer under construction.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
}

impl Buffer {
    fn number(&mut self, number: u32) {
        self.bytes.extend(number.to_le_bytes());
    }

    /// Leaves room for an offset.
    fn reserve(&mut self) -> usize {
        self.number(0);
        self.bytes.len() - 4
    }

    /// Lets the offset at `place` point to what comes next.
    fn point(&mut self, place: usize) {
        let distance = (self.bytes.len() - place) as u32;
        if let Some(offset) = self.bytes.get_mut(place..place + 4) {
            offset.copy_from_slice(&distance.to_le_bytes());
        }
    }

    /// Starts a table whose fields `vtable` describes.
    fn table(&mut self, vtable: usize) {
        self.number((self.bytes.len() - vtable) as u32);
    }

    /// Pads with zeros up to `rest` bytes past a multiple of `to`.
    fn align(&mut self, to: usize, rest: usize) {
        while self.bytes.len() % to != rest {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ONNX Runtime 1.32 wrote for the two arrays of [`it_is_read_as_onnx_runtimes_own_file`]; it writes back to front.
    const THEIRS: &str = "0c000000544f52540000000084ffffff01000000010000000100000004000000020000007000000004000000a4ffffff44000000280000000100000004000000180000005b002cbf5e1ea13c6fc903bf3cadbebf7c40e03fd159db3d0200000002000000000000000300000000000000000000000f0000006d2e6c6f72615f422e776569676874000c001400040008000c0010000c0000004c0000003000000001000000040000002000000033fe03bf5846703e2c36afbef5e779bf5d5911c0c536173fa31c203f27d898bf0200000004000000000000000200000000000000000000000f0000006d2e6c6f72615f412e77656967687400";

    /// A reader of FlatBuffers that knows nothing of how they are written, and what it expects data's places to be multiples of.
    struct Reader<'a>(&'a [u8], usize);

    impl<'a> Reader<'a> {
        fn u32(&self, at: usize) -> usize {
            u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap()) as usize
        }

        fn follow(&self, at: usize) -> usize {
            at + self.u32(at)
        }

        /// Where a table's field is.
        fn field(&self, table: usize, index: usize) -> usize {
            let distance = i32::from_le_bytes(self.0[table..table + 4].try_into().unwrap());
            let vtable = (table as i64 - i64::from(distance)) as usize;
            let entry = vtable + 4 + 2 * index;
            table
                + usize::from(u16::from_le_bytes(
                    self.0[entry..entry + 2].try_into().unwrap(),
                ))
        }

        fn vector(&self, at: usize, width: usize) -> &'a [u8] {
            &self.0[at + 4..at + 4 + self.u32(at) * width]
        }

        fn parameters(&self) -> Vec<(String, Vec<i64>, usize, Vec<u8>)> {
            assert_eq!(&self.0[4..8], b"TORT");
            let adapter = self.follow(0);
            assert_eq!(self.u32(self.field(adapter, 0)), 1);
            let list = self.follow(self.field(adapter, 3));
            let parameter = |index: usize| {
                let table = self.follow(list + 4 + 4 * index);
                let text = self.vector(self.follow(self.field(table, 0)), 1);
                let dims = self.vector(self.follow(self.field(table, 1)), 8);
                let data = self.follow(self.field(table, 3));
                assert_eq!((data + 4) % self.1, 0);
                (
                    String::from_utf8(text.to_vec()).unwrap(),
                    dims.chunks(8)
                        .map(|b| i64::from_le_bytes(b.try_into().unwrap()))
                        .collect(),
                    self.u32(self.field(table, 2)),
                    self.vector(data, 1).to_vec(),
                )
            };
            let mut all: Vec<_> = (0..self.u32(list)).map(parameter).collect();
            all.sort();
            all
        }
    }

    #[test]
    fn it_is_read_as_onnx_runtimes_own_file() {
        let theirs: Vec<u8> = (0..THEIRS.len() / 2)
            .map(|i| u8::from_str_radix(&THEIRS[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        // The schema asks for 8; ONNX Runtime itself keeps to 4.
        let expected = Reader(&theirs, 4).parameters();
        assert_eq!(expected[0].0, "m.lora_A.weight");
        let values = |data: &[u8]| -> Vec<f32> {
            data.chunks(4)
                .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
                .collect()
        };
        let (a, b) = (values(&expected[0].3), values(&expected[1].3));
        let parameters = [
            ("m.lora_A.weight", [4, 2], &a),
            ("m.lora_B.weight", [2, 3], &b),
        ]
        .map(|(name, dims, values)| Parameter { name, dims, values });
        let ours = encode(&parameters, Path::new("adapter")).unwrap();
        assert_eq!(Reader(&ours, 8).parameters(), expected);
    }
}
