//! Tensors of floats that are no part of the model, such as those of modules behind it.

use std::fs::File;
use std::path::Path;

use mlx_core::Dtype;
use mlx_core::io::MappedFile;

use super::header;
use crate::{Error, Result};

/// A tensor of floats, as float32.
#[derive(Clone, Debug, PartialEq)]
pub struct Floats {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Row after row.
    pub values: Vec<f32>,
}

/// The tensor `name` of the safetensors file at `path`, which is to have this shape; `None` where the file has none
/// of that name.
///
/// # Errors
/// A file that cannot be read or is damaged, a tensor that is no float, and another shape: before its values are
/// read.
pub fn read_floats(path: &Path, name: &str, shape: &[usize]) -> Result<Option<Floats>> {
    let file = File::open(path).map_err(|e| Error::read(path, e))?;
    let map = MappedFile::new(&file).map_err(|e| Error::read(path, e))?;
    let bytes: &[u8] = (*map).as_ref();
    let tensors = header::read(path, bytes)?;
    let Some(tensor) = tensors.into_iter().find(|tensor| tensor.name == name) else {
        return Ok(None);
    };
    let bad = |problem: String| Error::tensor(path, name, problem);
    let (dtype, found) = tensor.kind.map_err(bad)?;
    let dimensions = found.iter().map(|n| n.unsigned_abs() as usize);
    if !dimensions.eq(shape.iter().copied()) {
        return Err(bad(format!(
            "has the shape {found:?}; its configuration says {shape:?}"
        )));
    }
    let bytes = &bytes[tensor.range];
    let values = match dtype {
        Dtype::Float32 => words(bytes, f32::from_le_bytes),
        Dtype::Float64 => words(bytes, |word| f64::from_le_bytes(word) as f32),
        Dtype::Bfloat16 => words(bytes, |word| {
            f32::from_bits(u32::from(u16::from_le_bytes(word)) << 16)
        }),
        Dtype::Float16 => words(bytes, |word| of_half(u16::from_le_bytes(word))),
        other => return Err(bad(format!("is {other}; floats are needed"))),
    };
    let shape = shape.to_vec();
    Ok(Some(Floats { shape, values }))
}

fn words<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (words, _) = bytes.as_chunks::<N>();
    words.iter().map(|word| value(*word)).collect()
}

/// A float16, exactly.
fn of_half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    match exponent {
        // Steps of 2^-24.
        0 => {
            f32::from_bits(sign)
                + f32::copysign(
                    fraction as f32 * 2.0_f32.powi(-24),
                    f32::from_bits(sign | 1),
                )
        }
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_their_numbers() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x8000, -0.0),
            (0x3c00, 1.0),
            (0xc500, -5.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x83ff, -6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(of_half(bits).to_bits(), f32::to_bits(value), "{bits:#x}");
        }
        assert!(of_half(0x7e00).is_nan());
    }
}
