//! What the tests share.

use ml_backend::Device;

/// The device under test: the CPU, or what `ML_TEST_DEVICE` names; `metal-on-cpu` is a CPU that passes for an
/// Apple GPU.
pub(crate) fn device() -> Device {
    if std::env::var("ML_TEST_DEVICE").is_ok_and(|name| name == "metal-on-cpu") {
        return metal_on_cpu();
    }
    std::env::var("ML_TEST_DEVICE").map_or(Device::Cpu, |name| {
        name.parse().expect("ML_TEST_DEVICE names a device")
    })
}

/// A CPU that passes for the GPU of a Mac with 64 GiB.
pub(crate) fn metal_on_cpu() -> Device {
    use mlx_core::device::stand_in;
    stand_in::play(Some(stand_in::Mac {
        memory_bytes: 64 << 30,
        recommended_working_set: 48 << 30,
    }));
    Device::Metal
}
