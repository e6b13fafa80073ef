//! Checkpoints of random weights: an ordinary MLX model directory of any size, without a download.
//!
//! Speed does not depend on the values as long as they are ordinary: nothing is zero, weights have
//! the deviation that trained ones have, so no activation is infinite or denormal. Tensors go to
//! the file piece by piece; a model larger than the memory can be written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::shape::{Shape, Weights};
use crate::tensor::{Fill, Tensor};

/// The weights file of a checkpoint.
pub const WEIGHTS_FILE: &str = "model.safetensors";

/// Writes `config.json` and random weights into `dir`, which is made if it is not there.
///
/// # Errors
/// When the disk cannot be written.
pub fn write(dir: &Path, shape: &Shape, weights: Weights) -> Result<()> {
    write_with(dir, shape, weights, |file, tensors| {
        for (i, tensor) in tensors.iter().enumerate() {
            fill(file, tensor, i as u64)?;
        }
        Ok(())
    })
}

/// As [`write`], with a hole in place of the values: for a reader that draws them itself. The file
/// has its full length and takes hardly any disk.
///
/// # Errors
/// When the disk cannot be written.
pub fn write_hollow(dir: &Path, shape: &Shape, weights: Weights) -> Result<()> {
    write_with(dir, shape, weights, |file, tensors| {
        file.flush()?;
        let file = file.get_ref();
        file.set_len(file.metadata()?.len() + crate::total_bytes(tensors))
    })
}

fn write_with(
    dir: &Path,
    shape: &Shape,
    weights: Weights,
    values: impl FnOnce(&mut BufWriter<File>, &[Tensor]) -> std::io::Result<()>,
) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let config = serde_json::to_string_pretty(&shape.config(weights))?;
    std::fs::write(dir.join("config.json"), config)?;
    // Renamed when it is whole: a run that was interrupted leaves nothing that looks finished.
    let part = dir.join("model.safetensors.part");
    let tensors = shape.tensors(weights);
    let write = || {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&part)?);
        header(&mut file, &tensors)?;
        values(&mut file, &tensors)?;
        file.flush()
    };
    write().with_context(|| format!("cannot write {}", part.display()))?;
    std::fs::rename(&part, dir.join(WEIGHTS_FILE))?;
    Ok(())
}

fn header(to: &mut impl Write, tensors: &[Tensor]) -> std::io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "mlx"}));
    let mut at = 0;
    for tensor in tensors {
        let offsets = [at, at + tensor.bytes];
        let entry = json!({"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets});
        header.insert(tensor.name.clone(), entry);
        at += tensor.bytes;
    }
    let mut header = Value::Object(header).to_string();
    // The data starts at a multiple of 64 bytes.
    while !(8 + header.len()).is_multiple_of(64) {
        header.push(' ');
    }
    to.write_all(&(header.len() as u64).to_le_bytes())?;
    to.write_all(header.as_bytes())
}

/// Writes the values of `tensor`, the same for the same `seed`.
fn fill(to: &mut impl Write, tensor: &Tensor, seed: u64) -> std::io::Result<()> {
    let mut random = Random::new(seed);
    match tensor.fill {
        Fill::None => Ok(()),
        Fill::Bits => words(to, tensor.bytes, || random.next()),
        Fill::Matrix { columns } => {
            // A random sign, a random lowest bit of the exponent and a random fraction: the
            // magnitude is uniform in [1, 2) or in [2, 4), a deviation of 2.4, times a power of two.
            let exponent = -((columns as f64).sqrt() * 2.4).log2();
            let base = ((127 + exponent.round() as i64) as u64) << 7;
            let base = base * 0x0001_0001_0001_0001; // the same in four lanes
            words(to, tensor.bytes, || {
                (random.next() & 0x80ff_80ff_80ff_80ff) + base
            })
        }
        Fill::Scales { columns, bits } => {
            // The same numbers for scales and biases, so that a group's mean is zero.
            let mut random = Random::new(columns * 16 + bits);
            values(to, tensor.bytes, || scale(&mut random, columns, bits))
        }
        Fill::Biases { columns, bits } => {
            let mut random = Random::new(columns * 16 + bits);
            let middle = ((1 << bits) - 1) as f32 / 2.0;
            values(to, tensor.bytes, || {
                -middle * scale(&mut random, columns, bits)
            })
        }
        Fill::Vector { around } => values(to, tensor.bytes, || around + random.within(0.2)),
    }
}

/// Integers of `bits` random bits have a deviation of `2^bits / sqrt(12)`.
fn scale(random: &mut Random, columns: u64, bits: u64) -> f32 {
    let deviation = (1 << bits) as f32 / 12_f32.sqrt();
    (1.0 + random.within(0.2)) / (deviation * (columns as f32).sqrt())
}

fn words(to: &mut impl Write, bytes: u64, mut next: impl FnMut() -> u64) -> std::io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let word = next().to_le_bytes();
        let some = left.min(8);
        to.write_all(&word[..some as usize])?;
        left -= some;
    }
    Ok(())
}

fn values(to: &mut impl Write, bytes: u64, mut next: impl FnMut() -> f32) -> std::io::Result<()> {
    for _ in 0..bytes / 2 {
        let rounded = next().to_bits() + 0x8000;
        to.write_all(&((rounded >> 16) as u16).to_le_bytes())?;
    }
    Ok(())
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[-most, most)`.
    fn within(&mut self, most: f32) -> f32 {
        ((self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0) * most
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{is_tied, read_dir, total_bytes};

    fn bf16(bytes: &[u8]) -> Vec<f32> {
        let value =
            |pair: &[u8]| f32::from_bits(u32::from(u16::from_le_bytes([pair[0], pair[1]])) << 16);
        bytes.chunks_exact(2).map(value).collect()
    }

    fn filled(fill_with: Fill, dtype: &'static str, count: u64) -> Vec<u8> {
        let tensor = Tensor::new("t".into(), dtype, vec![count], fill_with);
        let mut bytes = Vec::new();
        fill(&mut bytes, &tensor, 3).unwrap();
        assert_eq!(bytes.len() as u64, tensor.bytes);
        bytes
    }

    fn deviation(values: &[f32]) -> f64 {
        let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        (square / values.len() as f64).sqrt()
    }

    #[test]
    fn a_product_with_random_weights_keeps_the_size_of_its_operand() {
        for columns in [640, 1024, 1152, 3072, 12_288] {
            let wanted = 1.0 / (columns as f64).sqrt();
            let dense = bf16(&filled(Fill::Matrix { columns }, "BF16", 20_000));
            assert!(dense.iter().all(|v| *v != 0.0));
            let ratio = deviation(&dense) / wanted;
            assert!((0.6..1.7).contains(&ratio), "{columns}: {ratio}");

            for bits in [4, 8] {
                let scales = bf16(&filled(Fill::Scales { columns, bits }, "BF16", 2000));
                let biases = bf16(&filled(Fill::Biases { columns, bits }, "BF16", 2000));
                let mut random = Random::new(1);
                let weights: Vec<f32> = scales
                    .iter()
                    .zip(&biases)
                    .flat_map(|(s, b)| [(s, b); 64])
                    .map(|(s, b)| s * (random.next() >> (64 - bits)) as f32 + b)
                    .collect();
                let ratio = deviation(&weights) / wanted;
                assert!(
                    (0.95..1.06).contains(&ratio),
                    "{columns}, {bits} bits: {ratio}"
                );
            }
        }
    }

    #[test]
    fn packed_weights_have_every_nibble() {
        let bytes = filled(Fill::Bits, "U32", 1001);
        let mut seen = [0; 16];
        for byte in bytes {
            seen[usize::from(byte >> 4)] += 1;
            seen[usize::from(byte & 15)] += 1;
        }
        assert!(seen.iter().all(|n| (350..650).contains(n)), "{seen:?}");
    }

    #[test]
    fn norms_are_near_what_they_are_around() {
        let values = bf16(&filled(Fill::Vector { around: 1.0 }, "BF16", 500));
        assert!(values.iter().all(|v| (0.79..1.21).contains(v)));
    }

    #[test]
    fn a_checkpoint_says_of_itself_what_was_asked_for() {
        let target = tempfile::tempdir().unwrap();
        for family in arch::families::ALL {
            let model_type = family.model_types[0];
            let tied = model_type.starts_with("gemma");
            for weights in [Weights::Q4, Weights::Q8, Weights::Bf16] {
                let config = json!({
                    "model_type": model_type, "hidden_size": 128, "num_hidden_layers": 2,
                    "intermediate_size": 192, "num_attention_heads": 2, "num_key_value_heads": 1,
                    "head_dim": 64, "vocab_size": 300, "sliding_window": 16, "num_experts": 4,
                    "num_experts_per_tok": 2, "moe_intermediate_size": 64, "shared_expert_intermediate_size": 128,
                    "num_kv_shared_layers": 0, "tie_word_embeddings": tied,
                });
                let shape = Shape::of(model_type, config).unwrap();
                let folder =
                    |kind: &str| target.path().join(format!("{model_type}-{weights}-{kind}"));
                let (dir, hollow) = (folder("full"), folder("hollow"));
                write(&dir, &shape, weights).unwrap();
                write_hollow(&hollow, &shape, weights).unwrap();
                let read = read_dir(&dir).unwrap();
                let sizes = |all: Vec<Tensor>| -> BTreeMap<String, u64> {
                    all.into_iter().map(|t| (t.name, t.bytes)).collect()
                };
                assert_eq!(is_tied(&read), tied);
                assert_eq!(sizes(read), sizes(shape.tensors(weights)));
                let (again, of) = Shape::read(&dir, tied).unwrap();
                assert_eq!(of, weights);
                assert_eq!(sizes(again.tensors(of)), sizes(shape.tensors(weights)));
                // The header's length, the header, and every byte of every tensor.
                let file = std::fs::read(dir.join(WEIGHTS_FILE)).unwrap();
                let header = 8 + u64::from_le_bytes(file[..8].try_into().unwrap());
                let length = header + total_bytes(&shape.tensors(weights));
                assert_eq!(file.len() as u64, length);
                // A hollow one differs in the values alone.
                let holes = std::fs::read(hollow.join(WEIGHTS_FILE)).unwrap();
                assert_eq!(holes.len() as u64, length);
                assert_eq!(holes[..header as usize], file[..header as usize]);
            }
        }
    }
}
