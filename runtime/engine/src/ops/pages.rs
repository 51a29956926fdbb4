//! Memory that the system gives by pages: untouched pages take none, and all go back at once. The allocator would keep what a
//! growing cache leaves behind, as much again as the cache.

use std::io;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::MmapMut;

/// Numbers in pages of their own.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    /// Absent where there are none: nothing can't be mapped.
    map: Option<MmapMut>,
    numbers: PhantomData<T>,
}

impl<T: Pod> Pages<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// When the system has no more memory.
    pub(crate) fn zeroed(len: usize) -> io::Result<Pages<T>> {
        let bytes = len.checked_mul(size_of::<T>());
        let bytes = bytes.ok_or(io::ErrorKind::OutOfMemory)?;
        let map = (bytes > 0).then(|| MmapMut::map_anon(bytes)).transpose()?;
        Ok(Pages {
            map,
            numbers: PhantomData,
        })
    }
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Pages {
            map: None,
            numbers: PhantomData,
        }
    }
}

impl<T: Pod> Deref for Pages<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.map
            .as_deref()
            .map(bytemuck::cast_slice)
            .unwrap_or_default()
    }
}

impl<T: Pod> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let map = self.map.as_deref_mut();
        map.map(bytemuck::cast_slice_mut).unwrap_or_default()
    }
}
