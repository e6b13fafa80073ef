//! NVIDIA's run-time compiler with CUDA's headers, for compiling kernels where there is no GPU.
//!
//! Of the CUDA library's wheels it takes two; the others are gigabytes that only running needs.

use std::path::{Path, PathBuf};

use crate::build::Build;
use crate::error::Result;
use crate::pins::Wheel;

/// The wheels that have it.
const PACKAGES: [&str; 2] = ["nvidia_cuda_nvrtc-", "nvidia_cuda_runtime-"];

/// The library `libnvrtc`, unpacked from pinned wheels unless it is there.
///
/// # Errors
/// As [`crate::ensure`]; NVIDIA has none for macOS.
pub fn cuda_compiler(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let build = Build::new(progress)?;
    let folder = build.locked_unpacked("nvrtc", &wheels(&build)?)?;
    Ok(library(&folder))
}

/// The same library, if [`cuda_compiler`] was called before; tests need not fetch 100 MB.
pub fn cuda_compiler_if_there() -> Option<PathBuf> {
    let build = Build::new(&|_| {}).ok()?;
    let library = library(&build.unpacked_folder("nvrtc", &wheels(&build).ok()?));
    library.is_file().then_some(library)
}

pub(crate) fn wheels<'a>(build: &'a Build<'_>) -> Result<Vec<&'a Wheel>> {
    let mut wheels = build.pins.all("mlx-cuda", &build.host)?;
    wheels.retain(|wheel| PACKAGES.iter().any(|name| wheel.file.starts_with(name)));
    Ok(wheels)
}

fn library(folder: &Path) -> PathBuf {
    folder.join("nvidia/cu13/lib/libnvrtc.so.13")
}
