//! A decoder block as a node of MLX's graph.

use mlx_core::host_op::{self, Failure, View};
use mlx_core::{Array, Dtype, Result};

use super::OP;
use crate::attention::graph::Mask;
use crate::gated::Activation;
use crate::kv::KvBuffers;
use crate::graph::{are_floats, heads_outside_mut, matrix, matrix_mut, on_cpu};
use crate::quantized_matmul::Format;
use crate::quantized_matmul::graph::{Packed, quantized};
use crate::rms_norm::graph::{Norm, norm};
use crate::rope::Rope;
use crate::rope::graph::Rotation;
use crate::Cpu;

/// The weights `[N, K]` of a linear map.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// Floats.
    Dense(&'a Array),
    /// Packed.
    Packed(Packed<'a>),
}

/// The weights of a block, as [`super::Block`] has them.
#[derive(Clone, Copy)]
#[allow(missing_docs, reason = "the fields are those of `super::Block`")]
pub struct Block<'a> {
    pub attention_norm: Norm<'a>,
    pub queries: Weight<'a>,
    pub keys: Weight<'a>,
    pub values: Weight<'a>,
    pub query_norm: Norm<'a>,
    pub key_norm: Norm<'a>,
    pub rotation: Rotation<'a>,
    pub scale: f32,
    pub output: Weight<'a>,
    pub attended_norm: Option<Norm<'a>>,
    pub mlp_norm: Norm<'a>,
    pub gate: Weight<'a>,
    pub up: Weight<'a>,
    pub activation: Activation,
    pub down: Weight<'a>,
    pub mlp_out_norm: Option<Norm<'a>>,
}

/// Where a block's keys and values are.
#[derive(Debug)]
pub struct Slot {
    /// The buffers.
    pub buffers: KvBuffers,
    /// Where the first new token goes.
    pub start: i32,
    /// Tokens that the new ones attend to, from the first on; the mask may hide some.
    pub visible: i32,
}

impl Block<'_> {
    /// Whether [`block`] can run this as one operation for this stream; if not, the caller has the
    /// single operations.
    pub fn serves(&self, x: &Array, mask: Mask<'_>) -> Result<bool> {
        let norms = self.norms();
        let fits = x.ndim() == 3
            && x.dim(0) == 1
            && x.dim(1) > 0
            && self.rotation.offset >= 0
            // A float16 sum is held inside its range, which the kernel does not do.
            && x.dtype() != Dtype::Float16
            && !matches!(mask, Mask::Array(_))
            && norms.iter().all(|n| are_floats(&[n.weight]) && n.weight.ndim() == 1)
            && self.weights().iter().all(|w| w.kind(x).is_some());
        Ok(fits && on_cpu()?)
    }

    fn weights(&self) -> [&Weight<'_>; 7] {
        [
            &self.queries,
            &self.keys,
            &self.values,
            &self.output,
            &self.gate,
            &self.up,
            &self.down,
        ]
    }

    fn norms(&self) -> Vec<&Norm<'_>> {
        let always = [
            &self.attention_norm,
            &self.query_norm,
            &self.key_norm,
            &self.mlp_norm,
        ];
        let sometimes = self.attended_norm.iter().chain(&self.mlp_out_norm);
        always.into_iter().chain(sometimes).collect()
    }
}

impl<'a> Weight<'a> {
    fn kind(&self, x: &Array) -> Option<Kind> {
        match self {
            Self::Dense(w) => (w.ndim() == 2 && are_floats(&[x, w])).then_some(Kind::Dense),
            Self::Packed(w) => w.format(x).map(Kind::Packed),
        }
    }

    fn arrays(&self) -> Vec<&'a Array> {
        match self {
            Self::Dense(w) => vec![w],
            Self::Packed(w) => w.arrays().collect(),
        }
    }
}

/// How a weight's inputs are to be read.
#[derive(Clone, Copy)]
enum Kind {
    Dense,
    Packed(Format),
}

/// `x` `[1, L, hidden]` through a block that [`Block::serves`] it; of the result the last `rows`.
/// The new keys and values are written into the slot.
pub fn block(
    x: &Array,
    by: &Block<'_>,
    slot: &mut Slot,
    mask: Mask<'_>,
    rows: i32,
) -> Result<Array> {
    let (weights, norms) = (by.weights(), by.norms());
    let recipe = Recipe {
        kinds: weights.map(|w| w.kind(x).unwrap_or(Kind::Dense)),
        eps: norms.iter().map(|n| n.eps).collect(),
        norms_out: (by.attended_norm.is_some(), by.mlp_out_norm.is_some()),
        activation: by.activation,
        rotation: (by.rotation.scale, by.rotation.offset as usize),
        scale: by.scale,
        window: match mask {
            Mask::Window { width, .. } => Some(width.max(0) as usize),
            _ => None,
        },
        causal: matches!(mask, Mask::Causal),
    };
    let (start, visible) = (slot.start.max(0) as usize, slot.visible.max(0) as usize);
    let (targets, written) = slot.buffers.in_place()?;
    let inputs: Vec<&Array> = [x, by.rotation.periods]
        .into_iter()
        .chain(norms.iter().map(|n| n.weight))
        .chain(weights.iter().flat_map(|w| w.arrays()))
        .chain(written)
        .collect();
    // Beside the result a byte, for the next operation on the buffers to depend on: the result
    // itself may be large, and would live as long as the cache.
    let shape = [1, rows, x.dim(2)];
    let outputs = [(&shape[..], x.dtype()), (&[1][..], Dtype::Uint8)];
    let work = move |inputs: &[View<'_>],
                     targets: &mut [host_op::ViewMut<'_>],
                     outputs: &mut [host_op::ViewMut<'_>]| {
        let ([keys, values], [y, done]) = (targets, outputs) else {
            return Err("two targets and two outputs were asked for".into());
        };
        let slot = super::Slot {
            keys: heads_outside_mut(keys)?,
            values: heads_outside_mut(values)?,
            start,
            visible,
        };
        done.bytes_mut().fill(1);
        recipe.run(inputs, slot, y)
    };
    // SAFETY: `KvBuffers` has the only handles of its buffers, and this operation depends on the
    // last one that wrote them; `written_by` makes the next one depend on this.
    let made = unsafe { host_op::call_in_place(OP, &targets, &inputs, &outputs, work)? };
    match <[Array; 2]>::try_from(made) {
        Ok([x, done]) => {
            slot.buffers.written_by(done);
            Ok(x)
        }
        Err(_) => unreachable!("a host operation makes as many outputs as it was asked for"),
    }
}

/// What the closure of a block knows beside its inputs.
struct Recipe {
    kinds: [Kind; 7],
    eps: Vec<f32>,
    norms_out: (bool, bool),
    activation: Activation,
    rotation: (f32, usize),
    scale: f32,
    window: Option<usize>,
    causal: bool,
}

impl Recipe {
    fn run(
        &self,
        inputs: &[View<'_>],
        slot: super::Slot<'_>,
        y: &mut host_op::ViewMut<'_>,
    ) -> std::result::Result<(), Failure> {
        let mut inputs = inputs.iter();
        let mut next = || inputs.next().ok_or("too few inputs");
        let x = matrix(next()?)?;
        let periods = next()?.elements()?;
        let mut eps = self.eps.iter();
        let mut next_norm = || norm(next()?, eps.next().copied().ok_or("too few norms")?);
        let (attention_norm, query_norm) = (next_norm()?, next_norm()?);
        let (key_norm, mlp_norm) = (next_norm()?, next_norm()?);
        let attended_norm = self.norms_out.0.then(&mut next_norm).transpose()?;
        let mlp_out_norm = self.norms_out.1.then(&mut next_norm).transpose()?;
        let mut kinds = self.kinds.iter();
        let mut next_weight = || match kinds.next() {
            Some(Kind::Packed(format)) => {
                let count = format.arrays();
                let arrays: Vec<View<'_>> = (0..count)
                    .map(|_| next().copied())
                    .collect::<std::result::Result<_, _>>()?;
                quantized(*format, &arrays).map(super::Weight::Quantized)
            }
            _ => Ok::<_, Failure>(super::Weight::Dense(matrix(next()?)?)),
        };
        let block = super::Block {
            attention_norm,
            queries: next_weight()?,
            keys: next_weight()?,
            values: next_weight()?,
            query_norm,
            key_norm,
            rope: Rope {
                periods,
                scale: self.rotation.0,
                offset: self.rotation.1,
            },
            scale: self.scale,
            output: next_weight()?,
            attended_norm,
            mlp_norm,
            gate: next_weight()?,
            up: next_weight()?,
            activation: self.activation,
            down: next_weight()?,
            mlp_out_norm,
        };
        let mask = match (self.window, self.causal) {
            (Some(width), _) => crate::attention::Mask::Window(width),
            (None, true) => crate::attention::Mask::Causal,
            (None, false) => crate::attention::Mask::None,
        };
        Ok(super::block(
            Cpu::shared(),
            x,
            &block,
            slot,
            mask,
            matrix_mut(y)?,
        )?)
    }
}
