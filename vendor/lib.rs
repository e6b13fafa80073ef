//! What the native library is made from, pinned by version and checksum; nothing of it is in git.
//!
//! A package of its own and not files beside others: so the pins are there wherever cargo puts the
//! source of a dependency.

/// Wheels from the Python package index, by SHA-256: MLX with NVIDIA's libraries, and the build tools.
pub const WHEELS: &str = include_str!("wheels.toml");

/// The manifest with which cargo fetches the source of mlx-c.
pub const MLX_C_MANIFEST: &str = include_str!("mlx-c.toml");

/// Its lock file, which has the checksum.
pub const MLX_C_LOCK: &str = include_str!("mlx-c.lock");
