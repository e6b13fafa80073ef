//! What making the bindings needs: the C headers and libclang. Building the project needs neither.

use std::path::PathBuf;

use crate::build::Build;
use crate::error::Result;

/// The folder of the pinned mlx-c source, unpacked unless it is there.
///
/// # Errors
/// As [`crate::ensure`].
pub fn mlx_c_source(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let build = Build::new(progress)?;
    let folder = build.mlx_c_folder();
    if folder.is_dir() {
        return Ok(folder);
    }
    build.locked(|| build.mlx_c())
}

/// The folder of the pinned libclang, unpacked unless it is there.
///
/// # Errors
/// As [`crate::ensure`].
pub fn libclang(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let build = Build::new(progress)?;
    let wheels = [build.pins.one("libclang", &build.host)?];
    let folder = build.locked_unpacked("libclang", &wheels)?;
    Ok(folder.join("clang/native"))
}
