//! Makes MLX arrays of a checkpoint's tensors, addressed by path (`loader.pp("self_attn")`).
//!
//! On a CPU an array borrows the memory-mapped file, and only a tensor whose dtype must change is written
//! anew; GPUs have copies. Metal could borrow whole pages, but tensors do not lie in such. For benchmarks, values can be drawn on the device instead.

use std::cell::Cell;
use std::sync::Arc;

use mlx_core::{Array, DeviceKind, Dtype, device};

use super::places::join;
use super::random::Random;
use super::{Checkpoint, Manifest, Stored};
use crate::{Error, Result};

/// Bytes of a file that are fetched ahead of the tensor that is copied: the next ones are mostly beside it.
const READ_AHEAD: usize = 64 << 20;
/// Bytes in front of a copied tensor: a cache line.
const LEAD: usize = 64;

/// A position in the tree of names, with the one dtype that all floats are given.
#[derive(Clone)]
pub(crate) struct Loader<'a> {
    source: &'a Source<'a>,
    path: String,
}

/// What all positions share.
pub(crate) struct Source<'a> {
    checkpoint: &'a Checkpoint,
    manifest: &'a Manifest,
    dtype: Dtype,
    /// Draws the values that the files do not have.
    random: Option<Random>,
    /// Whether matrices may be held in another form than the files'.
    may_encode: bool,
    /// Whether no array may lie in the mapped files.
    copies: bool,
    refused: Cell<bool>,
    loaded: Cell<u64>,
    spared: Cell<u64>,
}

impl<'a> Source<'a> {
    /// `dtype` is that of the activations; every float tensor is cast to it.
    pub(crate) fn new(
        checkpoint: &'a Checkpoint,
        manifest: &'a Manifest,
        dtype: Dtype,
        may_encode: bool,
    ) -> Self {
        Self {
            checkpoint,
            manifest,
            dtype,
            random: None,
            may_encode,
            copies: false,
            refused: Cell::new(false),
            loaded: Cell::new(0),
            spared: Cell::new(0),
        }
    }

    /// Leaves the files' values alone, of which only the headers count, and draws others.
    pub(crate) fn drawn(mut self, random: Random) -> Self {
        self.random = Some(random);
        self
    }

    /// Copies what would be used where it lies in the mapped files.
    pub(crate) fn copied(mut self, copies: bool) -> Self {
        self.copies = copies;
        self
    }

    /// Bytes of the tensors asked for so far, as stored.
    pub(crate) fn loaded(&self) -> u64 {
        self.loaded.get()
    }

    /// Whether a matrix that might have been held in another form could not be.
    pub(crate) fn has_refused(&self) -> bool {
        self.refused.get()
    }

    /// How many bytes fewer they are held in.
    pub(crate) fn spared(&self) -> u64 {
        self.spared.get()
    }
}

/// The positions of a model's parts.
pub(crate) struct Parts<'a> {
    /// Of the decoder.
    pub(crate) root: Loader<'a>,
    /// Of the embedding.
    pub(crate) embedding: Loader<'a>,
    /// Of the separate head, if there is one.
    pub(crate) head: Option<Loader<'a>>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(source: &'a Source<'a>) -> Self {
        let places = &source.manifest.places;
        let at = |path: &str| Loader::at(source, path);
        Self {
            root: at(&places.root),
            embedding: at(&places.embedding),
            head: places.head.as_deref().map(at),
        }
    }
}

impl<'a> Loader<'a> {
    /// At the absolute `path`.
    fn at(source: &'a Source<'a>, path: &str) -> Self {
        Self {
            source,
            path: path.to_owned(),
        }
    }

    /// One level down.
    pub(crate) fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            source: self.source,
            path: join(&self.path, name),
        }
    }

    /// Dtype of the activations.
    pub(crate) fn dtype(&self) -> Dtype {
        self.source.dtype
    }

    /// How the matrix at this path is stored.
    pub(crate) fn stored(&self) -> Result<Stored> {
        let stored = self.source.manifest.matrices.get(&self.path).copied();
        stored.ok_or_else(|| self.missing("weight"))
    }

    /// The tensor `name` as it is stored.
    pub(crate) fn raw(&self, name: &str) -> Result<Array> {
        let full = format!("{}.{name}", self.path);
        let checkpoint = self.source.checkpoint;
        let entry = checkpoint.get(&full).ok_or_else(|| self.missing(name))?;
        self.source
            .loaded
            .set(self.source.loaded.get() + entry.range.len() as u64);
        if let Some(random) = &self.source.random {
            return random.draw(&self.path, name, entry, self.stored().ok());
        }
        let file = checkpoint.file(entry);
        let users = Arc::strong_count(file);
        let range = entry.range.clone();
        if device::current()? == DeviceKind::Metal {
            // MLX copies on this thread alone, waiting for the disk at each page that is not there.
            file.will_need(range.start..range.end.saturating_add(READ_AHEAD));
        }
        let (shape, dtype) = (&entry.shape, entry.dtype);
        let mut array = Array::from_owned_bytes(file.clone(), range.clone(), shape, dtype)?;
        let mut is_copy = Arc::strong_count(file) == users;
        if self.source.copies && !is_copy {
            let stored = (**file).as_ref().get(range.clone()).unwrap_or_default();
            // Memory is used where it lies if something stands before it.
            let bytes = [&[0; LEAD], stored].concat();
            let behind = LEAD..bytes.len();
            array = Array::from_owned_bytes(Arc::new(bytes), behind, shape, dtype)?;
            is_copy = true;
        }
        if is_copy {
            // Without this, the model would be in memory twice.
            file.release(range);
        }
        Ok(array)
    }

    /// The float tensor `name` in the dtype of the activations.
    pub(crate) fn floats(&self, name: &str) -> Result<Array> {
        let array = self.raw(name)?;
        match array.dtype() == self.source.dtype {
            true => Ok(array),
            false => Ok(array.cast(self.source.dtype)?),
        }
    }

    /// Whether a matrix may be held in another form.
    pub(crate) fn may_encode(&self) -> bool {
        self.source.may_encode
    }

    /// Says that this matrix cannot be held in another form.
    pub(crate) fn refuse(&self) {
        self.source.refused.set(true);
    }

    /// Says that the tensor `name`, an array of `bytes` bytes that is gone, is held in `held` bytes: the
    /// system gets the memory back that it has of its mapped file.
    pub(crate) fn replaced(&self, name: &str, bytes: usize, held: usize) {
        let checkpoint = self.source.checkpoint;
        if let Some(entry) = checkpoint.get(&format!("{}.{name}", self.path)) {
            checkpoint.file(entry).release(entry.range.clone());
        }
        let spared = bytes.saturating_sub(held) as u64;
        self.source.spared.set(self.source.spared.get() + spared);
    }

    fn missing(&self, name: &str) -> Error {
        let full = format!("{}.{name}", self.path);
        Error::tensor(self.source.checkpoint.dir(), &full, "is missing")
    }
}
