//! Turns the pins in `vendor/` into a native prefix: libmlx from a wheel, and beside it one shared
//! library with mlx-c and the project's own C++ bridge.
//!
//! Two programs call it, `crates/mlx-sys/build.rs` and `cargo xtask build`, perhaps at the same
//! time; a file lock makes the second wait for the first. Every step puts its result in place with
//! a rename, so a build that was interrupted is taken up again where it was.
//!
//! Only ordinary package clients fetch anything (pip and cargo), only what is pinned by SHA-256 is
//! used, and nothing is installed outside `vendor/`, so no step needs root. What was fetched stays:
//! a second build works without the network.

#[cfg(not(unix))]
compile_error!("MLX runs on Linux and macOS; on Windows use WSL");

mod bridge;
mod build;
mod command;
mod compiler;
mod cross_metal;
mod cuda_compiler;
mod error;
mod files;
mod glibc;
mod headers;
mod host;
mod layout;
mod lock;
mod mlx_c;
mod pins;
mod prefix;
mod python;
mod stamp;
#[cfg(test)]
mod testing;
mod tools;
mod wheels;

use std::fmt;
use std::str::FromStr;

pub use cross_metal::{CrossMetal, cross_metal};
pub use cuda_compiler::cuda_compiler;
pub use error::{Error, Result};
pub use headers::{libclang, mlx_c_source};
pub use host::Host;
pub use layout::Layout;
pub use prefix::{NATIVE_DIR_VARIABLE, NativePrefix, ensure};

/// What MLX computes on; each has a prefix of its own, and a machine may have several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The processor.
    Cpu,
    /// NVIDIA GPUs.
    Cuda,
    /// Apple GPUs.
    Metal,
}

impl Backend {
    /// Metal on macOS, the CPU elsewhere.
    pub fn default_for(host: &Host) -> Self {
        if host.is_macos() {
            Self::Metal
        } else {
            Self::Cpu
        }
    }

    /// Its name in paths and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Self::Cpu, Self::Cuda, Self::Metal]
            .into_iter()
            .find(|backend| backend.name() == name)
            .ok_or_else(|| format!("unknown backend {name:?}; it is cpu, cuda or metal"))
    }
}
