//! Whether a model's bfloat16 matrices are held in 12 bits an element ([`kernels::bf12`]).

use arch::{Model, Part};
use kernels::decode::{self, Packing};
use mlx_core::{DeviceKind, Dtype, device};

use crate::weights::{Manifest, Stored};
use crate::{Result, plan};

/// Bytes of weights from which on a GPU gains. A token of less does not wait for the weights: on an
/// H200, 2.0 GB gain 6% and 1.2 GB nothing, and every prompt pays for the unpacking.
const WORTH: u64 = 3 << 29;

/// Whether it makes decoding faster on this thread's device, with `bytes` of weights, whose floats have
/// `dtype`, and takes memory from nobody.
pub(crate) fn pays(
    model: &Model<String>,
    manifest: &Manifest,
    bytes: u64,
    dtype: Dtype,
) -> Result<bool> {
    if device::current()? == DeviceKind::Cpu {
        return Ok(is_there(bytes));
    }
    let dense = manifest.matrices.values().all(|s| *s == Stored::Dense);
    let large = bytes >= WORTH;
    let fuses = match plan::sizes(model, [Packing::Bf12; 3]) {
        Some(sizes) => decode::has_kernel(&sizes)?,
        None => false,
    };
    Ok(dense && large && dtype == Dtype::Bfloat16 && fuses)
}

/// Bytes that a GPU must have for the weights while they are loaded: in 12 bits, with some more for rare
/// elements, and the largest matrix as it was.
pub(crate) fn bytes_to_load(model: &Model<String>, bytes: u64) -> u64 {
    let largest = 2 * model
        .parts()
        .map(|p: Part<'_, _>| p.parameters())
        .max()
        .unwrap_or(0);
    bytes.min(bytes / 64 * 50 + largest)
}

/// Whether all matrices must be held alike, or the operation that decodes fastest is lost.
pub(crate) fn is_for_all() -> Result<bool> {
    Ok(device::current()? != DeviceKind::Cpu)
}

/// Whether the system can give `bytes` without taking them from somebody. Mapped weights need not fit:
/// their pages come and go; what is made of them would be killed for its size. Yes where the system
/// does not say.
fn is_there(bytes: u64) -> bool {
    available_memory().is_none_or(|available| available > bytes)
}

/// Bytes that Linux calls available; `None` on other systems.
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_fits_and_everything_does_not() {
        assert!(is_there(0));
        assert_eq!(is_there(u64::MAX), available_memory().is_none());
    }
}
