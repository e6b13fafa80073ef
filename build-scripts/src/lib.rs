//! Turns what is pinned into a native prefix: libmlx from a wheel, and beside it one shared library
//! with mlx-c and the project's own C++ bridge.
//!
//! Two programs call it, `crates/mlx-sys/build.rs` and `cargo xtask build`, perhaps at the same
//! time; a file lock makes the second wait for the first. Every step puts its result in place with
//! a rename, so a build that was interrupted is taken up again where it was.
//!
//! Only ordinary package clients fetch anything (pip and cargo), only what is pinned by SHA-256 is
//! used, and nothing is written outside the user's cache, so no step needs root, and the source may
//! be read-only. What was fetched stays: a second build works without the network.

#[cfg(not(unix))]
compile_error!("MLX runs on Linux and macOS; on Windows use WSL");

mod bridge;
mod build;
mod cache;
mod command;
mod compiler;
mod cuda_compiler;
mod error;
mod files;
mod glibc;
mod headers;
mod lock;
mod machine;
mod metal_wheels;
mod mlx_c;
mod pins;
mod prefix;
mod prune;
mod python;
mod stamp;
mod target;
#[cfg(test)]
mod testing;
mod tools;
mod wheels;
mod zig;

use std::fmt;
use std::str::FromStr;

pub use cache::{CACHE_VARIABLE, Cache};
pub use cuda_compiler::{cuda_compiler, cuda_compiler_if_there};
pub use error::{Error, Result};
pub use headers::{libclang, mlx_c_source};
pub use machine::{Machine, Version};
pub use metal_wheels::{MetalWheel, metal_wheels};
pub use prefix::{COMPILER_VARIABLES, NATIVE_DIR_VARIABLE, Native, NativePrefix, ensure, place};
pub use prune::{Entry, entries, prune};
pub use zig::mac_linker;

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
    pub fn default_for(machine: &Machine) -> Self {
        if machine.is_macos() {
            Self::Metal
        } else {
            Self::Cpu
        }
    }

    /// All that a machine may have.
    pub fn all_for(machine: &Machine) -> &'static [Self] {
        if machine.is_macos() {
            &[Self::Metal]
        } else {
            &[Self::Cpu, Self::Cuda]
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
