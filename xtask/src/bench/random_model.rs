//! Checkpoints of random weights on this disk, each made once.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bench_shapes::{Shape, Weights, checkpoint, total_bytes};

use super::machine::check_disk;

/// The directory of the random checkpoint, made if it is not there.
///
/// # Errors
/// When the disk is too small or cannot be written.
pub(crate) fn ensure(shape: &Shape, weights: Weights, models: &Path) -> Result<PathBuf> {
    let dir = models.join(format!("{}-{weights}", shape.name));
    if !dir.join(checkpoint::WEIGHTS_FILE).exists() {
        check_disk(models, total_bytes(&shape.tensors(weights)))?;
        eprintln!("writing random weights: {}", dir.display());
        checkpoint::write(&dir, shape, weights)?;
    }
    Ok(dir)
}
