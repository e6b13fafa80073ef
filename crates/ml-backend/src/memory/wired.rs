//! Wired memory: what macOS keeps resident for the GPU.
//!
//! What is not wired macOS may page out between two tokens, which has made large models on Macs fifty times
//! slower; what is wired it takes from every other program, and wiring all that Metal recommends has frozen
//! small Macs. So nothing is wired unasked, and who asks for the right amount gets what the model needs, if
//! enough is left for the rest.

use std::sync::{Mutex, PoisonError};

use mlx_core::device::DeviceInfo;
use mlx_core::{DeviceKind, memory};

use crate::Result;

/// How much to wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WiredLimit {
    /// So many bytes.
    Bytes(u64),
    /// What the model needs, if the machine can spare it.
    Auto,
}

/// Of a machine's memory, the share in percent that is left to everything else.
const LEFT_PERCENT: u64 = 35;
/// The least that is left to everything else.
const LEFT_BYTES: u64 = 8 << 30;
/// A model of less than this part of the machine's memory is not paged out by what else runs.
const SMALL_PART: u64 = 8;

impl WiredLimit {
    /// Bytes to wire for `active` bytes that MLX holds with the model loaded and caches of `caches` bytes
    /// to come; `None` leaves the system's way alone.
    pub(crate) fn bytes(self, device: &DeviceInfo, active: u64, caches: u64) -> Option<u64> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Auto if device.kind == DeviceKind::Metal => auto(device, active, caches),
            Self::Auto => None,
        }
    }
}

fn auto(device: &DeviceInfo, active: u64, caches: u64) -> Option<u64> {
    let all = device.memory_bytes;
    let left =
        LEFT_BYTES.max(u64::try_from(u128::from(all) * u128::from(LEFT_PERCENT) / 100).ok()?);
    let spared = all.saturating_sub(left);
    let most = super::working_set(device).min(spared);
    // Half a model wired is half a model paged.
    let worth_it = active >= all / SMALL_PART && active <= most;
    worth_it.then(|| active.saturating_add(caches).min(most))
}

/// Loaded models that have memory wired.
static HOLDERS: Mutex<u64> = Mutex::new(0);

/// Keeps memory wired; with the last one that goes, none is any more.
#[derive(Debug)]
pub(crate) struct Wired(());

impl Wired {
    pub(super) fn new(bytes: u64) -> Result<Self> {
        let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        memory::set_wired_limit(super::bytes(bytes))?;
        *holders += 1;
        Ok(Self(()))
    }
}

impl Drop for Wired {
    fn drop(&mut self) {
        let mut holders = HOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        *holders -= 1;
        if *holders == 0 {
            // That MLX refuses a smaller limit than the one it took is not to be expected, and nobody is
            // here to be told.
            let _ = memory::set_wired_limit(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use mlx_core::device::{self, Choice, stand_in};

    use super::*;
    use crate::MemoryLimits;

    const GIB: u64 = 1 << 30;

    #[test]
    fn nothing_stays_wired_when_the_last_model_has_gone() {
        stand_in::play(Some(stand_in::Mac {
            memory_bytes: 64 * GIB,
            recommended_working_set: 48 * GIB,
        }));
        device::open(Choice::Metal).unwrap();
        let limits = |wired| MemoryLimits {
            wired,
            ..MemoryLimits::default()
        };
        assert!(limits(None).apply().unwrap().is_none());
        let first = limits(Some(20 * GIB)).apply().unwrap();
        let second = limits(Some(30 * GIB)).apply().unwrap();
        drop(first);
        assert_eq!(stand_in::wired_limit() as u64, 30 * GIB);
        drop(second);
        assert_eq!(stand_in::wired_limit(), 0);
    }

    /// What is wired on a Mac of so many GiB, of which Metal recommends three quarters.
    fn auto_on(gib: u64, active: u64, caches: u64) -> Option<u64> {
        let mac = DeviceInfo {
            kind: DeviceKind::Metal,
            name: "test".to_owned(),
            memory_bytes: gib * GIB,
            recommended_working_set: Some(gib * GIB / 4 * 3),
            mlx_version: "0".to_owned(),
            library: "none".into(),
        };
        WiredLimit::Auto.bytes(&mac, active, caches)
    }

    #[test]
    fn a_large_model_is_wired_with_its_caches_if_enough_is_left() {
        // 32B in 4 bits on 64 GiB: 35 % are 22.4 GiB, so 41.6 may be wired.
        assert_eq!(auto_on(64, 18 * GIB, 10 * GIB), Some(28 * GIB));
        let most = 64 * GIB - 64 * GIB * 35 / 100;
        assert_eq!(auto_on(64, 18 * GIB, 100 * GIB), Some(most));
        assert_eq!(auto_on(64, most, 0), Some(most));
        assert_eq!(auto_on(64, most + 1, 0), None, "too little would be left");
        // 8 GiB stay, which is more than 35 % of 16.
        assert_eq!(auto_on(16, 6 * GIB, 4 * GIB), Some(8 * GIB));
        assert_eq!(auto_on(16, 8 * GIB + 1, 0), None);
        assert_eq!(auto_on(8, GIB, 0), None, "nothing can be spared");
    }

    #[test]
    fn a_small_model_and_another_device_are_left_alone() {
        assert_eq!(auto_on(64, 8 * GIB - 1, 10 * GIB), None);
        assert_eq!(auto_on(64, 8 * GIB, GIB), Some(9 * GIB));
        let cpu = DeviceInfo {
            kind: DeviceKind::Cpu,
            name: "test".to_owned(),
            memory_bytes: 64 * GIB,
            recommended_working_set: None,
            mlx_version: "0".to_owned(),
            library: "none".into(),
        };
        assert_eq!(WiredLimit::Auto.bytes(&cpu, 18 * GIB, 0), None);
        assert_eq!(WiredLimit::Bytes(5).bytes(&cpu, 18 * GIB, 0), Some(5));
    }

    #[test]
    fn never_more_than_metal_recommends() {
        let mac = DeviceInfo {
            kind: DeviceKind::Metal,
            name: "test".to_owned(),
            memory_bytes: 64 * GIB,
            recommended_working_set: Some(30 * GIB),
            mlx_version: "0".to_owned(),
            library: "none".into(),
        };
        let auto = |active, caches| WiredLimit::Auto.bytes(&mac, active, caches);
        assert_eq!(auto(28 * GIB, 10 * GIB), Some(30 * GIB));
        assert_eq!(auto(30 * GIB + 1, 0), None);
    }
}
