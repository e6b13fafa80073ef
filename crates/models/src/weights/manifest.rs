//! Which tensors a model is made of, found in the checkpoint and compared with it. Names are those
//! of the checkpoint, so an error names what a user can look up.

use std::collections::BTreeMap;

use arch::{Config, Mode, Part, Scheme};
use mlx_core::Dtype;

use super::places::{Places, join};
use super::{Checkpoint, TensorEntry, packing};
use crate::{Error, Result};

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Stored {
    /// Floats `[out, in]`.
    Dense,
    /// Packed words `[out, in * bits / 32]` with scales and, for affine, biases `[out, in / group]`.
    Quantized(Scheme),
}

/// The checked tensors of one model.
#[derive(Debug)]
pub(crate) struct Manifest {
    /// Where the parts of the model are.
    pub(crate) places: Places,
    /// How each matrix is stored, by path.
    pub(crate) matrices: BTreeMap<String, Stored>,
    /// Every tensor that is used, by name.
    pub(crate) tensors: Vec<String>,
    /// Logical number of weights, quantized or not; a tied head counts once.
    pub(crate) parameters: u64,
    /// Bytes of the tensors that are used, as stored.
    pub(crate) bytes: u64,
    /// Of those, the elements of floats, and their bytes.
    pub(crate) floats: (u64, u64),
    /// How matrices are quantized, each way with the number of weights that are.
    packed: Vec<(Scheme, u64)>,
    /// Dtype of the activations: that of the embedding, or of its scales.
    pub(crate) dtype: Dtype,
}

impl Manifest {
    /// Checks `checkpoint` against `config`.
    pub(crate) fn check(config: &Config, checkpoint: &Checkpoint) -> Result<Self> {
        let mut manifest = Self {
            places: Places::find(config, checkpoint)?,
            matrices: BTreeMap::new(),
            tensors: Vec::new(),
            parameters: 0,
            bytes: 0,
            floats: (0, 0),
            packed: Vec::new(),
            dtype: Dtype::Bfloat16,
        };
        Check {
            config,
            checkpoint,
            manifest: &mut manifest,
        }
        .run()?;
        manifest.dtype = activation_dtype(config, &manifest, checkpoint)?;
        Ok(manifest)
    }

    /// How most of the quantized weights are quantized.
    pub(crate) fn scheme(&self) -> Option<Scheme> {
        let most = self.packed.iter().max_by_key(|(_, weights)| *weights);
        most.map(|(scheme, _)| *scheme)
    }
}

struct Check<'a> {
    config: &'a Config,
    checkpoint: &'a Checkpoint,
    manifest: &'a mut Manifest,
}

impl Check<'_> {
    fn run(&mut self) -> Result<()> {
        let config = self.config;
        let model = &config.model;
        let places = self.manifest.places.clone();
        let (table, head) = (&model.embedding.table, &model.head);
        for part in model.parts() {
            match part {
                Part::Matrix(m) if m.weight == table.weight => {
                    self.matrix(&places.embedding, m.rows, m.columns)?;
                }
                Part::Matrix(m) => {
                    self.matrix(&join(&places.root, &m.weight), m.rows, m.columns)?;
                }
                Part::Bias(name, length) => self.vector(&join(&places.root, name), length)?,
                Part::Norm(norm) => self.vector(&join(&places.root, &norm.weight), norm.width)?,
            }
        }
        if let Some(path) = &places.head {
            self.matrix(path, head.rows, head.columns)?;
        }
        Ok(())
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<()> {
        self.tensor(name, &[len], &FLOATS)?;
        self.manifest.parameters += len as u64;
        Ok(())
    }

    /// A matrix of `rows` outputs and `columns` inputs, dense or quantized.
    fn matrix(&mut self, path: &str, rows: usize, columns: usize) -> Result<()> {
        let stored = packing::stored(self.config, self.checkpoint, path, rows, columns);
        let stored = stored.and_then(|stored| {
            self.parts_of(path, rows, columns, stored)?;
            Ok(stored)
        });
        let stored = stored.map_err(|error| {
            packing::foreign(self.config, self.checkpoint, path).unwrap_or(error)
        })?;
        let weights = (rows * columns) as u64;
        if let Stored::Quantized(scheme) = stored {
            let packed = &mut self.manifest.packed;
            match packed.iter_mut().find(|(other, _)| *other == scheme) {
                Some((_, count)) => *count += weights,
                None => packed.push((scheme, weights)),
            }
        }
        self.manifest.matrices.insert(path.to_owned(), stored);
        self.manifest.parameters += weights;
        Ok(())
    }

    /// The tensors of a matrix that is stored like this.
    fn parts_of(&mut self, path: &str, rows: usize, columns: usize, stored: Stored) -> Result<()> {
        let weight = format!("{path}.weight");
        let Stored::Quantized(scheme) = stored else {
            return self.tensor(&weight, &[rows, columns], &FLOATS);
        };
        let (group, bits) = (scheme.group_size as usize, scheme.bits as usize);
        self.tensor(&weight, &[rows, columns * bits / 32], &[Dtype::Uint32])?;
        let groups = [rows, columns / group];
        let scales = format!("{path}.scales");
        if scheme.mode != Mode::Affine {
            return self.tensor(&scales, &groups, &[Dtype::Uint8]);
        }
        self.tensor(&scales, &groups, &FLOATS)?;
        self.tensor(&format!("{path}.biases"), &groups, &FLOATS)
    }

    fn tensor(&mut self, name: &str, shape: &[usize], dtypes: &[Dtype]) -> Result<()> {
        let dir = self.checkpoint.dir();
        let entry = self.checkpoint.find(name)?.ok_or_else(|| {
            Error::tensor(
                dir,
                name,
                "is missing; the weights do not belong to this config.json, or are incomplete",
            )
        })?;
        if !entry
            .shape
            .iter()
            .map(|&n| n as usize)
            .eq(shape.iter().copied())
        {
            let problem = format!(
                "has shape {:?}; config.json asks for {shape:?}",
                entry.shape
            );
            return Err(Error::tensor(dir, name, problem));
        }
        if !dtypes.contains(&entry.dtype) {
            let expected: Vec<String> = dtypes.iter().map(ToString::to_string).collect();
            let problem = format!(
                "has dtype {}; expected {}",
                entry.dtype,
                expected.join(" or ")
            );
            return Err(Error::tensor(dir, name, problem));
        }
        let bytes = entry.range.len() as u64;
        self.manifest.bytes += bytes;
        if entry.dtype.is_floating() {
            let (elements, total) = &mut self.manifest.floats;
            *elements += bytes / entry.dtype.size() as u64;
            *total += bytes;
        }
        self.manifest.tensors.push(name.to_owned());
        Ok(())
    }
}

const FLOATS: [Dtype; 3] = [Dtype::Bfloat16, Dtype::Float16, Dtype::Float32];

/// Activations have the dtype of the embedding; where that is packed, of its scales; and where
/// those are bytes (mxfp4, mxfp8, nvfp4), of the last norm.
fn activation_dtype(
    config: &Config,
    manifest: &Manifest,
    checkpoint: &Checkpoint,
) -> Result<Dtype> {
    let places = &manifest.places;
    let embedding = |name| format!("{}.{name}", places.embedding);
    let norm = join(&places.root, &config.model.norm.weight);
    [embedding("weight"), embedding("scales"), norm]
        .iter()
        .filter_map(|name| checkpoint.get(name))
        .map(|entry: &TensorEntry| entry.dtype)
        .find(|dtype| dtype.is_floating())
        .ok_or_else(|| Error::tensor(checkpoint.dir(), &places.embedding, "has no floats"))
}
