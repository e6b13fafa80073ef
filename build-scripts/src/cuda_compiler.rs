//! NVIDIA's run-time compiler with CUDA's headers, for compiling kernels where there is no GPU.
//!
//! Of the CUDA library's wheels it takes two; the others are gigabytes that only running needs.

use std::path::PathBuf;

use crate::build::Build;
use crate::error::Result;
use crate::layout::Layout;
use crate::wheels::wheels_are;

/// The wheels that have it.
const PACKAGES: [&str; 2] = ["nvidia_cuda_nvrtc-", "nvidia_cuda_runtime-"];

/// The library `libnvrtc` in this repository, unpacked from pinned wheels unless it is there.
///
/// # Errors
/// As [`crate::ensure`]; NVIDIA has none for macOS.
pub fn cuda_compiler(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let layout = Layout::of_this_repository();
    let build = Build::new(&layout, progress)?;
    let mut wheels = build.pins.all("mlx-cuda", &build.host)?;
    wheels.retain(|wheel| PACKAGES.iter().any(|name| wheel.file.starts_with(name)));
    let folder = layout.tools().join("nvrtc");
    if !wheels_are(&wheels, &folder) {
        build.locked(|| build.wheels(&wheels, &folder))?;
    }
    Ok(folder.join("nvidia/cu13/lib/libnvrtc.so.13"))
}
