//! A gated delta net: a convolution, the gated delta rule, and a gated norm, between linear maps.

use kernels::graph::{self, Columns, DeltaInputs, DeltaSizes, Deltas};
use mlx_core::{Array, Dtype, ops};

use super::linear::Matrix;
use super::{Linear, Projections, RmsNorm};
use crate::Result;
use crate::cache::{RecurrentCache, Slot};
use crate::weights::Source;

/// Added to the square of a query's or a key's length.
const LENGTH_EPS: f32 = 1e-6;

/// The gated delta net of one layer. Between the linear maps everything is computed in float32.
pub(crate) struct DeltaNet {
    inputs: Inputs,
    /// Float32 `[width, channels]`: the position itself last.
    filter: Array,
    /// `-exp(decay)`, float32 `[heads]`.
    decay: Array,
    /// Float32 `[heads]`.
    step: Array,
    norm: RmsNorm,
    pub(super) o_proj: Linear,
    key_heads: i32,
    heads: i32,
    key_dim: i32,
    value_dim: i32,
}

/// The linear maps in front of it.
enum Inputs {
    /// Queries, keys and values; `z`; `b`; `a`.
    Apart(Projections<4>),
    /// All of the former two and of the latter two, each key head's together.
    ByKeyHead(Projections<2>),
}

/// What comes of a row of the residual stream.
struct Entered {
    /// Queries, keys and values `[L, channels]`.
    mixed: Array,
    /// `[L, heads * value_dim]`, and both of `[L, heads]`.
    z: Array,
    b: Array,
    a: Array,
}

impl DeltaNet {
    pub(crate) fn load(source: &Source<'_>, delta: &arch::Delta<String>) -> Result<Self> {
        let linear = |linear| Linear::load(source, linear);
        let wide =
            |name: &str| -> Result<Array> { Ok(source.vector(name, 0.0)?.cast(Dtype::Float32)?) };
        let (channels, width) = (delta.convolution.channels, delta.convolution.width);
        // Of both layouts: one axis is of length one.
        let filter = wide(&delta.convolution.weight)?.reshape(&[channels as i32, width as i32])?;
        let made = Self {
            inputs: match &delta.inputs {
                arch::DeltaInputs::Apart { qkv, z, b, a } => Inputs::Apart(Projections::new([
                    linear(qkv)?,
                    linear(z)?,
                    linear(b)?,
                    linear(a)?,
                ])?),
                arch::DeltaInputs::ByKeyHead { qkvz, ba } => {
                    Inputs::ByKeyHead(Projections::new([linear(qkvz)?, linear(ba)?])?)
                }
            },
            filter: filter.t()?.contiguous()?,
            decay: ops::neg(&ops::exp(&wide(&delta.decay)?)?)?,
            step: wide(&delta.step)?,
            norm: RmsNorm::load_wide(source, &delta.norm)?,
            o_proj: linear(&delta.o)?,
            key_heads: delta.key_heads as i32,
            heads: delta.value_heads as i32,
            key_dim: delta.key_dim as i32,
            value_dim: delta.value_dim as i32,
        };
        mlx_core::eval(&[&made.filter, &made.decay, &made.step])?;
        Ok(made)
    }

    /// `x [L, hidden]` to the same shape; adds L tokens to `cache`. `plain` are the matrices, if they have been
    /// unpacked.
    pub(super) fn forward(
        &self,
        x: &Array,
        cache: &mut RecurrentCache,
        plain: [Option<Matrix>; 2],
    ) -> Result<Array> {
        let [inputs, o] = plain;
        let (length, position) = (x.dim(0), cache.offset());
        let entered = self.inputs.forward(x, inputs.as_ref())?;
        if let Some(out) = self.by_kernels(&entered, cache)? {
            return self.o_proj.forward_with(&out, o.as_ref());
        }
        let entered = self.entered(&entered)?;
        let before = cache.latest().map(Slot::remembered).transpose()?;
        let before = before.as_ref();
        let seen = self.behind_tail(&entered.mixed, before.map(|state| &state.tail))?;
        let deltas = self.deltas(&self.convolved(&seen, length)?, &entered, position)?;
        let made = graph::gated_delta(&deltas, before.map(|state| &state.matrices))?;
        let slot = |tokens: i32, matrices: Array| -> Result<Slot> {
            let tail = self.tail(&seen, tokens)?;
            let state = graph::Remembered { tail, matrices };
            Ok(Slot::new(position + tokens, state))
        };
        let latest = slot(length, made.state)?;
        let aligned = match made.aligned {
            Some((tokens, _)) if tokens == length => Some(latest.clone()),
            Some((tokens, state)) => Some(slot(tokens, state)?),
            None => None,
        };
        let out = self.gated_norm(&made.read, &entered.z)?.cast(x.dtype())?;
        let out = self.o_proj.forward_with(&out, o.as_ref())?;
        cache.put(latest, aligned);
        Ok(out)
    }

    /// What lies between the linear maps by kernels, if there are such: `[L, heads * value_dim]`.
    fn by_kernels(&self, entered: &Products, cache: &mut RecurrentCache) -> Result<Option<Array>> {
        let one = self.as_one();
        let net = graph::Net {
            filter: one.filter,
            decay: one.decay,
            step: one.step,
            norm: one.norm,
            sizes: one.sizes,
        };
        let entered = match entered {
            Products::Apart(parts) => graph::NetEntered::Apart(parts.each_ref()),
            Products::ByKeyHead(parts) => graph::NetEntered::ByKeyHead(parts.each_ref()),
        };
        let before = cache.latest().map(Slot::remembered).transpose()?;
        let position = cache.offset();
        let Some(made) = graph::delta_net(&entered, &net, before.as_ref(), position)? else {
            return Ok(None);
        };
        let slot = |tokens: i32, state| Slot::new(position + tokens, state);
        let latest = slot(made.out.dim(0), made.latest);
        cache.put(
            latest,
            made.aligned.map(|(tokens, state)| slot(tokens, state)),
        );
        Ok(Some(made.out))
    }

    /// `mixed [L, channels]` behind the tail of the tokens before it: `[width - 1 + L, channels]`.
    fn behind_tail(&self, mixed: &Array, tail: Option<&Array>) -> Result<Array> {
        let shape = [self.filter.dim(0) - 1, mixed.dim(1)];
        let tail = match tail {
            Some(tail) => tail.cast(mixed.dtype())?,
            None => Array::zeros(&shape, mixed.dtype())?,
        };
        Ok(ops::concatenate(&[&tail, mixed], 0)?)
    }

    /// The tail behind the first `tokens` of what `seen` has behind its own.
    fn tail(&self, seen: &Array, tokens: i32) -> Result<Array> {
        let end = tokens + self.filter.dim(0) - 1;
        let tail = seen.slice(&[tokens, 0], &[end, seen.dim(1)])?;
        // Not a view, which would keep all of it.
        Ok(tail.contiguous()?)
    }

    /// `silu(convolution)`, float32 `[L, channels]`.
    fn convolved(&self, seen: &Array, length: i32) -> Result<Array> {
        let channels = seen.dim(1);
        let seen = seen.cast(Dtype::Float32)?;
        let mut sum: Option<Array> = None;
        for i in 0..self.filter.dim(0) {
            let weight = self.filter.slice(&[i, 0], &[i + 1, channels])?;
            let term = ops::mul(&seen.slice(&[i, 0], &[i + length, channels])?, &weight)?;
            sum = Some(match sum {
                Some(sum) => ops::add(&sum, &term)?,
                None => term,
            });
        }
        let sum = sum.unwrap_or(seen);
        Ok(ops::mul(&sum, &ops::sigmoid(&sum)?)?)
    }

    /// What goes into the gated delta rule.
    fn deltas(&self, convolved: &Array, entered: &Entered, position: i32) -> Result<Deltas> {
        let length = convolved.dim(0);
        let keys = self.key_heads * self.key_dim;
        let part = |start: i32, heads: i32, dim: i32| -> Result<Array> {
            let part = convolved.slice(&[0, start], &[length, start + heads * dim])?;
            Ok(part.reshape(&[length, heads, dim])?)
        };
        let [queries, first_keys] = [0, keys].map(|start| {
            let x = part(start, self.key_heads, self.key_dim)?;
            let square = ops::sum(&ops::square(&x)?, &[-1], true)?;
            let square = ops::add(&square, &Array::scalar(LENGTH_EPS)?)?;
            Ok::<_, crate::Error>(ops::mul(&x, &ops::rsqrt(&square)?)?)
        });
        let scale = Array::scalar((f64::from(self.key_dim).powf(-0.5)) as f32)?;
        let wide = |x: &Array| x.cast(Dtype::Float32);
        let forgetting = ops::add(&wide(&entered.a)?, &self.step)?;
        let softplus = ops::logaddexp(&forgetting, &Array::scalar(0.0f32)?)?;
        Ok(Deltas {
            queries: ops::mul(&queries?, &scale)?,
            keys: first_keys?,
            values: part(2 * keys, self.heads, self.value_dim)?,
            kept: ops::mul(&softplus, &self.decay)?,
            learned: ops::sigmoid(&wide(&entered.b)?)?,
            position,
        })
    }

    /// `norm(read) * silu(z)`, float32 `[L, heads * value_dim]`.
    fn gated_norm(&self, read: &Array, z: &Array) -> Result<Array> {
        let normed = self.norm.forward(read)?;
        let normed = normed.reshape(&[z.dim(0), self.heads * self.value_dim])?;
        let z = z.cast(Dtype::Float32)?;
        Ok(ops::mul(&normed, &ops::mul(&z, &ops::sigmoid(&z)?)?)?)
    }

    /// For operations that have it in them.
    pub(super) fn as_one(&self) -> graph::DeltaNet<graph::Linear<'_>, graph::Norm<'_>, &Array> {
        graph::DeltaNet {
            inputs: match &self.inputs {
                Inputs::Apart(maps) => DeltaInputs::Apart(maps.as_linears()),
                Inputs::ByKeyHead(maps) => DeltaInputs::ByKeyHead(maps.as_linears()),
            },
            filter: &self.filter,
            decay: &self.decay,
            step: &self.step,
            norm: self.norm.as_norm(),
            sizes: DeltaSizes {
                key_heads: self.key_heads.unsigned_abs() as usize,
                heads: self.heads.unsigned_abs() as usize,
                key_dim: self.key_dim.unsigned_abs() as usize,
                value_dim: self.value_dim.unsigned_abs() as usize,
                width: self.filter.dim(0).unsigned_abs() as usize,
            },
        }
    }

    /// The linear maps in front.
    pub(super) fn inputs(&self) -> &[Linear] {
        match &self.inputs {
            Inputs::Apart(maps) => maps.maps(),
            Inputs::ByKeyHead(maps) => maps.maps(),
        }
    }

    /// What the products multiply with.
    pub(super) fn matrices(&self) -> [Option<&Matrix>; 2] {
        let inputs = match &self.inputs {
            Inputs::Apart(maps) => maps.joined(),
            Inputs::ByKeyHead(maps) => maps.joined(),
        };
        [inputs, Some(self.o_proj.matrix())]
    }

    /// About what lies between the products: queries, keys and values in several forms, and six matrices of a chunk
    /// for each head, in float32, which is twice as much as most activations.
    pub(super) fn numbers_a_row(&self) -> usize {
        const CHUNK: i32 = 64;
        let widths = 8 * (2 * self.key_dim + self.value_dim) + 6 * CHUNK;
        2 * (self.heads * widths).unsigned_abs() as usize
    }

    pub(super) fn arrays(&self) -> Vec<&Array> {
        let mut arrays = match &self.inputs {
            Inputs::Apart(maps) => maps.arrays(),
            Inputs::ByKeyHead(maps) => maps.arrays(),
        };
        arrays.extend([&self.filter, &self.decay, &self.step]);
        arrays.extend(self.norm.arrays());
        arrays.extend(self.o_proj.arrays());
        arrays
    }
}

/// What the linear maps in front give.
enum Products {
    Apart([Columns; 4]),
    ByKeyHead([Columns; 2]),
}

impl Inputs {
    fn forward(&self, x: &Array, plain: Option<&Matrix>) -> Result<Products> {
        Ok(match self {
            Self::Apart(maps) => Products::Apart(maps.forward(x, plain)?),
            Self::ByKeyHead(maps) => Products::ByKeyHead(maps.forward(x, plain)?),
        })
    }
}

impl DeltaNet {
    fn entered(&self, products: &Products) -> Result<Entered> {
        match products {
            Products::Apart([mixed, z, b, a]) => Ok(Entered {
                mixed: mixed.to_array()?,
                z: z.to_array()?,
                b: b.to_array()?,
                a: a.to_array()?,
            }),
            Products::ByKeyHead([qkvz, ba]) => {
                let shared = self.heads / self.key_heads;
                let (keys, values) = (self.key_dim, shared * self.value_dim);
                let [q, k, v, z] = self.parted(qkvz, [keys, keys, values, values])?;
                let [b, a] = self.parted(ba, [shared, shared])?;
                Ok(Entered {
                    mixed: ops::concatenate(&[&q, &k, &v], 1)?,
                    z,
                    b,
                    a,
                })
            }
        }
    }

    /// Parts of so many columns, which follow each other for each key head: each for all of them.
    fn parted<const N: usize>(&self, all: &Columns, widths: [i32; N]) -> Result<[Array; N]> {
        let all = all.to_array()?;
        let length = all.dim(0);
        let by_head = all.reshape(&[length, self.key_heads, widths.iter().sum()])?;
        let mut start = 0;
        let mut parts = Vec::with_capacity(N);
        for width in widths {
            let stop = [length, self.key_heads, start + width];
            let part = by_head.slice(&[0, 0, start], &stop)?;
            parts.push(part.reshape(&[length, self.key_heads * width])?);
            start += width;
        }
        Ok(parts.try_into().expect("a part for each width"))
    }
}
