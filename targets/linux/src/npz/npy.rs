//! One array in NumPy's `.npy` format: a header that is a Python dict, then the numbers.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

/// The type of an array's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// `bool`, one byte each.
    Bool,
    /// `int8`.
    I8,
    /// `int16`.
    I16,
    /// `int32`.
    I32,
    /// `int64`.
    I64,
    /// `uint8`.
    U8,
    /// `uint16`.
    U16,
    /// `uint32`.
    U32,
    /// `uint64`.
    U64,
    /// `float16`.
    F16,
    /// `float32`.
    F32,
    /// `float64`.
    F64,
}

/// All types, with NumPy's little-endian code and name.
const DTYPES: [(Dtype, &str, &str); 12] = [
    (Dtype::Bool, "|b1", "bool"),
    (Dtype::I8, "|i1", "int8"),
    (Dtype::I16, "<i2", "int16"),
    (Dtype::I32, "<i4", "int32"),
    (Dtype::I64, "<i8", "int64"),
    (Dtype::U8, "|u1", "uint8"),
    (Dtype::U16, "<u2", "uint16"),
    (Dtype::U32, "<u4", "uint32"),
    (Dtype::U64, "<u8", "uint64"),
    (Dtype::F16, "<f2", "float16"),
    (Dtype::F32, "<f4", "float32"),
    (Dtype::F64, "<f8", "float64"),
];

impl Dtype {
    /// Bytes of one number.
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::I8 | Dtype::U8 => 1,
            Dtype::I16 | Dtype::U16 | Dtype::F16 => 2,
            Dtype::I32 | Dtype::U32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::U64 | Dtype::F64 => 8,
        }
    }

    /// NumPy's name, `float32`.
    pub fn name(self) -> &'static str {
        self.entry().2
    }

    fn code(self) -> &'static str {
        self.entry().1
    }

    fn entry(self) -> &'static (Dtype, &'static str, &'static str) {
        DTYPES
            .iter()
            .find(|(dtype, ..)| *dtype == self)
            .unwrap_or(&DTYPES[0])
    }
}

/// An array: its type, its shape, and its numbers in row-major order, little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NpyArray {
    /// Type of the numbers.
    pub dtype: Dtype,
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The numbers, `shape`'s product times `dtype.size()` bytes.
    pub data: Vec<u8>,
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Bytes of all the numbers.
    pub(super) data_bytes: usize,
}

/// The bytes before the header text: magic, version and the text's length. Versions 2 and 3 have four bytes of length.
pub(super) const PREFIX_BYTES: usize = 10;
/// The longest header text that is read, as NumPy itself has it.
pub(super) const MAX_HEADER_BYTES: usize = 10_000;
const MAX_AXES: usize = 32;

/// Reads the length of the header text out of the first bytes; `more` are the two further bytes of versions 2 and 3.
pub(super) fn header_length(
    prefix: [u8; PREFIX_BYTES],
    more: impl FnOnce() -> Result<[u8; 2], String>,
) -> Result<usize, String> {
    let [m0, m1, m2, m3, m4, m5, major, _, l0, l1] = prefix;
    if [m0, m1, m2, m3, m4, m5] != *b"\x93NUMPY" {
        return Err("doesn't begin as an npy file does".to_owned());
    }
    let length = match major {
        1 => u32::from(u16::from_le_bytes([l0, l1])),
        2 | 3 => {
            let [l2, l3] = more()?;
            u32::from_le_bytes([l0, l1, l2, l3])
        }
        _ => return Err(format!("npy version {major} is not known")),
    };
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MAX_HEADER_BYTES {
        return Err(format!("a header of {length} bytes is too long"));
    }
    Ok(length)
}

impl Header {
    /// Parses the text `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
    pub(super) fn parse(text: &str) -> Result<Header, String> {
        let mut rest = Text(text);
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        rest.expect("{")?;
        while !rest.take("}") {
            let key = rest.string()?;
            rest.expect(":")?;
            match key {
                "descr" => descr = Some(dtype(rest.string()?)?),
                "fortran_order" => fortran = Some(rest.boolean()?),
                "shape" => shape = Some(rest.tuple()?),
                other => return Err(format!("unknown header key `{other}`")),
            }
            if !rest.take(",") {
                rest.expect("}")?;
                break;
            }
        }
        let missing = |key: &str| format!("the header has no `{key}`");
        let dtype = descr.ok_or_else(|| missing("descr"))?;
        let shape = shape.ok_or_else(|| missing("shape"))?;
        let fortran = fortran.ok_or_else(|| missing("fortran_order"))?;
        if fortran && shape.iter().filter(|&&axis| axis != 1).count() > 1 {
            return Err(
                "is in Fortran order; save it with `numpy.ascontiguousarray(x)`".to_owned(),
            );
        }
        let data_bytes = shape
            .iter()
            .try_fold(dtype.size(), |bytes, &axis| bytes.checked_mul(axis))
            .ok_or_else(|| format!("the shape {shape:?} is too large"))?;
        Ok(Header {
            dtype,
            shape,
            data_bytes,
        })
    }
}

/// The whole header of an array, padded so that the numbers begin at a multiple of 64 bytes.
pub(super) fn header_bytes(dtype: Dtype, shape: &[usize]) -> Result<Vec<u8>, String> {
    let axes: String = shape.iter().map(|axis| format!("{axis}, ")).collect();
    let axes = match shape {
        [_] => axes.trim_end().to_owned(),
        _ => axes.trim_end_matches(", ").to_owned(),
    };
    let mut text = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({axes}), }}",
        dtype.code()
    );
    let unpadded = PREFIX_BYTES + text.len() + 1;
    text.push_str(&" ".repeat(unpadded.next_multiple_of(64) - unpadded));
    text.push('\n');
    let length = u16::try_from(text.len()).map_err(|_| "has too many axes".to_owned())?;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    Ok(bytes)
}

fn dtype(code: &str) -> Result<Dtype, String> {
    // One byte has no order: `<i1` and `=i1` say the same as `|i1`.
    let known = DTYPES.iter().find(|(_, known, _)| {
        *known == code
            || (known.starts_with('|')
                && code.get(1..) == known.get(1..)
                && code.starts_with(['<', '>', '=']))
    });
    known.map(|(dtype, ..)| *dtype).ok_or_else(|| {
        let names = DTYPES.map(|(.., name)| name).join(", ");
        format!("has the type `{code}`; the types supported are {names}, little-endian")
    })
}

/// What is left of a header text.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn take(&mut self, token: &str) -> bool {
        let rest = self.0.trim_start();
        match rest.strip_prefix(token) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.take(token) {
            Ok(())
        } else {
            Err(format!("the header is malformed: `{token}` is missing"))
        }
    }

    fn string(&mut self) -> Result<&'a str, String> {
        let quote = if self.take("'") {
            '\''
        } else {
            self.expect("\"")?;
            '"'
        };
        let (text, rest) = self
            .0
            .split_once(quote)
            .ok_or("the header is malformed: a text has no end")?;
        self.0 = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        if self.take("True") {
            return Ok(true);
        }
        self.expect("False").map(|()| false)
    }

    fn tuple(&mut self) -> Result<Vec<usize>, String> {
        let mut axes = Vec::new();
        self.expect("(")?;
        while !self.take(")") {
            let rest = self.0.trim_start();
            let digits = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (number, rest) = rest.split_at(digits);
            let axis = number
                .parse()
                .map_err(|_| "the header is malformed: the shape isn't a list of lengths")?;
            axes.push(axis);
            if axes.len() > MAX_AXES {
                return Err(format!("has more than {MAX_AXES} axes"));
            }
            self.0 = rest;
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(axes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        for (dtype, shape) in [
            (Dtype::F32, vec![]),
            (Dtype::I64, vec![3]),
            (Dtype::Bool, vec![0, 7]),
            (Dtype::F16, vec![2, 3, 4]),
        ] {
            let bytes = header_bytes(dtype, &shape).unwrap();
            assert_eq!(bytes.len() % 64, 0);
            let text = std::str::from_utf8(&bytes[PREFIX_BYTES..]).unwrap();
            let header = Header::parse(text).unwrap();
            assert_eq!((header.dtype, header.shape), (dtype, shape));
        }
    }

    #[test]
    fn what_can_not_be_taken_is_refused() {
        for text in [
            "",
            "{",
            "{'descr': '<f4', 'shape': (2,), }",
            "{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }",
            "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
            "{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 9), }",
        ] {
            assert!(Header::parse(text).is_err(), "{text}");
        }
    }
}
