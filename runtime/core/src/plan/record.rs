//! Little-endian numbers in records of a fixed size, written on the host and read wherever the image lies.

/// Reads the numbers of a record one after another. Past the end there are zeros.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(record: &'a [u8]) -> Reader<'a> {
        Reader { rest: record }
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        match self.rest.split_first_chunk::<N>() {
            Some((first, rest)) => {
                self.rest = rest;
                *first
            }
            None => {
                self.rest = &[];
                [0; N]
            }
        }
    }

    pub(super) fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.bytes())
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.bytes())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    pub(super) fn f32(&mut self) -> f32 {
        f32::from_le_bytes(self.bytes())
    }
}

/// Writes the numbers of a record of `N` bytes one after another. What is not written is zero.
pub(super) struct Writer<const N: usize> {
    record: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    pub(super) fn new() -> Writer<N> {
        Writer {
            record: [0; N],
            at: 0,
        }
    }

    /// Appends bytes; those past the end of the record are dropped.
    pub(super) fn bytes(mut self, bytes: &[u8]) -> Writer<N> {
        let room = self.record.iter_mut().skip(self.at);
        room.zip(bytes).for_each(|(to, &byte)| *to = byte);
        self.at += bytes.len();
        self
    }

    pub(super) fn u8(self, value: u8) -> Writer<N> {
        self.bytes(&[value])
    }

    pub(super) fn u16(self, value: u16) -> Writer<N> {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Writer<N> {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Writer<N> {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn f32(self, value: f32) -> Writer<N> {
        self.bytes(&value.to_le_bytes())
    }

    pub(super) fn finish(self) -> [u8; N] {
        self.record
    }
}
