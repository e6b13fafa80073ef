//! The blocks of a decoder as one node of MLX's graph.
//!
//! A node costs MLX some microseconds, and more for each input, on the thread that shares its core
//! with our computing ones. So all blocks of a pass are one node, and their weights, which never
//! change, are not its inputs: they are pinned once, in a [`Stack`] that the node's closure holds.

use std::sync::Arc;

use mlx_core::host_op::{self, Failure, Pinned};
use mlx_core::{Array, DeviceKind, Dtype, Result, device};

use super::{BlockView, Segment as KernelSegment, Slot as KernelSlot};
use crate::attention::Mask as KernelMask;
use crate::attention::graph::Mask;
use crate::bf12::Bf12;
use crate::bf12::graph::Encoded;
use crate::graph::{are_floats, exactly, heads_outside_mut, matrix, matrix_mut, on_cpu};
use crate::kv::Slot;
use crate::quantized_matmul::Format;
use crate::quantized_matmul::graph::quantized;
use crate::quantized_matmul::packed::Packed;
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
    /// Bfloat16, encoded.
    Bf12(&'a Encoded),
}

/// A linear map.
#[derive(Clone, Copy)]
pub struct Linear<'a> {
    /// `[N, K]`.
    pub weight: Weight<'a>,
    /// `[N]`.
    pub bias: Option<&'a Array>,
}

/// A block whose parts are arrays. The rotation's offset does not matter.
pub type Block<'a> = super::Block<Linear<'a>, Norm<'a>, Rotation<'a>>;

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
        let served = !blocks.is_empty() && matches!(dtype, Dtype::Bfloat16 | Dtype::Float32);
        if !served || device::current()? != DeviceKind::Cpu {
            return Ok(None);
        }
        match blocks.iter().map(pinned).collect::<Result<Vec<_>, _>>() {
            Ok(blocks) => Ok(Some(Self {
                blocks: blocks.into(),
                dtype,
            })),
            Err(Unpinned::Unserved) => Ok(None),
            Err(Unpinned::Failed(error)) => Err(error),
        }
    }

    /// Whether [`Stack::run`] can run now, on this stream and under masks that are rules.
    pub fn serves(&self, x: &Array) -> Result<bool> {
        let fits = x.ndim() == 2 && x.dim(0) > 0 && x.dtype() == self.dtype;
        Ok(fits && on_cpu()?)
    }

    /// The residual stream `x [L, hidden]`, the rows of all segments, through all blocks. Of the result the
    /// last `rows`, `[rows, hidden]`: fewer than L of one segment only. The new keys and values are written
    /// into the slots.
    pub fn run(&self, x: &Array, segments: &mut [Segment<'_>], rows: i32) -> Result<Array> {
        let places: Vec<Place> = segments.iter().map(Place::of).collect::<Result<_>>()?;
        let mut inputs = vec![x];
        // Of each block, the buffers of all segments.
        let mut targets = vec![Vec::with_capacity(2 * segments.len()); self.blocks.len()];
        for segment in &mut *segments {
            let mut written = None;
            for (slot, targets) in segment.slots.iter_mut().zip(&mut targets) {
                let (buffers, last) = slot.buffers.in_place()?;
                targets.extend(buffers);
                // One node wrote all buffers of a sequence, so one result of it stands for all.
                written = written.or(last);
            }
            inputs.extend(written);
        }
        let targets: Vec<&Array> = targets.into_iter().flatten().collect();
        // Beside the result a byte, for the next operation on the buffers to depend on: the result
        // itself may be large, and would live as long as the cache.
        let shape = [rows, x.dim(1)];
        let outputs = [(&shape[..], x.dtype()), (&[1][..], Dtype::Uint8)];
        let blocks = Arc::clone(&self.blocks);
        let work = move |inputs: &[host_op::View<'_>],
                         targets: &mut [host_op::ViewMut<'_>],
                         outputs: &mut [host_op::ViewMut<'_>]| {
            let [y, done] = outputs else {
                return Err("two outputs were asked for".into());
            };
            done.bytes_mut().fill(1);
            run(
                &blocks,
                matrix(&inputs[0])?,
                targets,
                &places,
                matrix_mut(y)?,
            )
        };
        // SAFETY: `KvBuffers` has the only handles of its buffers, and this operation depends on
        // the last one that wrote them; `written_by` makes the next one depend on this.
        let made = unsafe { host_op::call_in_place("blocks", &targets, &inputs, &outputs, work)? };
        let [x, done] = exactly(made);
        for slot in segments.iter_mut().flat_map(|segment| &mut *segment.slots) {
            slot.buffers.written_by(done.clone());
        }
        Ok(x)
    }
}

/// Rows of the stream that follow each other in one sequence.
pub struct Segment<'a> {
    /// How many.
    pub rows: i32,
    /// The position of the first.
    pub position: i32,
    /// One for each block, with room for the rows.
    pub slots: &'a mut [Slot],
    /// What the rows see, in each block: no arrays.
    pub masks: Vec<Mask<'a>>,
}

/// A segment without its arrays.
struct Place {
    rows: usize,
    position: usize,
    /// Of each block: where the new rows go, how many are visible, and the mask.
    blocks: Vec<(usize, usize, KernelMask<'static>)>,
}

impl Place {
    /// # Errors
    /// When a mask is no rule.
    fn of(segment: &Segment<'_>) -> Result<Self> {
        let at = |n: i32| n.max(0) as usize;
        let slots = segment.slots.iter().zip(&segment.masks);
        let blocks = slots.map(|(slot, mask)| {
            let rule = mask.rule().ok_or_else(|| {
                mlx_core::Error::Native("blocks: a mask that is an array is not served".to_owned())
            })?;
            Ok((at(slot.start), at(slot.visible), rule))
        });
        Ok(Self {
            rows: at(segment.rows),
            position: at(segment.position),
            blocks: blocks.collect::<Result<_>>()?,
        })
    }
}

/// One block after the other; between them the stream is in scratch memory.
fn run(
    blocks: &[PinnedBlock],
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
    let buffers = targets.chunks_exact_mut(2 * places.len().max(1));
    for (i, (block, buffers)) in blocks.iter().zip(buffers).enumerate() {
        let mut segments = Vec::with_capacity(places.len());
        for (buffers, place) in buffers.chunks_exact_mut(2).zip(places) {
            let ([keys, values], Some((start, visible, mask))) = (buffers, place.blocks.get(i))
            else {
                return Err("a slot has two buffers, and each block a slot".into());
            };
            segments.push(KernelSegment {
                rows: place.rows,
                position: place.position,
                cache: KernelSlot {
                    keys: heads_outside_mut(keys)?,
                    values: heads_outside_mut(values)?,
                    start: *start,
                    visible: *visible,
                },
                mask: *mask,
            });
        }
        let x = match i {
            0 => x,
            _ => View::new(from.as_slice(), layout)?,
        };
        let y = match i == last {
            true => y.reborrow(),
            false => ViewMut::new(to.as_mut_slice(), layout)?,
        };
        super::block(cpu, x, &view(block)?, segments, y)?;
        std::mem::swap(&mut from, &mut to);
    }
    Ok(())
}

/// Why a block was not pinned.
enum Unpinned {
    /// The kernels lack a weight's format or a dtype.
    Unserved,
    Failed(mlx_core::Error),
}

impl From<mlx_core::Error> for Unpinned {
    fn from(error: mlx_core::Error) -> Self {
        Self::Failed(error)
    }
}

/// [`Weight`], pinned.
enum PinnedWeight {
    Dense(Pinned),
    Packed(Format, Vec<Pinned>),
    Bf12(Arc<Bf12>),
}

impl PinnedWeight {
    fn new(weight: &Weight<'_>) -> Result<Self, Unpinned> {
        Ok(match weight {
            Weight::Dense(w) if w.ndim() == 2 && are_floats(&[w]) => Self::Dense(Pinned::new(w)?),
            Weight::Dense(_) => return Err(Unpinned::Unserved),
            Weight::Packed(w) => {
                let format = w.format().ok_or(Unpinned::Unserved)?;
                Self::Packed(format, w.arrays().map(Pinned::new).collect::<Result<_>>()?)
            }
            Weight::Bf12(Encoded::Host(w)) => Self::Bf12(Arc::clone(w)),
            Weight::Bf12(Encoded::Cuda(_)) => return Err(Unpinned::Unserved),
        })
    }

    fn view(&self) -> std::result::Result<super::Weight<'_>, Failure> {
        Ok(match self {
            Self::Dense(w) => super::Weight::Dense(matrix(&w.view())?),
            Self::Packed(format, arrays) => {
                let arrays: Vec<host_op::View<'_>> = arrays.iter().map(Pinned::view).collect();
                super::Weight::Quantized(quantized(*format, &arrays)?)
            }
            Self::Bf12(w) => super::Weight::Bf12(w),
        })
    }
}

/// [`Linear`], pinned.
struct PinnedLinear {
    weight: PinnedWeight,
    bias: Option<Pinned>,
}

impl PinnedLinear {
    fn new(linear: &Linear<'_>) -> Result<Self, Unpinned> {
        if linear.bias.is_some_and(|bias| !are_floats(&[bias])) {
            return Err(Unpinned::Unserved);
        }
        Ok(Self {
            weight: PinnedWeight::new(&linear.weight)?,
            bias: linear.bias.map(Pinned::new).transpose()?,
        })
    }

    fn view(&self) -> std::result::Result<super::Linear<'_>, Failure> {
        let bias = self.bias.as_ref().map(|bias| matrix(&bias.view()));
        Ok(super::Linear {
            weight: self.weight.view()?,
            bias: bias.transpose()?,
        })
    }
}

/// [`Norm`], pinned.
struct PinnedNorm {
    weight: Pinned,
    eps: f32,
}

impl PinnedNorm {
    fn new(by: &Norm<'_>) -> Result<Self, Unpinned> {
        if !are_floats(&[by.weight]) {
            return Err(Unpinned::Unserved);
        }
        Ok(Self {
            weight: Pinned::new(by.weight)?,
            eps: by.eps,
        })
    }

    fn view(&self) -> std::result::Result<crate::rms_norm::Norm<'_>, Failure> {
        norm(&self.weight.view(), self.eps)
    }
}

/// [`Rotation`] without its offset, pinned.
struct PinnedRotation {
    periods: Pinned,
    scale: f32,
}

impl PinnedRotation {
    fn new(by: &Rotation<'_>) -> Result<Self, Unpinned> {
        Ok(Self {
            periods: Pinned::new(by.periods)?,
            scale: by.scale,
        })
    }

    fn view(&self) -> std::result::Result<Rope<'_>, Failure> {
        Ok(Rope {
            periods: self.periods.view().elements()?,
            scale: self.scale,
            offset: 0,
        })
    }
}

type PinnedBlock = super::Block<PinnedLinear, PinnedNorm, PinnedRotation>;

fn pinned(block: &Block<'_>) -> Result<PinnedBlock, Unpinned> {
    block.try_map(PinnedLinear::new, PinnedNorm::new, PinnedRotation::new)
}

/// The kernel's view of a block.
fn view(block: &PinnedBlock) -> std::result::Result<BlockView<'_>, Failure> {
    block.try_map(PinnedLinear::view, PinnedNorm::view, PinnedRotation::view)
}
