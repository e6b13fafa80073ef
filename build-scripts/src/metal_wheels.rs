//! Every pinned build of MLX for Macs, for looking into them where there is no Mac.

use std::path::PathBuf;

use crate::Backend;
use crate::build::Build;
use crate::error::Result;
use crate::machine::{Machine, Version};

/// A build of MLX for Macs.
#[derive(Clone, Debug)]
pub struct MetalWheel {
    /// The oldest macOS that the pins give it to.
    pub min_macos: Version,
    /// Where it is unpacked.
    pub folder: PathBuf,
}

/// All pinned ones, unpacked unless they are there, oldest first; `only_oldest` is that one alone.
///
/// # Errors
/// As [`crate::ensure`].
pub fn metal_wheels(only_oldest: bool, progress: &dyn Fn(&str)) -> Result<Vec<MetalWheel>> {
    let build = Build::new(progress)?;
    let mut wheels = build.pins.all("mlx-metal", &Machine::mac(Version(0, 0)))?;
    wheels.sort_by_key(|wheel| wheel.min_macos);
    let take = if only_oldest { 1 } else { wheels.len() };
    let unpacked = wheels.into_iter().take(take).map(|wheel| {
        let name = format!("mlx-{}", Backend::Metal);
        Ok(MetalWheel {
            min_macos: wheel.min_macos,
            folder: build.locked_unpacked(&name, &[wheel])?,
        })
    });
    unpacked.collect()
}
