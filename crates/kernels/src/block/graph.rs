//! The blocks of a decoder as one node of MLX's graph.
//!
//! A node costs MLX some microseconds, and more for each input, on the thread that shares its core
//! with our computing ones. So all blocks of a pass are one node, and their weights, which never
//! change, are not its inputs: they are pinned once, in a [`Stack`] that the node's closure holds.

use std::sync::Arc;

use mlx_core::host_op::{self, Failure, Pinned};
use mlx_core::{Array, DeviceKind, Dtype, Result, device};

use super::Slot as KernelSlot;
use crate::attention::Mask as KernelMask;
use crate::attention::graph::Mask;
use crate::gated::Activation;
use crate::graph::{are_floats, dtype, heads_outside_mut, matrix, matrix_mut, on_cpu};
use crate::kv::KvBuffers;
use crate::quantized_matmul::Format;
use crate::quantized_matmul::graph::{Packed, quantized};
use crate::rms_norm::graph::{Norm, norm};
use crate::rope::Rope;
use crate::rope::graph::Rotation;
use crate::scratch::Scratch;
use crate::{Cpu, Layout, View, ViewMut};

/// The weights `[N, K]` of a linear map.
#[derive(Clone, Copy)]
pub enum Weight<'a> {
    /// Floats.
    Dense(&'a Array),
    /// Packed.
    Packed(Packed<'a>),
}

/// The weights of a block, as [`super::Block`] has them. The rotation's offset does not matter.
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

/// All blocks of a decoder, ready to be run as one operation.
#[derive(Clone)]
pub struct Stack {
    blocks: Arc<[PinnedBlock]>,
    dtype: Dtype,
}

impl Stack {
    /// Pins the weights of `blocks` for a residual stream of `dtype`. `None` where this cannot run:
    /// on a device other than the CPU, and for weights or dtypes that the kernels do not have; the
    /// caller has the single operations.
    pub fn new(blocks: &[Block<'_>], dtype: Dtype) -> Result<Option<Self>> {
        // A float16 sum is held inside its range, which the kernel does not do.
        let served = !blocks.is_empty()
            && matches!(dtype, Dtype::Bfloat16 | Dtype::Float32)
            && blocks.iter().all(Block::is_served);
        if !served || device::current()? != DeviceKind::Cpu {
            return Ok(None);
        }
        let blocks: Vec<PinnedBlock> =
            blocks.iter().map(PinnedBlock::new).collect::<Result<_>>()?;
        Ok(Some(Self {
            blocks: blocks.into(),
            dtype,
        }))
    }

    /// Whether [`Stack::run`] can run now, on this stream and under these masks.
    pub fn serves(&self, x: &Array, masks: &[Mask<'_>]) -> Result<bool> {
        let fits = x.ndim() == 3 && x.dim(0) == 1 && x.dim(1) > 0 && x.dtype() == self.dtype;
        let simple = |mask: &Mask<'_>| !matches!(mask, Mask::Array(_));
        Ok(fits && masks.len() == self.blocks.len() && masks.iter().all(simple) && on_cpu()?)
    }

    /// The residual stream `x [1, L, hidden]`, whose first token is at position `offset`, through
    /// all blocks; of the result the last `rows`, `[1, rows, hidden]`. A slot and a mask for each
    /// block; the new keys and values are written into the slots.
    pub fn run(
        &self,
        x: &Array,
        offset: i32,
        slots: &mut [Slot],
        masks: &[Mask<'_>],
        rows: i32,
    ) -> Result<Array> {
        let places: Vec<Place> = slots
            .iter()
            .zip(masks)
            .map(|(slot, mask)| Place {
                start: slot.start.max(0) as usize,
                visible: slot.visible.max(0) as usize,
                mask: match mask {
                    Mask::Window { width, .. } => KernelMask::Window((*width).max(0) as usize),
                    Mask::Causal => KernelMask::Causal,
                    Mask::None | Mask::Array(_) => KernelMask::None,
                },
            })
            .collect();
        let (mut targets, mut inputs) = (Vec::new(), vec![x]);
        for slot in &mut *slots {
            let (buffers, written) = slot.buffers.in_place()?;
            targets.extend(buffers);
            // One node writes all buffers, so one result of it stands for all.
            if inputs.len() == 1 {
                inputs.extend(written);
            }
        }
        // Beside the result a byte, for the next operation on the buffers to depend on: the result
        // itself may be large, and would live as long as the cache.
        let shape = [1, rows, x.dim(2)];
        let outputs = [(&shape[..], x.dtype()), (&[1][..], Dtype::Uint8)];
        let (blocks, offset) = (Arc::clone(&self.blocks), offset.max(0) as usize);
        let work = move |inputs: &[host_op::View<'_>],
                         targets: &mut [host_op::ViewMut<'_>],
                         outputs: &mut [host_op::ViewMut<'_>]| {
            let [y, done] = outputs else {
                return Err("two outputs were asked for".into());
            };
            done.bytes_mut().fill(1);
            run(
                &blocks,
                offset,
                matrix(&inputs[0])?,
                targets,
                &places,
                matrix_mut(y)?,
            )
        };
        // SAFETY: `KvBuffers` has the only handles of its buffers, and this operation depends on
        // the last one that wrote them; `written_by` makes the next one depend on this.
        let made = unsafe { host_op::call_in_place("blocks", &targets, &inputs, &outputs, work)? };
        match <[Array; 2]>::try_from(made) {
            Ok([x, done]) => {
                for slot in slots {
                    slot.buffers.written_by(done.clone());
                }
                Ok(x)
            }
            Err(_) => unreachable!("a host operation makes as many outputs as it was asked for"),
        }
    }
}

/// A slot and a mask without their arrays.
struct Place {
    start: usize,
    visible: usize,
    mask: KernelMask<'static>,
}

/// One block after the other; between them the stream is in scratch memory.
fn run(
    blocks: &[PinnedBlock],
    offset: usize,
    x: View<'_>,
    targets: &mut [host_op::ViewMut<'_>],
    places: &[Place],
    mut y: ViewMut<'_>,
) -> std::result::Result<(), Failure> {
    let cpu = Cpu::shared();
    let layout = Layout::matrix(x.layout().dtype, x.layout().rows, x.layout().cols);
    let bytes = layout.bytes().ok_or("a stream too large to count")?;
    let (mut from, mut to) = (Scratch::<u8>::take(bytes), Scratch::<u8>::take(bytes));
    let last = blocks.len().saturating_sub(1);
    let slots = targets.chunks_exact_mut(2).zip(places);
    for (i, (block, (buffers, place))) in blocks.iter().zip(slots).enumerate() {
        let [keys, values] = buffers else {
            return Err("a slot has two buffers".into());
        };
        let slot = KernelSlot {
            keys: heads_outside_mut(keys)?,
            values: heads_outside_mut(values)?,
            start: place.start,
            visible: place.visible,
        };
        let x = match i {
            0 => x,
            _ => View::new(from.as_slice(), layout)?,
        };
        let y = match i == last {
            true => y.reborrow(),
            false => ViewMut::new(to.as_mut_slice(), layout)?,
        };
        super::block(cpu, x, &block.at(offset)?, slot, place.mask, y)?;
        std::mem::swap(&mut from, &mut to);
    }
    Ok(())
}

impl Block<'_> {
    fn is_served(&self) -> bool {
        let weights = [
            &self.queries,
            &self.keys,
            &self.values,
            &self.output,
            &self.gate,
            &self.up,
            &self.down,
        ];
        weights.iter().all(|w| w.kind().is_some())
            && self.norms().iter().all(|n| are_floats(&[n.weight]))
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

impl Weight<'_> {
    /// How it is to be read, if the kernels can.
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Dense(w) => (w.ndim() == 2 && dtype(w.dtype()).is_some()).then_some(Kind::Dense),
            Self::Packed(w) => w.format().map(Kind::Packed),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Dense,
    Packed(Format),
}

/// [`Weight`], pinned.
struct PinnedWeight {
    kind: Kind,
    arrays: Vec<Pinned>,
}

impl PinnedWeight {
    fn new(weight: &Weight<'_>) -> Result<Self> {
        let arrays: Vec<&Array> = match weight {
            Weight::Dense(w) => vec![w],
            Weight::Packed(w) => w.arrays().collect(),
        };
        Ok(Self {
            kind: weight.kind().unwrap_or(Kind::Dense),
            arrays: arrays.into_iter().map(Pinned::new).collect::<Result<_>>()?,
        })
    }

    fn view(&self) -> std::result::Result<super::Weight<'_>, Failure> {
        let arrays: Vec<host_op::View<'_>> = self.arrays.iter().map(Pinned::view).collect();
        Ok(match self.kind {
            Kind::Dense => super::Weight::Dense(matrix(&arrays[0])?),
            Kind::Packed(format) => super::Weight::Quantized(quantized(format, &arrays)?),
        })
    }
}

/// [`Norm`], pinned.
struct PinnedNorm {
    weight: Pinned,
    eps: f32,
}

impl PinnedNorm {
    fn new(by: &Norm<'_>) -> Result<Self> {
        Ok(Self {
            weight: Pinned::new(by.weight)?,
            eps: by.eps,
        })
    }

    fn view(&self) -> std::result::Result<crate::rms_norm::Norm<'_>, Failure> {
        norm(&self.weight.view(), self.eps)
    }
}

fn view_of(
    norm: &Option<PinnedNorm>,
) -> std::result::Result<Option<crate::rms_norm::Norm<'_>>, Failure> {
    norm.as_ref().map(PinnedNorm::view).transpose()
}

/// [`Block`], pinned.
struct PinnedBlock {
    attention_norm: PinnedNorm,
    queries: PinnedWeight,
    keys: PinnedWeight,
    values: PinnedWeight,
    query_norm: PinnedNorm,
    key_norm: PinnedNorm,
    periods: Pinned,
    position_scale: f32,
    scale: f32,
    output: PinnedWeight,
    attended_norm: Option<PinnedNorm>,
    mlp_norm: PinnedNorm,
    gate: PinnedWeight,
    up: PinnedWeight,
    activation: Activation,
    down: PinnedWeight,
    mlp_out_norm: Option<PinnedNorm>,
}

impl PinnedBlock {
    fn new(block: &Block<'_>) -> Result<Self> {
        Ok(Self {
            attention_norm: PinnedNorm::new(&block.attention_norm)?,
            queries: PinnedWeight::new(&block.queries)?,
            keys: PinnedWeight::new(&block.keys)?,
            values: PinnedWeight::new(&block.values)?,
            query_norm: PinnedNorm::new(&block.query_norm)?,
            key_norm: PinnedNorm::new(&block.key_norm)?,
            periods: Pinned::new(block.rotation.periods)?,
            position_scale: block.rotation.scale,
            scale: block.scale,
            output: PinnedWeight::new(&block.output)?,
            attended_norm: block
                .attended_norm
                .as_ref()
                .map(PinnedNorm::new)
                .transpose()?,
            mlp_norm: PinnedNorm::new(&block.mlp_norm)?,
            gate: PinnedWeight::new(&block.gate)?,
            up: PinnedWeight::new(&block.up)?,
            activation: block.activation,
            down: PinnedWeight::new(&block.down)?,
            mlp_out_norm: block
                .mlp_out_norm
                .as_ref()
                .map(PinnedNorm::new)
                .transpose()?,
        })
    }

    /// The kernel's view of the block, for tokens from position `offset` on.
    fn at(&self, offset: usize) -> std::result::Result<super::Block<'_>, Failure> {
        Ok(super::Block {
            attention_norm: self.attention_norm.view()?,
            queries: self.queries.view()?,
            keys: self.keys.view()?,
            values: self.values.view()?,
            query_norm: self.query_norm.view()?,
            key_norm: self.key_norm.view()?,
            rope: Rope {
                periods: self.periods.view().elements()?,
                scale: self.position_scale,
                offset,
            },
            scale: self.scale,
            output: self.output.view()?,
            attended_norm: view_of(&self.attended_norm)?,
            mlp_norm: self.mlp_norm.view()?,
            gate: self.gate.view()?,
            up: self.up.view()?,
            activation: self.activation,
            down: self.down.view()?,
            mlp_out_norm: view_of(&self.mlp_out_norm)?,
        })
    }
}
