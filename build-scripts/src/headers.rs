//! What making the bindings needs: the C headers and libclang. Building the project needs neither.

use std::path::PathBuf;

use crate::build::Build;
use crate::error::Result;
use crate::layout::Layout;

/// The folder of the pinned mlx-c source, unpacked unless it is there.
///
/// # Errors
/// As [`crate::ensure`].
pub fn mlx_c_source(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let layout = Layout::of_this_repository();
    let build = Build::new(&layout, progress)?;
    build.locked(|| build.mlx_c())
}

/// The folder of the pinned libclang, unpacked unless it is there.
///
/// # Errors
/// As [`crate::ensure`].
pub fn libclang(progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let layout = Layout::of_this_repository();
    let build = Build::new(&layout, progress)?;
    Ok(build.locked(|| build.tool("libclang"))?.join("clang/native"))
}
