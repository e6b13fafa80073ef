//! The safetensors files of a model, memory-mapped, and which tensor of them a name means.
//!
//! Every tensor's byte range lies inside its file and has the size that its dtype and shape ask for.
//! What is wrong with a single tensor is said by [`Checkpoint::find`], to whoever wants that tensor.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arch::Config;
use mlx_core::Dtype;
use mlx_core::io::MappedFile;

use super::files::{FileSet, FileSets};
use super::{Manifest, header};
use crate::{Error, Result};

/// Where a tensor lies.
#[derive(Clone, Debug)]
pub(crate) struct TensorEntry {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<i32>,
    /// Index into the checkpoint's files.
    pub(crate) file: usize,
    /// Bytes inside that file.
    pub(crate) range: Range<usize>,
}

/// What one file has under a name: a tensor, or one that MLX cannot hold, and why.
struct Stored {
    file: usize,
    tensor: std::result::Result<TensorEntry, String>,
}

/// All tensors of a set of files.
pub(crate) struct Checkpoint {
    dir: PathBuf,
    files: Vec<(PathBuf, Arc<MappedFile>)>,
    /// By name, in order of the files; more than one only where no index says which of them counts.
    tensors: HashMap<String, Vec<Stored>>,
}

impl Checkpoint {
    /// Maps and validates the files of `dir` that hold the model of `config`, and checks them against it.
    pub(crate) fn open(dir: &Path, config: &Config) -> Result<(Self, Manifest)> {
        let FileSets { sets, problem } = FileSets::of(dir)?;
        let mut refusal = problem;
        for set in &sets {
            let checkpoint = match Self::of(dir, set) {
                Ok(checkpoint) => checkpoint,
                // A damaged file is to be fetched again, and not to be passed over.
                Err(damaged) => return Err(refusal.unwrap_or(damaged)),
            };
            match Manifest::check(config, &checkpoint) {
                Ok(manifest) => return Ok((checkpoint, manifest)),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or_else(|| Error::read(dir, "has no weights")))
    }

    fn of(dir: &Path, set: &FileSet) -> Result<Self> {
        let mut checkpoint = Self {
            dir: dir.to_owned(),
            files: Vec::new(),
            tensors: HashMap::new(),
        };
        for path in &set.paths {
            checkpoint.add_file(path)?;
        }
        for (name, path) in &set.index {
            let file = checkpoint.files.iter().position(|(p, _)| p == path);
            let stored = checkpoint.tensors.get_mut(name);
            if let (Some(file), Some(stored)) = (file, stored)
                && stored.iter().any(|s| s.file == file)
            {
                stored.retain(|s| s.file == file);
            }
        }
        Ok(checkpoint)
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(|e| Error::read(path, e))?;
        let map = MappedFile::new(&file).map_err(|e| Error::read(path, e))?;
        let file = self.files.len();
        for described in header::read(path, (*map).as_ref())? {
            let range = described.range;
            let tensor = described.kind.map(|(dtype, shape)| TensorEntry {
                dtype,
                shape,
                file,
                range,
            });
            let stored = self.tensors.entry(described.name).or_default();
            stored.push(Stored { file, tensor });
        }
        self.files.push((path.to_owned(), map));
        Ok(())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn file_count(&self) -> usize {
        self.files.len()
    }

    /// Whether there is anything of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// What there is below `path`: for `layer`, `weight` of a tensor `layer.weight`.
    pub(crate) fn below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        let names = self.tensors.keys();
        names.filter_map(move |name| name.strip_prefix(path)?.strip_prefix('.'))
    }

    /// The tensor `name`, for somebody who will use it.
    ///
    /// # Errors
    /// When MLX cannot hold it, or files hold several that differ and no index says which counts.
    pub(crate) fn find(&self, name: &str) -> Result<Option<&TensorEntry>> {
        let Some((first, others)) = self.tensors.get(name).and_then(|s| s.split_first()) else {
            return Ok(None);
        };
        let bad = |stored: &Stored, problem: &str| {
            Error::tensor(&self.files[stored.file].0, name, problem)
        };
        let tensor = first.tensor.as_ref().map_err(|why| bad(first, why))?;
        for other in others {
            let same = other.tensor.as_ref().map_err(|why| bad(other, why))?;
            if !self.are_equal(tensor, same) {
                let problem = format!(
                    "is also in {}; remove the file that does not belong to this model",
                    self.files[first.file].0.display()
                );
                return Err(bad(other, &problem));
            }
        }
        Ok(Some(tensor))
    }

    /// The tensor `name`, of which [`Checkpoint::find`] had nothing to say.
    pub(crate) fn get(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.get(name)?.first()?.tensor.as_ref().ok()
    }

    pub(crate) fn file(&self, entry: &TensorEntry) -> &Arc<MappedFile> {
        &self.files[entry.file].1
    }

    /// Whether two tensors are the same: dtype, shape and every byte. Reads them up to the first
    /// difference.
    pub(crate) fn are_equal(&self, a: &TensorEntry, b: &TensorEntry) -> bool {
        a.dtype == b.dtype && a.shape == b.shape && self.bytes(a) == self.bytes(b)
    }

    fn bytes(&self, entry: &TensorEntry) -> &[u8] {
        let all: &[u8] = (**self.file(entry)).as_ref();
        &all[entry.range.clone()]
    }
}
