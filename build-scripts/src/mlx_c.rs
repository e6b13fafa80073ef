//! Unpacks the pinned mlx-c source.
//!
//! The source comes with a published crate, so cargo fetches it and checks its checksum against
//! `vendor/mlx-c.lock`; nothing here trusts the network. The manifest that cargo reads is written out
//! when it is needed: in a package it would be a package of its own, which `cargo vendor` and
//! `cargo package` leave behind.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::build::Build;
use crate::command::{self, capture};
use crate::error::{Error, IoContext, Result};
use crate::{files, stamp};

/// The crate that packages upstream's source, under `src/mlx-c`.
const CRATE: &str = "mlx-sys";

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
}

impl Build<'_> {
    /// Where the mlx-c source is, or will be.
    pub(crate) fn mlx_c_folder(&self) -> PathBuf {
        let digest = stamp::of(&[("lock", vendor::MLX_C_LOCK.as_bytes())]);
        self.cache.sources().join(format!("mlx-c-{digest}"))
    }

    /// The folder of the mlx-c source; unpacks it unless it is there. Complete or absent.
    pub(crate) fn mlx_c(&self) -> Result<PathBuf> {
        let target = self.mlx_c_folder();
        if target.is_dir() {
            return Ok(target);
        }
        self.say("unpacking the mlx-c source");
        let temporary = files::temp_beside(&target)?;
        let package = temporary.path().join("package");
        files::create_dir(&package)?;
        let files = [
            ("Cargo.toml", vendor::MLX_C_MANIFEST),
            ("Cargo.lock", vendor::MLX_C_LOCK),
            ("lib.rs", ""),
        ];
        for (name, content) in files {
            let file = package.join(name);
            fs::write(&file, content).at("cannot write", &file)?;
        }
        // Without the network first: asking the registry takes seconds and may not be possible.
        let manifest = match cargo_metadata(&package, true) {
            Ok(manifest) => manifest,
            Err(_) => cargo_metadata(&package, false)?,
        };
        let source = manifest.with_file_name("src").join("mlx-c");
        let fresh = temporary.path().join("fresh");
        files::copy_dir(&source, &fresh)?;
        files::publish(&fresh, &target)?;
        Ok(target)
    }
}

/// Where cargo unpacked the crate that carries the source.
fn cargo_metadata(package: &Path, offline: bool) -> Result<PathBuf> {
    let failed = |reason: String| Error::FetchMlxC { reason };
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // In its folder: the settings of a project that has its dependencies vendored are not for it.
    command.current_dir(package);
    command.args(["metadata", "--format-version=1", "--locked"]);
    if offline {
        command.arg("--offline");
    }
    let finished = capture(&mut command).map_err(|e| failed(e.to_string()))?;
    if !finished.ok {
        return Err(failed(cargo_reason(&finished.stderr)));
    }
    let metadata: Metadata =
        serde_json::from_str(&finished.stdout).map_err(|e| failed(e.to_string()))?;
    metadata
        .packages
        .into_iter()
        .find(|package| package.name == CRATE)
        .map(|package| package.manifest_path)
        .ok_or_else(|| failed(format!("cargo metadata does not list the crate {CRATE}")))
}

/// Why cargo failed, in one line.
fn cargo_reason(said: &str) -> String {
    if said.contains("spurious network error") || said.contains("Could not resolve host") {
        return "the crate registry cannot be reached".to_owned();
    }
    command::reason(said, "cargo said nothing")
}
