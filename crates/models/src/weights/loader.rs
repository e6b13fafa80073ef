//! Makes MLX arrays of a checkpoint's tensors, addressed by the names that a model's description has.
//!
//! On a CPU an array borrows the memory-mapped file, and only a tensor whose dtype must change is written
//! anew; GPUs have copies. Metal could borrow whole pages, but tensors do not lie in such. For benchmarks,
//! values can be drawn on the device instead.

use std::cell::Cell;
use std::sync::Arc;

use arch::stacks::Fused;
use arch::{Mode, Scheme};
use mlx_core::{Array, DeviceKind, Dtype, device};

use super::places::join;
use super::random;
use super::{Checkpoint, Manifest, StackPlace, Stored, TensorEntry};
use crate::{Error, Result};

/// Bytes of a file that are fetched ahead of the tensor that is copied: the next ones are mostly beside it.
const READ_AHEAD: usize = 64 << 20;
/// Bytes in front of a copied tensor: a cache line.
const LEAD: usize = 64;

/// A matrix, or a tensor of matrices, whose parts are below its path.
pub(crate) struct Loader<'a> {
    source: &'a Source<'a>,
    path: String,
}

/// The matrices of experts.
pub(crate) enum StackLoader<'a> {
    /// One for each expert.
    Each(Vec<Loader<'a>>),
    /// All of them, with an axis of experts in front.
    One(Loader<'a>),
    /// Floats `[experts, rows, columns]`.
    Floats(Array),
    /// All of them packed without biases, `[experts, rows, ..]`.
    Packed {
        weight: Array,
        scales: Array,
        scheme: Scheme,
    },
}

/// Where a model's tensors come from, with the one dtype that all floats are given.
pub(crate) struct Source<'a> {
    checkpoint: &'a Checkpoint,
    manifest: &'a Manifest,
    dtype: Dtype,
    /// Whether values are drawn, because the files do not have them.
    draws: bool,
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
            draws: false,
            may_encode,
            copies: false,
            refused: Cell::new(false),
            loaded: Cell::new(0),
            spared: Cell::new(0),
        }
    }

    /// Leaves the files' values alone, of which only the headers count, and draws others.
    pub(crate) fn drawn(mut self) -> Self {
        self.draws = true;
        self
    }

    /// Copies what would be used where it lies in the mapped files.
    pub(crate) fn copied(mut self, copies: bool) -> Self {
        self.copies = copies;
        self
    }

    /// Dtype of the activations.
    pub(crate) fn dtype(&self) -> Dtype {
        self.dtype
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

    /// The matrix that the description calls `path`.
    pub(crate) fn matrix(&'a self, path: &str) -> Loader<'a> {
        self.at(join(&self.manifest.places.root, path))
    }

    /// The matrices of experts that the description calls `stack`.
    pub(crate) fn stack(&'a self, stack: &arch::Linear<String>) -> Result<StackLoader<'a>> {
        let place = self.manifest.stacks.get(&stack.weight);
        Ok(match place.ok_or_else(|| self.missing(&stack.weight))? {
            StackPlace::One(path) => StackLoader::One(self.at(path.clone())),
            StackPlace::Each(paths) => {
                StackLoader::Each(paths.iter().map(|path| self.at(path.clone())).collect())
            }
            StackPlace::Rows(fused) => {
                let all = self.read_part(&fused.tensor, fused, None, |entry| {
                    random::matrix(&fused.tensor, "weight", entry, Stored::Dense)
                })?;
                let (rows, first) = (stack.rows as i32, (fused.part * stack.rows) as i32);
                let ends = [all.dim(0), first + rows, all.dim(2)];
                StackLoader::Floats(self.cast(all.slice(&[0, first, 0], &ends)?)?)
            }
            StackPlace::Turned(fused) => {
                let all = self.read_part(&fused.tensor, fused, None, |entry| {
                    random::matrix(&fused.tensor, "weight", entry, Stored::Dense)
                })?;
                let rows = by_turns(&all, fused, 2)?.transpose(&[0, 2, 1])?;
                let rows = self.cast(rows)?.contiguous()?;
                StackLoader::Floats(self.instead_of(&fused.tensor, rows)?)
            }
            StackPlace::Blocks(fused) => self.blocks(fused)?,
        })
    }

    /// mxfp4 as gpt-oss is released: the bytes of a row are MLX's words. Rows that are there by turns are copied.
    fn blocks(&self, fused: &Fused) -> Result<StackLoader<'a>> {
        let (blocks, scales) = (fused.blocks(), fused.scales());
        let shape = &self.entry(&blocks)?.shape;
        let words = |last: i32| [&shape[..shape.len() - 1], &[last]].concat();
        // Four bytes a word.
        let as_words = (words(shape.last().map_or(0, |n| n / 4)), Dtype::Uint32);
        let weight = self.read_part(&blocks, fused, Some(as_words), |entry| {
            random::blocks(&fused.tensor, entry)
        })?;
        let weight = weight.flatten(2, 3)?;
        let stored = Stored::Quantized(Mode::Mxfp4.defaults());
        let exponents = self.read_part(&scales, fused, None, |entry| {
            random::matrix(&fused.tensor, "scales", entry, stored)
        })?;
        let (mut parts, scheme) = ([weight, exponents], Mode::Mxfp4.defaults());
        if fused.parts > 1 {
            for (part, name) in parts.iter_mut().zip([&blocks, &scales]) {
                *part = self.instead_of(name, by_turns(part, fused, 1)?.contiguous()?)?;
            }
        }
        let [weight, scales] = parts;
        Ok(StackLoader::Packed {
            weight,
            scales,
            scheme,
        })
    }

    /// The biases of `stack`, `[experts, rows]`, if it has such.
    pub(crate) fn stack_biases(&self, stack: &arch::Linear<String>) -> Result<Option<Array>> {
        let Some(name) = &stack.bias else {
            return Ok(None);
        };
        let place = self.manifest.stacks.get(&stack.weight);
        let place = place.and_then(StackPlace::biases);
        let (name, part, parts) = place.ok_or_else(|| self.missing(name))?;
        let fused = Fused {
            tensor: name,
            part,
            parts,
        };
        let all = self.read_part(&fused.tensor, &fused, None, |entry| {
            random::vector(&fused.tensor, entry, 0.0)
        })?;
        Ok(Some(self.cast(by_turns(&all, &fused, 1)?)?.contiguous()?))
    }

    /// `made` of the tensor `name`, computed now: the system gets the memory back that it has of the mapped file.
    fn instead_of(&self, name: &str, made: Array) -> Result<Array> {
        made.eval()?;
        if let (Some(entry), false) = (self.checkpoint.get(name), self.draws) {
            self.checkpoint.file(entry).release(entry.range.clone());
        }
        Ok(made)
    }

    /// The tensor `name`, in which `fused` is a part, and which counts once for all parts.
    fn read_part(
        &self,
        name: &str,
        fused: &Fused,
        seen_as: Option<(Vec<i32>, Dtype)>,
        draw: impl FnOnce(&TensorEntry) -> Result<Array>,
    ) -> Result<Array> {
        let before = self.loaded.get();
        let all = self.read_as(name, seen_as, draw)?;
        if fused.part > 0 {
            self.loaded.set(before);
        }
        Ok(all)
    }

    /// The embedding.
    pub(crate) fn embedding(&'a self) -> Loader<'a> {
        self.at(self.manifest.places.embedding.clone())
    }

    /// The separate head, if there is one.
    pub(crate) fn head(&'a self) -> Option<Loader<'a>> {
        self.manifest.places.head.clone().map(|path| self.at(path))
    }

    fn at(&'a self, path: String) -> Loader<'a> {
        Loader { source: self, path }
    }

    /// The vector that the description calls `name`, as it is stored. Drawn ones are around `around`.
    pub(crate) fn vector(&self, name: &str, around: f32) -> Result<Array> {
        let full = join(&self.manifest.places.root, name);
        self.read(&full, |entry| random::vector(&full, entry, around))
    }

    /// Whether norms that are described as stored less one are stored whole.
    pub(crate) fn has_whole_norms(&self) -> bool {
        self.manifest.converted == Some(true)
    }

    /// `array` in the dtype of the activations.
    pub(crate) fn cast(&self, array: Array) -> Result<Array> {
        match array.dtype() == self.dtype {
            true => Ok(array),
            false => Ok(array.cast(self.dtype)?),
        }
    }

    /// The tensor `name`, or what is drawn in its place.
    fn read(&self, name: &str, draw: impl FnOnce(&TensorEntry) -> Result<Array>) -> Result<Array> {
        self.read_as(name, None, draw)
    }

    /// The same with its bytes as an array of another shape and dtype.
    fn read_as(
        &self,
        name: &str,
        seen_as: Option<(Vec<i32>, Dtype)>,
        draw: impl FnOnce(&TensorEntry) -> Result<Array>,
    ) -> Result<Array> {
        let checkpoint = self.checkpoint;
        let entry = self.entry(name)?;
        self.loaded
            .set(self.loaded.get() + entry.range.len() as u64);
        if self.draws {
            return draw(entry);
        }
        let file = checkpoint.file(entry);
        let users = Arc::strong_count(file);
        let range = entry.range.clone();
        if device::current()? == DeviceKind::Metal {
            // MLX copies on this thread alone, waiting for the disk at each page that is not there.
            file.will_need(range.start..range.end.saturating_add(READ_AHEAD));
        }
        let (shape, dtype) = seen_as.unwrap_or_else(|| (entry.shape.clone(), entry.dtype));
        let shape = &shape;
        let mut array = Array::from_owned_bytes(file.clone(), range.clone(), shape, dtype)?;
        let mut is_copy = Arc::strong_count(file) == users;
        if self.copies && !is_copy {
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

    fn entry(&self, name: &str) -> Result<&'a TensorEntry> {
        let entry = self.checkpoint.get(name);
        entry.ok_or_else(|| self.missing(name))
    }

    fn missing(&self, name: &str) -> Error {
        Error::tensor(self.checkpoint.dir(), name, "is missing")
    }
}

/// Of the parts that `all` has by turns along `axis`, the one that is `fused`.
fn by_turns(all: &Array, fused: &Fused, axis: usize) -> Result<Array> {
    if fused.parts == 1 {
        return Ok(all.clone());
    }
    let mut start = vec![0; all.ndim()];
    let mut strides = vec![1; all.ndim()];
    (start[axis], strides[axis]) = (fused.part as i32, fused.parts as i32);
    Ok(all.slice_strided(&start, all.shape(), &strides)?)
}

impl Loader<'_> {
    /// How the matrix is stored.
    pub(crate) fn stored(&self) -> Result<Stored> {
        let stored = self.source.manifest.matrices.get(&self.path).copied();
        stored.ok_or_else(|| self.source.missing(&self.name("weight")))
    }

    /// Its part `part` as it is stored.
    pub(crate) fn raw(&self, part: &str) -> Result<Array> {
        let stored = self.stored()?;
        self.source.read(&self.name(part), |entry| {
            random::matrix(&self.path, part, entry, stored)
        })
    }

    /// Its part `part`, which is floats, in the dtype of the activations.
    pub(crate) fn floats(&self, part: &str) -> Result<Array> {
        self.source.cast(self.raw(part)?)
    }

    /// Whether a matrix may be held in another form.
    pub(crate) fn may_encode(&self) -> bool {
        self.source.may_encode
    }

    /// Says that this matrix cannot be held in another form.
    pub(crate) fn refuse(&self) {
        self.source.refused.set(true);
    }

    /// Says that its part `part`, an array of `bytes` bytes that is gone, is held in `held` bytes: the
    /// system gets the memory back that it has of its mapped file.
    pub(crate) fn replaced(&self, part: &str, bytes: usize, held: usize) {
        let checkpoint = self.source.checkpoint;
        if let Some(entry) = checkpoint.get(&self.name(part)) {
            checkpoint.file(entry).release(entry.range.clone());
        }
        let spared = bytes.saturating_sub(held) as u64;
        self.source.spared.set(self.source.spared.get() + spared);
    }

    fn name(&self, part: &str) -> String {
        format!("{}.{part}", self.path)
    }
}
