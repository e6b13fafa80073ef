//! Where everything lives below `vendor/`.
//!
//! Sources, tools and built libraries stay here rather than in cargo's `target`, so `cargo clean`
//! does not cost a download, and a crate outside the workspace shares them.

use std::path::{Path, PathBuf};

use crate::Backend;

/// The folders of one checkout.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The checkout that this crate was compiled from.
    pub fn of_this_repository() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self::at(here.parent().unwrap_or(here))
    }

    /// The checkout at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder of all that is below.
    pub fn vendor(&self) -> PathBuf {
        self.root.join("vendor")
    }

    /// The pinned wheels.
    pub fn pins(&self) -> PathBuf {
        self.vendor().join("pins.toml")
    }

    /// The manifest that pins the mlx-c source.
    pub fn mlx_c_manifest(&self) -> PathBuf {
        self.vendor().join("mlx-c-crate").join("Cargo.toml")
    }

    /// The C++ bridge and the CMake project that builds it together with mlx-c.
    pub fn csrc(&self) -> PathBuf {
        self.root.join("crates").join("mlx-sys").join("csrc")
    }

    /// The unpacked mlx-c source.
    pub fn mlx_c(&self) -> PathBuf {
        self.vendor().join("mlx-c")
    }

    /// Wheels as they came.
    pub fn downloads(&self) -> PathBuf {
        self.vendor().join("downloads")
    }

    /// Unpacked build tools, one folder each.
    pub fn tools(&self) -> PathBuf {
        self.vendor().join("tools")
    }

    /// The folder of all prefixes.
    pub fn prefixes(&self) -> PathBuf {
        self.vendor().join("prefix")
    }

    /// The prefix of one backend.
    pub fn prefix(&self, backend: Backend) -> PathBuf {
        self.prefixes().join(backend.name())
    }
}
