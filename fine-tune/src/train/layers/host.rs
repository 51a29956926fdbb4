//! The numbers of tensors that live on the CPU, for the layers that have a kernel of their own there.
//!
//! burn's CPU tensors give up their memory without a copy when nobody else holds them, and take it back likewise. A tensor is
//! therefore lent: taken out of its place, read, and put back.
//!
//! Work is cut into parts of a fixed number of rows, and partial sums are added in the order of the parts: results don't depend
//! on the number of threads.

use burn::tensor::{DType, Device, Tensor, TensorData};
use furlong_core::Isa;
use rayon::prelude::*;

/// Rows of a part: enough work for a thread to be worth waking.
const ROWS: usize = 32;

/// The kernels for tensors of `device`: `None` if it isn't the CPU, and layers are put together from burn's operations.
pub fn kernels(device: &Device) -> Option<Isa> {
    (*device == Device::flex()).then(Isa::detect)
}

/// The same for a tensor; only f32 has kernels.
pub fn kernels_of<const D: usize>(x: &Tensor<D>) -> Option<Isa> {
    (x.dtype() == DType::F32)
        .then(|| kernels(&x.device()))
        .flatten()
}

/// Tells the C library to keep freed memory: a step allocates and frees the same large tensors over and over, and a tenth of its
/// time would go into pages that are given back and fetched again.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const FOREVER: libc::c_int = 1 << 30;
        // SAFETY: `mallopt` changes two thresholds of the allocator, which may be done at any time.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, FOREVER);
            libc::mallopt(libc::M_TRIM_THRESHOLD, FOREVER);
        }
    }
}

/// Takes a tensor's numbers, in row order.
pub fn take<const D: usize>(x: Tensor<D>) -> TensorData {
    x.into_data()
}

/// Lends a tensor's numbers, in row order, to `work`.
pub fn lend<const D: usize, R>(x: &mut Tensor<D>, work: impl FnOnce(&[f32]) -> R) -> R {
    let device = x.device();
    let empty = Tensor::empty([0; D], &device);
    let data = std::mem::replace(x, empty).into_data();
    let result = work(read(&data));
    *x = Tensor::from_data(data, &device);
    result
}

/// Numbers to be read.
pub fn read(data: &TensorData) -> &[f32] {
    data.as_slice().unwrap_or(&[])
}

/// Numbers to be changed.
pub fn write(data: &mut TensorData) -> &mut [f32] {
    data.as_mut_slice().unwrap_or(&mut [])
}

/// Stops where a kernel refuses its operands. Their lengths follow from one tensor's shape, so this would be a bug.
#[track_caller]
pub fn succeed(result: Result<(), furlong_core::Error>) {
    assert_eq!(result, Ok(()), "operands of one tensor's shape");
}

/// Calls `work` with each part of the rows of `out`, `[rows, width]`, and the number of its first row.
pub fn each_part(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    out.par_chunks_mut((ROWS * width).max(1))
        .enumerate()
        .for_each(|(part, out)| work(part * ROWS, out));
}

/// The same, and adds up what each part leaves in sums of its own, `[sums]`.
pub fn each_part_summed(
    out: &mut [f32],
    width: usize,
    sums: usize,
    work: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let parts: Vec<Vec<f32>> = out
        .par_chunks_mut((ROWS * width).max(1))
        .enumerate()
        .map(|(part, out)| {
            let mut own = vec![0.0; sums];
            work(part * ROWS, out, &mut own);
            own
        })
        .collect();
    let mut total = vec![0.0; sums];
    for part in parts {
        total
            .iter_mut()
            .zip(part)
            .for_each(|(total, part)| *total += part);
    }
    total
}

/// The part of `x`, `[rows, width]`, that starts at row `first` and is as long as `like`.
pub fn beside<'a>(x: &'a [f32], first: usize, width: usize, like: &[f32]) -> &'a [f32] {
    let start = first * width;
    x.get(start..start + like.len()).unwrap_or_default()
}
