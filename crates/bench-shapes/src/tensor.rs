//! Tensors of a safetensors file, by name and size alone.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A tensor of a checkpoint.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Its name in the file.
    pub name: String,
    /// As safetensors spells it.
    pub(crate) dtype: &'static str,
    pub(crate) shape: Vec<u64>,
    /// Bytes of its values.
    pub bytes: u64,
    pub(crate) fill: Fill,
    /// How many of how many experts in it a token has; one of one if it is no stack.
    pub(crate) chosen: (u64, u64),
}

/// What a random checkpoint puts into a tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fill {
    /// Packed weights: every bit random.
    Bits,
    /// Weights of standard deviation about `1 / sqrt(columns)`.
    Matrix { columns: u64 },
    /// Scales with which weights of random bits have that deviation.
    Scales { columns: u64, bits: u64 },
    /// Biases that put the mean of those at zero.
    Biases { columns: u64, bits: u64 },
    /// Weights of a norm, or a bias, within a fifth of `around`.
    Vector { around: f32 },
    /// Not ours to write.
    None,
}

impl Tensor {
    pub(crate) fn new(name: String, dtype: &'static str, shape: Vec<u64>, fill: Fill) -> Self {
        let width = if dtype == "U32" { 4 } else { 2 };
        let bytes = shape.iter().product::<u64>() * width;
        Self {
            name,
            dtype,
            shape,
            bytes,
            fill,
            chosen: (1, 1),
        }
    }

    /// The same as a stack of matrices, of which a token has some.
    pub(crate) fn of_experts(self, top: u64, count: u64) -> Self {
        Self {
            chosen: (top, count.max(1)),
            ..self
        }
    }
}

/// Bytes of all of them.
pub fn total_bytes(tensors: &[Tensor]) -> u64 {
    tensors.iter().map(|tensor| tensor.bytes).sum()
}

/// Bytes of weights that a decode step reads: all but an embedding that is not the head as well, of
/// which it reads one row in `vocabulary`, and of experts those that a token has.
pub fn decode_bytes(tensors: &[Tensor], vocabulary: u64) -> u64 {
    let tied = is_tied(tensors);
    let read = |tensor: &Tensor| match tensor.name.contains("embed_tokens.") && !tied {
        true => tensor.bytes / vocabulary.max(1),
        false => tensor.bytes / tensor.chosen.1 * tensor.chosen.0,
    };
    tensors.iter().map(read).sum()
}

/// Whether the embedding is the head.
pub fn is_tied(tensors: &[Tensor]) -> bool {
    !tensors
        .iter()
        .any(|tensor| tensor.name.contains("lm_head."))
}

/// The tensors of a model directory that generating text uses, from the headers of its files.
///
/// # Errors
/// When a file cannot be read or its header is damaged.
pub fn read_dir(dir: &Path) -> Result<Vec<Tensor>> {
    let mut tensors = Vec::new();
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            tensors.extend(read_header(&path).with_context(|| path.display().to_string())?);
        }
    }
    ensure!(
        !tensors.is_empty(),
        "{} has no *.safetensors",
        dir.display()
    );
    Ok(tensors)
}

fn read_header(path: &Path) -> Result<Vec<Tensor>> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    ensure!(length < 100 << 20, "the header is damaged");
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header)?;
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&header)?;
    let used = |name: &str| {
        let other = ["vision_tower", "multi_modal_projector", "__metadata__"];
        !other.iter().any(|other| name.contains(other))
    };
    header
        .into_iter()
        .filter(|(name, _)| used(name))
        .map(|(name, value)| {
            let at = |i: usize| value["data_offsets"][i].as_u64().context("no data_offsets");
            let bytes = at(1)?.saturating_sub(at(0)?);
            Ok(Tensor {
                name,
                dtype: "",
                shape: Vec::new(),
                bytes,
                fill: Fill::None,
                chosen: (1, 1),
            })
        })
        .collect()
}
