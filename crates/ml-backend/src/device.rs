//! What a program asks for and is told: devices and element types.
//!
//! They are MLX's, of which there will be more; these types are this crate's own, so that a version of
//! the crates below changes nothing for a program.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::Error;

/// What a user asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Device {
    /// The best there is.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

/// What a model runs on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// An Apple GPU.
    Metal,
}

/// The type of a model's floats.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE half precision: 11 bits of precision, up to 65504.
    Float16,
    /// The upper half of a float32.
    Bfloat16,
    /// IEEE single precision.
    Float32,
}

/// An opened device.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// What it is.
    pub kind: DeviceKind,
    /// The maker's name for it.
    pub name: String,
    /// Bytes of RAM that this process may use, or of the GPU's own memory.
    pub memory_bytes: u64,
    /// The bytes that Metal recommends to stay below.
    pub recommended_working_set: Option<u64>,
    /// The version of MLX that was loaded, such as `0.32.2`.
    pub mlx_version: String,
    /// The native library that was loaded.
    pub library: PathBuf,
}

impl Device {
    pub(crate) fn choice(self) -> mlx_core::device::Choice {
        use mlx_core::device::Choice;
        match self {
            Self::Auto => Choice::Auto,
            Self::Cpu => Choice::Cpu,
            Self::Cuda => Choice::Cuda,
            Self::Metal => Choice::Metal,
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    /// Reads `auto`, `cpu`, `cuda` or `metal`.
    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            "metal" => Ok(Self::Metal),
            _ => Err(Error::InvalidOption {
                name: "device",
                value: format!("'{name}'"),
                expected: "auto, cpu, cuda or metal",
            }),
        }
    }
}

impl DeviceKind {
    pub(crate) fn of(kind: mlx_core::DeviceKind) -> Self {
        match kind {
            mlx_core::DeviceKind::Cpu => Self::Cpu,
            mlx_core::DeviceKind::Cuda => Self::Cuda,
            mlx_core::DeviceKind::Metal => Self::Metal,
        }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        })
    }
}

impl Dtype {
    pub(crate) fn of_model(self) -> mlx_core::Dtype {
        match self {
            Self::Float16 => mlx_core::Dtype::Float16,
            Self::Bfloat16 => mlx_core::Dtype::Bfloat16,
            Self::Float32 => mlx_core::Dtype::Float32,
        }
    }

    /// A model's floats are of one of three types: its files were checked.
    pub(crate) fn of(dtype: mlx_core::Dtype) -> Self {
        match dtype {
            mlx_core::Dtype::Float16 => Self::Float16,
            mlx_core::Dtype::Bfloat16 => Self::Bfloat16,
            _ => Self::Float32,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Float16 => "float16",
            Self::Bfloat16 => "bfloat16",
            Self::Float32 => "float32",
        })
    }
}

impl DeviceInfo {
    pub(crate) fn of(device: &mlx_core::device::DeviceInfo) -> Self {
        Self {
            kind: DeviceKind::of(device.kind),
            name: device.name.clone(),
            memory_bytes: device.memory_bytes,
            recommended_working_set: device.recommended_working_set,
            mlx_version: device.mlx_version.clone(),
            library: device.library.clone(),
        }
    }
}
