//! The `quantization` object of an MLX checkpoint: a scheme for the whole model, and exceptions by
//! the path of a layer (another scheme, or `false` for a layer that is not quantized).

use std::collections::HashMap;

use mlx_core::quant::{Mode, Scheme};
use serde_json::Value;

use super::fields::Fields;
use crate::Result;

/// How the layers of a checkpoint are quantized.
#[derive(Clone, Debug)]
pub struct Quantization {
    /// The scheme of every quantized layer that is not an exception.
    pub default: Scheme,
    overrides: HashMap<String, Option<Scheme>>,
}

impl Quantization {
    /// The scheme of the layer at `path` (such as `model.layers.0.mlp.up_proj`); `None` where the
    /// configuration says that this layer is not quantized.
    pub fn scheme(&self, path: &str) -> Option<Scheme> {
        self.overrides
            .get(path)
            .copied()
            .unwrap_or(Some(self.default))
    }

    /// From `config.json`'s top level, or its `text_config`.
    pub(super) fn read(root: &Fields<'_>, text: &Fields<'_>) -> Result<Option<Self>> {
        for fields in [root, text] {
            for key in ["quantization", "quantization_config"] {
                if let Some(object) = fields.object(key)? {
                    return Self::from_object(fields, key, &object).map(Some);
                }
            }
        }
        Ok(None)
    }

    fn from_object(parent: &Fields<'_>, key: &str, f: &Fields<'_>) -> Result<Self> {
        // Other tools write `quantization_config` too, for formats that are not MLX's.
        if let Some(method) = f.text("quant_method")?
            && !f.has("bits")
        {
            return Err(parent.problem(
                key,
                format!("quant_method '{method}' is not supported; convert the model with mlx_lm.convert"),
            ));
        }
        let default = scheme(f, None)?;
        let mut overrides = HashMap::new();
        for (path, value) in f.iter() {
            match value {
                Value::Bool(false) => {
                    overrides.insert(path.clone(), None);
                }
                Value::Object(_) => {
                    if let Some(inner) = f.object(path)? {
                        overrides.insert(path.clone(), Some(scheme(&inner, Some(default))?));
                    }
                }
                _ => {}
            }
        }
        Ok(Self { default, overrides })
    }
}

/// Reads `mode`, `bits` and `group_size`, and checks that MLX has this combination.
fn scheme(f: &Fields<'_>, default: Option<Scheme>) -> Result<Scheme> {
    let mode = match f.text("mode")? {
        Some(name) => name.parse::<Mode>().map_err(|e| f.problem("mode", e))?,
        None => default.map_or(Mode::Affine, |d| d.mode),
    };
    let fixed = match mode {
        Mode::Affine => None,
        Mode::Mxfp4 => Some((32, 4)),
        Mode::Mxfp8 => Some((32, 8)),
        Mode::Nvfp4 => Some((16, 4)),
    };
    let inherited = default.filter(|d| d.mode == mode);
    let read = |key: &str, fallback: Option<i32>| -> Result<i32> {
        Ok(match f.size(key)? {
            Some(n) => n as i32,
            None => fallback.ok_or_else(|| f.missing(key))?,
        })
    };
    let group_size = read(
        "group_size",
        fixed.map(|x| x.0).or(inherited.map(|d| d.group_size)),
    )?;
    let bits = read("bits", fixed.map(|x| x.1).or(inherited.map(|d| d.bits)))?;
    let known = match fixed {
        Some(only) => (group_size, bits) == only,
        None => matches!(group_size, 32 | 64 | 128) && matches!(bits, 2 | 3 | 4 | 5 | 6 | 8),
    };
    if !known {
        let problem = format!(
            "{bits} bits in groups of {group_size} is no {mode} quantization that MLX has \
             (affine: 2, 3, 4, 5, 6, 8 bits in groups of 32, 64, 128; mxfp4: 4/32; mxfp8: 8/32; nvfp4: 4/16)"
        );
        return Err(f.problem("bits", problem));
    }
    Ok(Scheme {
        mode,
        group_size,
        bits,
    })
}
