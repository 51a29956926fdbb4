//! Memory for packed weights and prepared activations: aligned to a cache line, zeroed without being touched.

use std::fmt;

/// A cache line, and the widest vector register.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Bytes that start on a cache line.
#[derive(Default)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` zero bytes.
    pub(crate) fn zeroed(len: usize) -> Buffer {
        Buffer {
            lines: bytemuck::zeroed_vec(len.div_ceil(size_of::<Line>())),
            len,
        }
    }

    /// Makes room for `len` bytes; what was there is lost when it has to grow.
    pub(crate) fn reserve(&mut self, len: usize) -> &mut [u8] {
        if self.lines.len() * size_of::<Line>() < len {
            *self = Buffer::zeroed(len);
        }
        self.len = len;
        self
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines)
            .get(..self.len)
            .unwrap_or_default()
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.lines)
            .get_mut(..self.len)
            .unwrap_or_default()
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}
