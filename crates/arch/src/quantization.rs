//! The `quantization` object of an MLX checkpoint.
//!
//! It holds a scheme for the whole model, and exceptions by the path of a layer. What a layer's scheme
//! is, its tensors say (`weights/packing.rs`), and the names in such an object are often those that the
//! layers had in another program; so only what is said of a layer by its own name is read here, to be
//! compared with the tensors.

use std::collections::HashMap;

use serde_json::Value;

use crate::fields::Fields;
use crate::{Error, Result};
pub use formats::{Mode, Scheme};

/// Methods whose weights have other names than MLX's, or that change what a dense weight means. What
/// others leave behind on dense weights means nothing.
const OTHERS: [&str; 3] = ["gptq", "awq", "bitnet"];

/// How the layers of a checkpoint are quantized.
#[derive(Clone, Debug, Default)]
pub struct Quantization {
    /// Where another program wrote the object: why weights that it packed cannot be used.
    pub refusal: Option<String>,
    layers: HashMap<String, LayerQuantization>,
}

/// What the configuration says of one layer.
#[derive(Clone, Debug, PartialEq)]
pub enum LayerQuantization {
    /// It is not quantized.
    Dense,
    /// It is, in this way.
    Packed(Scheme),
    /// It is, in a way that does not exist: the problem with it.
    Unusable(String),
}

impl Quantization {
    /// What is said of the layer at `path` (such as `model.layers.0.mlp.up_proj`), if anything.
    pub fn layer(&self, path: &str) -> Option<&LayerQuantization> {
        self.layers.get(path)
    }

    /// From `config.json`'s top level, or its `text_config`.
    pub(crate) fn read(root: &Fields<'_>, text: &Fields<'_>) -> Result<Option<Self>> {
        for fields in [root, text] {
            for key in ["quantization", "quantization_config"] {
                // Whatever is false in Python is no quantization to the references.
                if matches!(fields.value(key), Some(Value::Bool(false))) {
                    continue;
                }
                if let Some(object) = fields.object(key)?.filter(|object| !object.is_empty()) {
                    return Self::from_object(fields, key, &object).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn from_object(parent: &Fields<'_>, key: &str, f: &Fields<'_>) -> Result<Self> {
        let mut read = Self::default();
        // Other tools write `quantization_config` too, for formats that are not MLX's.
        // mxfp4 is what gpt-oss is released in, and what MLX has.
        if let Some(method) = f.text("quant_method")?.filter(|method| *method != "mxfp4") {
            let problem = format!(
                "quant_method '{method}' is not supported; use the unquantized model, or convert that with mlx_lm.convert"
            );
            if OTHERS.contains(&method) {
                return Err(parent.problem(key, problem));
            }
            read.refusal = Some(format!("{key}: {problem}"));
        }
        for (path, value) in f.iter() {
            let layer = match value {
                Value::Bool(false) => LayerQuantization::Dense,
                Value::Object(_) => match f.object(path)?.as_ref().map(scheme) {
                    Some(Ok(scheme)) => LayerQuantization::Packed(scheme),
                    Some(Err(Error::Config { problem, .. })) => {
                        LayerQuantization::Unusable(problem)
                    }
                    Some(Err(error)) => return Err(error),
                    None => continue,
                },
                _ => continue,
            };
            read.layers.insert(path.clone(), layer);
        }
        Ok(read)
    }
}

/// Reads `mode`, `bits` and `group_size` of a layer. What is left out is MLX's default and not that of
/// the model: `mlx.nn.quantize` does not merge the two.
fn scheme(f: &Fields<'_>) -> Result<Scheme> {
    let mode = match f.text("mode")? {
        Some(name) => name.parse::<Mode>().map_err(|e| f.problem("mode", e))?,
        None => Mode::Affine,
    };
    let defaults = mode.defaults();
    let read =
        |key: &str, default: i32| -> Result<i32> { Ok(f.size(key)?.map_or(default, |n| n as i32)) };
    let scheme = Scheme {
        mode,
        group_size: read("group_size", defaults.group_size)?,
        bits: read("bits", defaults.bits)?,
    };
    match scheme.is_supported() {
        true => Ok(scheme),
        false => Err(f.problem("bits", unsupported(scheme))),
    }
}

/// What to say of a scheme that MLX does not have.
pub fn unsupported(scheme: Scheme) -> String {
    let Scheme {
        mode,
        group_size,
        bits,
    } = scheme;
    format!(
        "{bits} bits in groups of {group_size} is no {mode} quantization that MLX has \
         (affine: 2, 3, 4, 5, 6, 8 bits in groups of 32, 64, 128; mxfp4: 4/32; mxfp8: 8/32; nvfp4: 4/16)"
    )
}
