//! Which tensors a model is made of, found in the checkpoint and compared with it. Names are those
//! of the checkpoint, so an error names what a user can look up.

use std::collections::BTreeMap;

use arch::stacks::Fused;
use arch::{Config, Convolution, Linear, Mode, Part, Scheme, stacks};
use mlx_core::Dtype;

use super::places::{Places, join};
use super::{Checkpoint, StackPlace, TensorEntry, packing};
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
    /// Where each stack of matrices is, by the path that the description gives it.
    pub(crate) stacks: BTreeMap<String, StackPlace>,
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
    /// Where the model has convolutions, whether mlx-lm wrote the file: their weights are laid out as MLX has
    /// them, and norms that others store less one are stored whole. mlx-lm tells by the former, too.
    pub(crate) converted: Option<bool>,
}

impl Manifest {
    /// Checks `checkpoint` against `config`.
    pub(crate) fn check(config: &Config, checkpoint: &Checkpoint) -> Result<Self> {
        let mut manifest = Self {
            places: Places::find(config, checkpoint)?,
            matrices: BTreeMap::new(),
            stacks: BTreeMap::new(),
            tensors: Vec::new(),
            parameters: 0,
            bytes: 0,
            floats: (0, 0),
            packed: Vec::new(),
            dtype: Dtype::Bfloat16,
            converted: None,
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
        let rows_only = model.per_layer.as_ref();
        let rows_only = rows_only.map(|inputs| &inputs.embedding.table.weight);
        for part in model.parts() {
            match part {
                Part::Matrix(m) if m.weight == table.weight => {
                    self.matrix(&places.embedding, None, [m.rows, m.columns])?;
                }
                Part::Matrix(m) if m.experts.is_some() => self.stack(m)?,
                Part::Matrix(m) if rows_only == Some(&m.weight) => {
                    let path = join(&places.root, &m.weight);
                    // It stays as it is, whatever dtype the floats are given.
                    let floats = self.manifest.floats;
                    self.matrix(&path, None, [m.rows, m.columns])?;
                    self.manifest.floats = floats;
                }
                Part::Matrix(m) => {
                    let path = join(&places.root, &m.weight);
                    self.matrix(&path, None, [m.rows, m.columns])?;
                }
                Part::Bias(name, length) | Part::Factors(name, length) => {
                    self.vector(&join(&places.root, name), length)?;
                }
                Part::Biases(stack) => self.stack_biases(stack)?,
                Part::Norm(norm) => self.vector(&join(&places.root, &norm.weight), norm.width)?,
                Part::Heads(name, count) => self.vector(&join(&places.root, name), count)?,
                Part::Convolution(convolution) => self.convolution(convolution)?,
            }
        }
        if let Some(path) = &places.head {
            self.matrix(path, None, [head.rows, head.columns])?;
        }
        Ok(())
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<()> {
        self.tensor(name, &[len], &FLOATS)?;
        self.manifest.parameters += len as u64;
        Ok(())
    }

    /// The weights of a convolution in one of two layouts, which all of a file have.
    fn convolution(&mut self, convolution: &Convolution<String>) -> Result<()> {
        let name = join(&self.manifest.places.root, &convolution.weight);
        let (channels, width) = (convolution.channels, convolution.width);
        let found = self.checkpoint.find(&name)?;
        let shape = [channels, width, 1];
        let converted = found.is_some_and(|entry| {
            let found = entry.shape.iter().map(|&n| n as usize);
            found.eq(shape)
        });
        if *self.manifest.converted.get_or_insert(converted) != converted {
            let problem = "is not laid out as the others; take the files of one conversion";
            return Err(Error::tensor(self.checkpoint.dir(), &name, problem));
        }
        match converted {
            true => self.tensor(&name, &shape, &FLOATS)?,
            false => self.tensor(&name, &[channels, 1, width], &FLOATS)?,
        }
        self.manifest.parameters += (channels * width) as u64;
        Ok(())
    }

    /// The matrices of experts, wherever they are.
    fn stack(&mut self, stack: &Linear<String>) -> Result<()> {
        let (count, size) = (stack.experts.unwrap_or(1), [stack.rows, stack.columns]);
        let root = self.manifest.places.root.clone();
        let mut place = StackPlace::find(self.checkpoint, &root, stack);
        match &mut place {
            StackPlace::One(path) => self.matrix(path, Some(count), size)?,
            StackPlace::Each(paths) => {
                // A configuration may ask for any number: the first that is missing ends it.
                for expert in 0..count {
                    let path = join(&root, stacks::of_expert(&stack.weight, expert));
                    self.matrix(&path, None, size)?;
                    paths.push(path);
                }
                self.check_alike(paths)?;
            }
            StackPlace::Rows(fused) => {
                // Who asks for its first part checks it whole.
                if fused.part == 0 {
                    let shape = [count, fused.parts * stack.rows, stack.columns];
                    self.tensor(&fused.tensor, &shape, &FLOATS)?;
                    self.manifest.parameters += shape.iter().product::<usize>() as u64;
                }
                let matrices = &mut self.manifest.matrices;
                matrices.insert(fused.tensor.clone(), Stored::Dense);
            }
            StackPlace::Turned(fused) => {
                if fused.part == 0 {
                    let shape = [count, stack.columns, fused.parts * stack.rows];
                    self.tensor(&fused.tensor, &shape, &FLOATS)?;
                    self.manifest.parameters += shape.iter().product::<usize>() as u64;
                }
                let matrices = &mut self.manifest.matrices;
                matrices.insert(fused.tensor.clone(), Stored::Dense);
            }
            StackPlace::Blocks(fused) if fused.part == 0 => {
                self.blocks(fused, [count, fused.parts * stack.rows, stack.columns])?;
            }
            StackPlace::Blocks(_) => {}
        }
        self.manifest.stacks.insert(stack.weight.clone(), place);
        Ok(())
    }

    /// Matrices of mxfp4 as gpt-oss is released, `[experts, rows, columns]`.
    fn blocks(&mut self, fused: &Fused, [count, rows, columns]: [usize; 3]) -> Result<()> {
        let scheme = Mode::Mxfp4.defaults();
        let group = scheme.group_size as usize;
        let (blocks, scales) = (fused.blocks(), fused.scales());
        if !columns.is_multiple_of(group) {
            let problem = format!(
                "has blocks of {group} numbers, and config.json asks for rows of {columns}"
            );
            return Err(Error::tensor(self.checkpoint.dir(), &blocks, problem));
        }
        let groups = columns / group;
        let bytes = group * scheme.bits as usize / 8;
        self.tensor(&blocks, &[count, rows, groups, bytes], &[Dtype::Uint8])?;
        self.tensor(&scales, &[count, rows, groups], &[Dtype::Uint8])?;
        let weights = (count * rows * columns) as u64;
        self.manifest.parameters += weights;
        self.count_packed(scheme, weights);
        let matrices = &mut self.manifest.matrices;
        matrices.insert(fused.tensor.clone(), Stored::Quantized(scheme));
        Ok(())
    }

    /// The biases of a stack whose matrices have been found.
    fn stack_biases(&mut self, stack: &Linear<String>) -> Result<()> {
        let place = self.manifest.stacks.get(&stack.weight);
        let Some((name, part, parts)) = place.and_then(StackPlace::biases) else {
            let name = stack.bias.as_deref().unwrap_or_default();
            return Err(Error::tensor(self.checkpoint.dir(), name, "is missing"));
        };
        if part == 0 {
            let shape = [stack.experts.unwrap_or(1), parts * stack.rows];
            self.tensor(&name, &shape, &FLOATS)?;
            self.manifest.parameters += shape.iter().product::<usize>() as u64;
        }
        Ok(())
    }

    fn count_packed(&mut self, scheme: Scheme, weights: u64) {
        let packed = &mut self.manifest.packed;
        match packed.iter_mut().find(|(other, _)| *other == scheme) {
            Some((_, count)) => *count += weights,
            None => packed.push((scheme, weights)),
        }
    }

    /// Checks that the experts of a layer are stored alike, as one product of many takes them.
    fn check_alike(&self, paths: &[String]) -> Result<()> {
        let stored = |path: &String| self.manifest.matrices.get(path);
        let Some(first) = paths.first() else {
            return Ok(());
        };
        match paths.iter().find(|path| stored(path) != stored(first)) {
            None => Ok(()),
            Some(other) => {
                let problem = format!(
                    "is not stored as '{first}.weight' is; experts of a layer are stored alike"
                );
                let name = format!("{other}.weight");
                Err(Error::tensor(self.checkpoint.dir(), &name, problem))
            }
        }
    }

    /// A matrix of `[rows, columns]` outputs and inputs, dense or quantized, or a tensor of as many as `experts`
    /// says.
    fn matrix(
        &mut self,
        path: &str,
        experts: Option<usize>,
        [rows, columns]: [usize; 2],
    ) -> Result<()> {
        let stored = packing::stored(self.config, self.checkpoint, path, experts, [rows, columns]);
        let stored = stored.and_then(|stored| {
            self.parts_of(path, experts, [rows, columns], stored)?;
            Ok(stored)
        });
        let stored = stored.map_err(|error| {
            packing::foreign(self.config, self.checkpoint, path).unwrap_or(error)
        })?;
        let weights = (experts.unwrap_or(1) * rows * columns) as u64;
        if let Stored::Quantized(scheme) = stored {
            self.count_packed(scheme, weights);
        }
        self.manifest.matrices.insert(path.to_owned(), stored);
        self.manifest.parameters += weights;
        Ok(())
    }

    /// The tensors of a matrix that is stored like this.
    fn parts_of(
        &mut self,
        path: &str,
        experts: Option<usize>,
        [rows, columns]: [usize; 2],
        stored: Stored,
    ) -> Result<()> {
        let weight = format!("{path}.weight");
        let shape = |columns| {
            let outer = experts.into_iter().chain([rows]);
            outer.chain([columns]).collect::<Vec<_>>()
        };
        let Stored::Quantized(scheme) = stored else {
            return self.tensor(&weight, &shape(columns), &FLOATS);
        };
        let (group, bits) = (scheme.group_size as usize, scheme.bits as usize);
        self.tensor(&weight, &shape(columns * bits / 32), &[Dtype::Uint32])?;
        let groups = shape(columns / group);
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
