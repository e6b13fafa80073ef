//! Which tensors a configuration needs, found in the checkpoint and compared with it.
//!
//! One table holds for both families; what Gemma 3 has more are two norms a layer. Names are those
//! of the checkpoint, so an error names what a user can look up.

use std::collections::BTreeMap;

use mlx_core::Dtype;
use mlx_core::quant::{Mode, Scheme};

use super::{Checkpoint, TensorEntry};
use crate::config::{Config, Family};
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
    /// Path of the decoder: `model`, or what a nested checkpoint calls it.
    pub(crate) root: String,
    /// Path of the separate head; `None` where the embedding serves as the head.
    pub(crate) head: Option<String>,
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
    /// Dtype of the activations: that of the embedding, or of its scales.
    pub(crate) dtype: Dtype,
}

impl Manifest {
    /// Checks `checkpoint` against `config`.
    pub(crate) fn check(config: &Config, checkpoint: &Checkpoint) -> Result<Self> {
        let root = find_root(checkpoint)?;
        let mut manifest = Self {
            head: find_head(config, checkpoint, &root),
            root,
            matrices: BTreeMap::new(),
            tensors: Vec::new(),
            parameters: 0,
            bytes: 0,
            floats: (0, 0),
            dtype: Dtype::Bfloat16,
        };
        Check {
            config,
            checkpoint,
            manifest: &mut manifest,
        }
        .run()?;
        manifest.dtype = activation_dtype(&manifest, checkpoint)?;
        Ok(manifest)
    }
}

/// The decoder's path: plain, or nested as mlx-lm or transformers name it.
fn find_root(checkpoint: &Checkpoint) -> Result<String> {
    const ROOTS: [&str; 4] = [
        "model",
        "language_model.model",
        "model.language_model",
        "model.language_model.model",
    ];
    let has = |root: &&&str| {
        checkpoint
            .get(&format!("{root}.embed_tokens.weight"))
            .is_some()
    };
    let root = ROOTS.iter().find(has).ok_or_else(|| {
        Error::tensor(
            checkpoint.dir(),
            "model.embed_tokens.weight",
            "is missing; the directory holds other weights than its config.json says",
        )
    })?;
    Ok((*root).to_owned())
}

fn find_head(config: &Config, checkpoint: &Checkpoint, root: &str) -> Option<String> {
    let beside = root
        .strip_suffix("model")
        .map(|prefix| format!("{prefix}lm_head"));
    let mut candidates = beside.into_iter().chain(["lm_head".to_owned()]);
    let present = candidates.find(|path| checkpoint.get(&format!("{path}.weight")).is_some());
    match config.tie_word_embeddings {
        Some(true) => None,
        Some(false) => Some(present.unwrap_or_else(|| "lm_head".to_owned())),
        None => present,
    }
}

struct Check<'a> {
    config: &'a Config,
    checkpoint: &'a Checkpoint,
    manifest: &'a mut Manifest,
}

impl Check<'_> {
    fn run(&mut self) -> Result<()> {
        let c = self.config;
        let root = self.manifest.root.clone();
        self.matrix(&format!("{root}.embed_tokens"), c.vocab_size, c.hidden_size)?;
        self.vector(&format!("{root}.norm.weight"), c.hidden_size)?;
        if let Some(head) = self.manifest.head.clone() {
            self.matrix(&head, c.vocab_size, c.hidden_size)?;
        }
        for i in 0..c.num_layers() {
            self.layer(&format!("{root}.layers.{i}"))?;
        }
        Ok(())
    }

    fn layer(&mut self, at: &str) -> Result<()> {
        let c = self.config;
        let (queries, keys) = (
            c.num_attention_heads * c.head_dim,
            c.num_key_value_heads * c.head_dim,
        );
        let projections = [
            ("q_proj", queries, c.hidden_size),
            ("k_proj", keys, c.hidden_size),
            ("v_proj", keys, c.hidden_size),
            ("o_proj", c.hidden_size, queries),
        ];
        for (name, rows, columns) in projections {
            let path = format!("{at}.self_attn.{name}");
            self.matrix(&path, rows, columns)?;
            if c.attention_bias {
                self.vector(&format!("{path}.bias"), rows)?;
            }
        }
        for name in ["q_norm", "k_norm"] {
            self.vector(&format!("{at}.self_attn.{name}.weight"), c.head_dim)?;
        }
        self.matrix(
            &format!("{at}.mlp.gate_proj"),
            c.intermediate_size,
            c.hidden_size,
        )?;
        self.matrix(
            &format!("{at}.mlp.up_proj"),
            c.intermediate_size,
            c.hidden_size,
        )?;
        self.matrix(
            &format!("{at}.mlp.down_proj"),
            c.hidden_size,
            c.intermediate_size,
        )?;
        let norms: &[&str] = match c.family {
            Family::Qwen3 => &["input_layernorm", "post_attention_layernorm"],
            Family::Gemma3 => &[
                "input_layernorm",
                "post_attention_layernorm",
                "pre_feedforward_layernorm",
                "post_feedforward_layernorm",
            ],
        };
        for norm in norms {
            self.vector(&format!("{at}.{norm}.weight"), c.hidden_size)?;
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
        let weight = format!("{path}.weight");
        let stored = self.stored(path)?;
        match stored {
            Stored::Dense => {
                let packed = self
                    .checkpoint
                    .get(&weight)
                    .is_some_and(|e| e.dtype == Dtype::Uint32);
                if packed {
                    let problem = format!(
                        "is quantized, but '{path}.scales' or the 'quantization' of config.json is missing"
                    );
                    return Err(Error::tensor(self.checkpoint.dir(), &weight, problem));
                }
                self.tensor(&weight, &[rows, columns], &FLOATS)?;
            }
            Stored::Quantized(scheme) => {
                let (group, bits) = (scheme.group_size as usize, scheme.bits as usize);
                if !columns.is_multiple_of(group) || !(columns * bits).is_multiple_of(32) {
                    let problem = format!(
                        "has {columns} columns, which do not divide into groups of {group} at {bits} bits"
                    );
                    return Err(Error::tensor(self.checkpoint.dir(), &weight, problem));
                }
                self.tensor(&weight, &[rows, columns * bits / 32], &[Dtype::Uint32])?;
                let groups = [rows, columns / group];
                let scales = format!("{path}.scales");
                if scheme.mode == Mode::Affine {
                    self.tensor(&scales, &groups, &FLOATS)?;
                    self.tensor(&format!("{path}.biases"), &groups, &FLOATS)?;
                } else {
                    self.tensor(&scales, &groups, &[Dtype::Uint8])?;
                }
            }
        }
        self.manifest.matrices.insert(path.to_owned(), stored);
        self.manifest.parameters += (rows * columns) as u64;
        Ok(())
    }

    /// A matrix is quantized where it has scales, as in mlx-lm; the configuration says how.
    fn stored(&self, path: &str) -> Result<Stored> {
        let scales = format!("{path}.scales");
        let scheme = self
            .config
            .quantization
            .as_ref()
            .and_then(|q| q.scheme(path));
        match (self.checkpoint.get(&scales).is_some(), scheme) {
            (true, Some(scheme)) => Ok(Stored::Quantized(scheme)),
            (false, _) => Ok(Stored::Dense),
            (true, None) => Err(Error::tensor(
                self.checkpoint.dir(),
                &scales,
                "is there, but config.json has no 'quantization' for this layer",
            )),
        }
    }

    fn tensor(&mut self, name: &str, shape: &[usize], dtypes: &[Dtype]) -> Result<()> {
        let dir = self.checkpoint.dir();
        let entry = self.checkpoint.get(name).ok_or_else(|| {
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
fn activation_dtype(manifest: &Manifest, checkpoint: &Checkpoint) -> Result<Dtype> {
    let root = &manifest.root;
    ["embed_tokens.weight", "embed_tokens.scales", "norm.weight"]
        .iter()
        .filter_map(|name| checkpoint.get(&format!("{root}.{name}")))
        .map(|entry: &TensorEntry| entry.dtype)
        .find(|dtype| dtype.is_floating())
        .ok_or_else(|| Error::tensor(checkpoint.dir(), root, "has no tensor of floats"))
}
