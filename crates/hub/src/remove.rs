//! Taking a model out of the cache.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::cache::{Cache, entries, files};
use crate::error::at;
use crate::{Error, Name, Result};

/// What went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Bytes that are free now.
    pub bytes: u64,
    /// Snapshots that were removed.
    pub snapshots: usize,
}

impl Cache {
    /// Removes a model: one revision of it where the name has one, else all. What other revisions share stays.
    ///
    /// # Errors
    /// Where it is not there, or cannot be removed.
    pub fn remove(&self, name: &Name) -> Result<Removed> {
        let repository = self.repository(name);
        let absent = || {
            Error::Refused(format!(
                "{name} is not in the cache {}",
                self.root().display()
            ))
        };
        if !repository.dir.is_dir() {
            return Err(absent());
        }
        let before = bytes(&repository.dir)?;
        if !name.has_revision() {
            let snapshots = entries(&repository.dir.join("snapshots"))?.len();
            fs::remove_dir_all(&repository.dir).map_err(at(&repository.dir))?;
            if repository.locks.is_dir() {
                fs::remove_dir_all(&repository.locks).map_err(at(&repository.locks))?;
            }
            return Ok(Removed {
                bytes: before,
                snapshots,
            });
        }
        let commit = repository.commit(name.revision())?.ok_or_else(absent)?;
        let reference = repository.reference(name.revision());
        if reference.is_file() {
            fs::remove_file(&reference).map_err(at(&reference))?;
        }
        // Another name of the same commit keeps it.
        if repository.refs()?.iter().any(|(_, other)| *other == commit) {
            return Ok(Removed {
                bytes: 0,
                snapshots: 0,
            });
        }
        let snapshot = repository.snapshot(&commit);
        if snapshot.is_dir() {
            fs::remove_dir_all(&snapshot).map_err(at(&snapshot))?;
        }
        let used: HashSet<_> = files(&repository.dir.join("snapshots"))?
            .iter()
            .filter_map(|link| Some(fs::read_link(link).ok()?.file_name()?.to_owned()))
            .collect();
        for blob in entries(&repository.dir.join("blobs"))? {
            let stem = blob.file_stem().map(ToOwned::to_owned);
            if stem.is_some_and(|stem| !used.contains(&stem)) {
                fs::remove_file(&blob).map_err(at(&blob))?;
            }
        }
        let after = bytes(&repository.dir)?;
        if entries(&repository.dir.join("snapshots"))?.is_empty() {
            fs::remove_dir_all(&repository.dir).map_err(at(&repository.dir))?;
        }
        Ok(Removed {
            bytes: before - after.min(before),
            snapshots: 1,
        })
    }
}

/// Bytes of the files in a folder; links have none.
fn bytes(folder: &Path) -> Result<u64> {
    let files = files(folder)?;
    let sizes = files
        .iter()
        .filter_map(|path| fs::symlink_metadata(path).ok());
    Ok(sizes
        .filter(|meta| meta.is_file())
        .map(|meta| meta.len())
        .sum())
}
