//! Unpacks the pinned mlx-c source into `vendor/mlx-c`.
//!
//! The source comes with a published crate, so cargo fetches it and checks its checksum against
//! `vendor/mlx-c-crate/Cargo.lock`; nothing here trusts the network.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::build::Build;
use crate::command::{self, capture};
use crate::error::{Error, Result};
use crate::files;

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
    /// The folder of the mlx-c source; unpacks it unless the pinned version is there.
    pub(crate) fn mlx_c(&self) -> Result<PathBuf> {
        let target = self.layout.mlx_c();
        let lock = files::sha256(&self.layout.mlx_c_manifest().with_file_name("Cargo.lock"))?;
        let stamp = target.join(".unpacked");
        if std::fs::read_to_string(&stamp).is_ok_and(|found| found == lock) {
            return Ok(target);
        }
        self.say("unpacking the mlx-c source");
        // Without the network first: asking the registry takes seconds and may not be possible.
        let manifest = match self.cargo_metadata(true) {
            Ok(manifest) => manifest,
            Err(_) => self.cargo_metadata(false)?,
        };
        let source = manifest.with_file_name("src").join("mlx-c");
        let temporary = files::temp_beside(&target)?;
        let fresh = temporary.path().join("fresh");
        files::copy_dir(&source, &fresh)?;
        files::write_atomic(&fresh.join(".unpacked"), lock.as_bytes())?;
        files::replace_dir(&fresh, &target)?;
        Ok(target)
    }

    /// Where cargo unpacked the crate that carries the source.
    fn cargo_metadata(&self, offline: bool) -> Result<PathBuf> {
        let failed = |reason: String| Error::FetchMlxC { reason };
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--manifest-path",
        ]);
        command.arg(self.layout.mlx_c_manifest());
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
}

/// Why cargo failed, in one line.
fn cargo_reason(said: &str) -> String {
    if said.contains("spurious network error") || said.contains("Could not resolve host") {
        return "the crate registry cannot be reached".to_owned();
    }
    command::reason(said, "cargo said nothing")
}
