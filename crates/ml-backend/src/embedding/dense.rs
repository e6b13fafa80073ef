//! The dense layer behind a pooling, as sentence-transformers' `Dense`: `activation(x wᵀ + bias)` in float32.
//!
//! It sees a vector a text and not one a token, so it is a thousandth of a pass, and runs where the caller is.

use std::path::Path;

use serde_json::Value;

use super::files::{needed, refused};
use crate::Result;

/// No honest layer is wider.
const MOST_FEATURES: u64 = 1 << 16;

/// Products that are summed side by side.
const LANES: usize = 8;

/// The weights of a layer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dense {
    /// Features that go in.
    pub(super) inputs: usize,
    /// Features that come out.
    pub(super) outputs: usize,
    /// `[outputs, inputs]`.
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
    activation: Activation,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Activation {
    Identity,
    Tanh,
    Relu,
    Sigmoid,
    Silu,
}

impl Activation {
    /// Of a class of torch's.
    fn named(path: &str) -> Option<Self> {
        Some(match path.strip_prefix("torch.")?.rsplit('.').next()? {
            "Identity" => Self::Identity,
            "Tanh" => Self::Tanh,
            "ReLU" => Self::Relu,
            "Sigmoid" => Self::Sigmoid,
            "SiLU" => Self::Silu,
            _ => return None,
        })
    }

    fn of(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            Self::Tanh => x.tanh(),
            Self::Relu => x.max(0.0),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Silu => x / (1.0 + (-x).exp()),
        }
    }
}

impl Dense {
    /// Of `folder`, for vectors of `width` features.
    pub(super) fn read(folder: &Path, width: usize) -> Result<Self> {
        let path = folder.join("config.json");
        let config = needed(&path)?;
        let size = |key: &str| {
            let size = config.get(key).and_then(Value::as_u64);
            let size = size.filter(|size| (1..=MOST_FEATURES).contains(size));
            let problem = || format!("{key:?} is no number of features up to {MOST_FEATURES}");
            size.map(|size| size as usize)
                .ok_or_else(|| refused(&path, problem()))
        };
        let (inputs, outputs) = (size("in_features")?, size("out_features")?);
        if inputs != width {
            let problem = format!(
                "'in_features' is {inputs}, and the module before it gives {width} features"
            );
            return Err(refused(&path, problem));
        }
        let sentence = Value::from("sentence_embedding");
        for key in ["module_input_name", "module_output_name"] {
            let other = config.get(key).filter(|v| !v.is_null() && **v != sentence);
            if let Some(other) = other {
                let problem = format!("{key:?} is {other}; only \"sentence_embedding\" can be run");
                return Err(refused(&path, problem));
            }
        }
        if config.get("use_residual") == Some(&Value::Bool(true)) {
            let problem = "'use_residual' is true; only layers without a residual can be run";
            return Err(refused(&path, problem));
        }
        let activation = match config.get("activation_function") {
            None => Activation::Tanh,
            Some(name) => name.as_str().and_then(Activation::named).ok_or_else(|| {
                let problem = format!(
                    "'activation_function' is {name}; what can be run is torch's Identity, Tanh, ReLU, Sigmoid, SiLU"
                );
                refused(&path, problem)
            })?,
        };
        let file = folder.join("model.safetensors");
        if !file.is_file() {
            return Err(refused(
                &file,
                "is missing; fetch the module's weights as safetensors",
            ));
        }
        let tensor = |name: &str, shape: &[usize]| {
            let floats = models::read_floats(&file, name, shape)?;
            let missing = || refused(&file, format!("has no tensor {name:?}"));
            floats.map(|floats| floats.values).ok_or_else(missing)
        };
        Ok(Self {
            inputs,
            outputs,
            weight: tensor("linear.weight", &[outputs, inputs])?,
            bias: match config.get("bias") {
                Some(Value::Bool(false)) => None,
                _ => Some(tensor("linear.bias", &[outputs])?),
            },
            activation,
        })
    }

    /// Of each vector the one that comes out. What one gives does not depend on the others.
    pub(super) fn apply(&self, vectors: &mut [Vec<f32>]) {
        let mut made = vec![Vec::with_capacity(self.outputs); vectors.len()];
        // A row of weights meets all vectors before the next is read.
        for (i, row) in self.weight.chunks_exact(self.inputs).enumerate() {
            let bias = self.bias.as_ref().map_or(0.0, |bias| bias[i]);
            for (x, y) in vectors.iter().zip(&mut made) {
                y.push(self.activation.of(dot(row, x) + bias));
            }
        }
        vectors.clone_from_slice(&made);
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b);
    sums.into_iter().chain(rest).sum()
}
