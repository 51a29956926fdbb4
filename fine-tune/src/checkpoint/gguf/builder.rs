//! Builds small GGUF files for tests.

/// Builds the head of a GGUF file; tensor data are added as they are described.
#[derive(Default)]
pub struct Builder {
    entries: u64,
    metadata: Vec<u8>,
    tensors: u64,
    table: Vec<u8>,
    pub data: Vec<u8>,
}

/// The bytes of a text.
pub fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// The bytes of an array of `kind`.
pub fn array(kind: u32, items: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((items.len() as u64).to_le_bytes());
    bytes.extend(items.concat());
    bytes
}

impl Builder {
    /// A value of `kind` from its bytes.
    pub fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Builder {
        self.entries += 1;
        self.metadata.extend(text(key));
        self.metadata.extend(kind.to_le_bytes());
        self.metadata.extend(value);
        self
    }

    /// A number of 4 bytes.
    pub fn number(self, key: &str, value: u32) -> Builder {
        self.entry(key, 4, &value.to_le_bytes())
    }

    /// A text.
    pub fn string(self, key: &str, value: &str) -> Builder {
        self.entry(key, 8, &text(value))
    }

    /// An array of texts.
    pub fn strings(self, key: &str, values: &[&str]) -> Builder {
        let items: Vec<_> = values.iter().map(|value| text(value)).collect();
        self.entry(key, 9, &array(8, &items))
    }

    /// A tensor of `kind`; dimensions in GGUF's order, the fastest first.
    pub fn tensor(mut self, name: &str, dims: &[u64], kind: u32, bytes: &[u8]) -> Builder {
        self.tensors += 1;
        self.table.extend(text(name));
        self.table.extend((dims.len() as u32).to_le_bytes());
        dims.iter()
            .for_each(|dim| self.table.extend(dim.to_le_bytes()));
        self.table.extend(kind.to_le_bytes());
        self.table.extend((self.data.len() as u64).to_le_bytes());
        self.data.extend(bytes);
        self.data.resize(self.data.len().next_multiple_of(32), 0);
        self
    }

    /// A tensor of F32.
    pub fn floats(self, name: &str, dims: &[u64], value: impl Fn(usize) -> f32) -> Builder {
        let count = dims.iter().product::<u64>() as usize;
        let bytes: Vec<u8> = (0..count).flat_map(|i| value(i).to_le_bytes()).collect();
        self.tensor(name, dims, 0, &bytes)
    }

    /// The file.
    pub fn build(self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.tensors.to_le_bytes());
        bytes.extend(self.entries.to_le_bytes());
        bytes.extend(self.metadata);
        bytes.extend(self.table);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(self.data);
        bytes
    }
}
