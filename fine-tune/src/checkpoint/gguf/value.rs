//! Values of GGUF metadata, borrowed from the file.

/// What kind of value follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Unsigned byte.
    U8,
    /// Signed byte.
    I8,
    /// Unsigned, 2 bytes.
    U16,
    /// Signed, 2 bytes.
    I16,
    /// Unsigned, 4 bytes.
    U32,
    /// Signed, 4 bytes.
    I32,
    /// Float, 4 bytes.
    F32,
    /// Truth value, 1 byte.
    Bool,
    /// Length and UTF-8.
    String,
    /// Kind, count and elements.
    Array,
    /// Unsigned, 8 bytes.
    U64,
    /// Signed, 8 bytes.
    I64,
    /// Float, 8 bytes.
    F64,
}

impl Kind {
    /// The kind that GGUF numbers `code`.
    pub fn from_code(code: u32) -> Option<Kind> {
        use Kind::*;
        let kinds = [
            U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64,
        ];
        kinds.get(usize::try_from(code).ok()?).copied()
    }

    /// Bytes of a value; the fewest that a string or an array takes.
    pub fn bytes(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 | Kind::String => 8,
            Kind::Array => 12,
        }
    }
}

/// A value of the metadata.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A whole number that can't be negative.
    Unsigned(u64),
    /// A whole number that can.
    Signed(i64),
    /// A float of 4 bytes.
    F32(f32),
    /// A float of 8 bytes.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    String(&'a str),
    /// Several values of one kind.
    Array(Array<'a>),
}

/// An array whose elements have been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Array<'a> {
    pub(super) kind: Kind,
    pub(super) count: usize,
    pub(super) bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// A value of a kind of fixed size from its little-endian bytes; `None` where they aren't one.
    pub(super) fn scalar(kind: Kind, bytes: &[u8]) -> Option<Value<'a>> {
        Some(match kind {
            Kind::U8 => Value::Unsigned(u8::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::I8 => Value::Signed(i8::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::U16 => Value::Unsigned(u16::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::I16 => Value::Signed(i16::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::U32 => Value::Unsigned(u32::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::I32 => Value::Signed(i32::from_le_bytes(bytes.try_into().ok()?).into()),
            Kind::U64 => Value::Unsigned(u64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::I64 => Value::Signed(i64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::F32 => Value::F32(f32::from_le_bytes(bytes.try_into().ok()?)),
            Kind::F64 => Value::F64(f64::from_le_bytes(bytes.try_into().ok()?)),
            Kind::Bool => match bytes {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return None,
            },
            Kind::String | Kind::Array => return None,
        })
    }

    /// The number, if it is whole and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Unsigned(n) => Some(*n),
            Value::Signed(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The number, if it is one. A float of 4 bytes becomes the shortest decimal that rounds to it, as it was written in the
    /// config that it came from.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Unsigned(n) => Some(*n as f64),
            Value::Signed(n) => Some(*n as f64),
            Value::F32(n) => n.to_string().parse().ok(),
            Value::F64(n) => Some(*n),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&'a str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The array, if it is one.
    pub fn as_array(&self) -> Option<Array<'a>> {
        match self {
            Value::Array(array) => Some(*array),
            _ => None,
        }
    }
}

impl<'a> Array<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The strings, if that is what it holds.
    pub fn strings(&self) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
        let mut rest = self.bytes;
        (self.kind == Kind::String).then(|| {
            std::iter::from_fn(move || {
                let (length, tail) = rest.split_first_chunk::<8>()?;
                let (text, tail) =
                    tail.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
                rest = tail;
                std::str::from_utf8(text).ok()
            })
        })
    }

    /// The scalars, if that is what it holds.
    pub fn scalars(&self) -> Option<impl Iterator<Item = Value<'a>> + use<'a>> {
        let (kind, bytes) = (self.kind, self.bytes);
        (!matches!(kind, Kind::String | Kind::Array)).then(|| {
            bytes
                .chunks_exact(kind.bytes())
                .filter_map(move |bytes| Value::scalar(kind, bytes))
        })
    }
}
