//! What the tests share.

use ml_backend::Device;

/// The device under test: the CPU, or what `ML_TEST_DEVICE` names.
pub(crate) fn device() -> Device {
    std::env::var("ML_TEST_DEVICE").map_or(Device::Cpu, |name| {
        name.parse().expect("ML_TEST_DEVICE names a device")
    })
}
