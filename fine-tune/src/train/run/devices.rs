//! What computes a training run: the processor, or one or several graphics cards of this machine.

use burn::tensor::Device;

use super::DeviceKind;
use crate::error::{Error, Result};

/// `count` devices of a kind. On the processor they share its threads.
///
/// # Errors
/// When the program was built without that kind, or the machine has fewer.
pub fn devices(kind: DeviceKind, count: u32) -> Result<Vec<Device>> {
    match kind {
        DeviceKind::Cpu => Ok(vec![Device::flex(); count as usize]),
        #[cfg(feature = "gpu")]
        DeviceKind::Gpu => {
            use burn::tensor::DeviceType;
            let best = || Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
            several("gpu", count, best, DeviceType::Wgpu)
        }
        #[cfg(not(feature = "gpu"))]
        DeviceKind::Gpu => Err(left_out("gpu")),
        #[cfg(feature = "cuda")]
        DeviceKind::Cuda => {
            use burn::tensor::{DeviceIndex, DeviceType};
            let best = || Device::cuda(DeviceIndex::Default);
            several("cuda", count, best, DeviceType::Cuda)
        }
        #[cfg(not(feature = "cuda"))]
        DeviceKind::Cuda => Err(left_out("cuda")),
    }
}

#[cfg(not(all(feature = "gpu", feature = "cuda")))]
fn left_out(flag: &str) -> Error {
    Error::training(
        format!("--device {flag}"),
        format!(
            "this program was built without it; build it with --features furlong-fine-tune/{flag}"
        ),
    )
}

/// The best device alone, or the first `count` of all.
#[cfg(any(feature = "gpu", feature = "cuda"))]
fn several(
    flag: &str,
    count: u32,
    best: impl FnOnce() -> Device,
    kind: burn::tensor::DeviceType,
) -> Result<Vec<Device>> {
    if count == 1 {
        return Ok(vec![best()]);
    }
    let mut all = Device::enumerate(kind).into_vec();
    if all.len() < count as usize {
        return Err(Error::training(
            format!("--devices {count}"),
            format!(
                "there are {} of --device {flag} in this machine; ask for no more than that",
                all.len()
            ),
        ));
    }
    all.truncate(count as usize);
    Ok(all)
}
