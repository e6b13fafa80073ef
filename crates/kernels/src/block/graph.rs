//! The blocks of a decoder as one node of MLX's graph.
//!
//! A node costs MLX some microseconds, and more for each input, on the thread that shares its core
//! with our computing ones. So all blocks of a pass are one node, and their weights, which never
//! change, are not its inputs: they are pinned once, in a [`PinnedBlocks`] that the node's closure holds.

use std::sync::Arc;

use mlx_core::host_op::{self, Failure, Pinned};
use mlx_core::{Array, DeviceKind, Dtype, Result, device};

use super::{BlockView, Mixer, SegmentView, Segments, SlotView};
use crate::arrays::{are_floats, exactly, matrix, matrix_mut, on_cpu};
use crate::bf12::Bf12;
use crate::bf12::graph::Encoded;
use crate::experts::Each;
use crate::linear;
use crate::mlp::Gated;
use crate::pages::Addresses;
use crate::pages::graph::{Held, PageMap, Segment, after, held, pages_of};
use crate::pages::slots::Slots;
use crate::quantized_matmul::Format;
use crate::quantized_matmul::graph::quantized;
use crate::quantized_matmul::packed::Packed;
use crate::rms_norm::norm::{Norm, norm};
use crate::rope::RotationView;
use crate::rope::entry::Rotation;
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
pub type Block<'a> = super::Block<Linear<'a>, Norm<'a>, Rotation<'a>, AllExperts<'a>, &'a Array>;

/// All experts of a mixture.
#[derive(Clone)]
pub struct AllExperts<'a> {
    /// Each of them; none where they are held in one array.
    pub each: Vec<Gated<Linear<'a>>>,
    /// All of them, each matrix `[count, N, K]` and what is added `[count, N]`, where they are held so.
    pub stacked: Option<Gated<Linear<'a>>>,
    /// What the share of each is multiplied by in the end; one if they are none.
    pub factors: &'a [f32],
}

/// All blocks of a decoder, ready to be run as one operation.
#[derive(Clone)]
pub struct PinnedBlocks {
    blocks: Arc<[PinnedBlock]>,
    /// Which of the map's keys each has, or which of its recurrent states.
    states: Arc<[usize]>,
    dtype: Dtype,
}

impl PinnedBlocks {
    /// Pins the weights of `blocks`, whose keys and values, or recurrent states, are those `states` of a map, for a
    /// residual stream of `dtype`. `None` where this cannot run:
    /// on a device other than the CPU, and for weights or dtypes that the kernels do not have; the
    /// caller has the single operations.
    pub fn new(blocks: &[Block<'_>], states: &[usize], dtype: Dtype) -> Result<Option<Self>> {
        // A float16 sum is held inside its range, which the kernel does not do.
        let served = !blocks.is_empty()
            && blocks.len() == states.len()
            && matches!(dtype, Dtype::Bfloat16 | Dtype::Float32);
        if !served || device::current()? != DeviceKind::Cpu {
            return Ok(None);
        }
        match blocks.iter().map(pinned).collect::<Result<Vec<_>, _>>() {
            Ok(blocks) => Ok(Some(Self {
                blocks: blocks.into(),
                states: states.into(),
                dtype,
            })),
            Err(Unpinned::Unserved) => Ok(None),
            Err(Unpinned::Failed(error)) => Err(error),
        }
    }

    /// Whether [`PinnedBlocks::run`] can run now, on this stream.
    pub fn takes(&self, x: &Array) -> Result<bool> {
        let fits = x.ndim() == 2 && x.dim(0) > 0 && x.dtype() == self.dtype;
        Ok(fits && on_cpu()?)
    }

    /// The residual stream `x [L, hidden]`, the rows of all segments, through all blocks; `inputs [L, ..]` are those
    /// of blocks that have inputs of their own. Of the result the
    /// last `rows`, `[rows, hidden]`: fewer than L of one segment only. The new keys and values are written
    /// into the pages, where `map` says. Beside the stream a byte, which whoever uses the pages next comes after.
    ///
    /// # Errors
    /// When a segment has no room of its own, or the blocks have other states than the map.
    pub fn run(
        &self,
        x: &Array,
        inputs: Option<&Array>,
        map: &Arc<PageMap>,
        segments: &[Segment],
        rows: i32,
    ) -> Result<[Array; 2]> {
        let held = held(map, segments)?;
        let mut lists = segments
            .iter()
            .flat_map(|s| s.kinds.iter().map(|l| (s.position, l)));
        if lists.any(|(position, list)| list.first > position) {
            let what = "blocks: pages begin behind the new tokens";
            return Err(mlx_core::Error::Native(what.to_owned()));
        }
        let mut needed = vec![x];
        needed.extend(inputs);
        let with_inputs = inputs.is_some();
        needed.extend(after(segments));
        // The stream itself may be large, and would live as long as the caches.
        let shape = [rows, x.dim(1)];
        let outputs = [(&shape[..], x.dtype()), (&[1][..], Dtype::Uint8)];
        let (blocks, states) = (Arc::clone(&self.blocks), Arc::clone(&self.states));
        let map = Arc::clone(map);
        let work = move |inputs: &[host_op::View<'_>], outputs: &mut [host_op::ViewMut<'_>]| {
            let [y, done] = outputs else {
                return Err("two outputs were asked for".into());
            };
            done.bytes_mut().fill(1);
            let pass = Pass {
                blocks: &blocks,
                states: &states,
                map: &map,
                segments: &held,
            };
            let of_blocks = match with_inputs {
                true => Some(matrix(&inputs[1])?),
                false => None,
            };
            pass.run(matrix(&inputs[0])?, of_blocks, matrix_mut(y)?)
        };
        let made = host_op::call("blocks", &needed, &outputs, work)?;
        Ok(exactly(made))
    }
}

/// Rows of several sequences on their way through all blocks.
struct Pass<'a> {
    blocks: &'a [PinnedBlock],
    states: &'a [usize],
    map: &'a PageMap,
    segments: &'a [Held],
}

impl Pass<'_> {
    /// One block after the other; between them the stream is in scratch memory.
    fn run(
        &self,
        x: View<'_>,
        inputs: Option<View<'_>>,
        mut y: ViewMut<'_>,
    ) -> std::result::Result<(), Failure> {
        let cpu = Cpu::shared();
        // Of each segment, where the pages of each kind are, and those of recurrent states.
        let mut addresses = Vec::with_capacity(self.segments.len());
        let mut slots = Vec::new();
        for segment in self.segments {
            // SAFETY: this is the closure of the operation that the segments were made for.
            let mut all = unsafe { segment.addresses() };
            segment.copy(cpu, self.map, &mut all)?;
            addresses.push(all);
            // SAFETY: as above.
            slots.extend(unsafe { segment.slots() });
        }
        let layout = Layout::matrix(x.layout().dtype, x.layout().rows, x.layout().cols);
        let bytes = layout.bytes().ok_or("a stream too large to count")?;
        let (mut from, mut to) = (Scratch::<u8>::take(bytes), Scratch::<u8>::take(bytes));
        let last = self.blocks.len().saturating_sub(1);
        // Behind the last block that writes keys nobody sees the rows that are not asked for.
        let writer = self.blocks.iter().rposition(|block| block.mixer.writes());
        let writer = writer.unwrap_or(last);
        let (all, asked) = (x.layout().rows, y.layout().rows);
        let cut = |rows: usize| Layout { rows, ..layout };
        for (i, (block, state)) in self.blocks.iter().zip(self.states).enumerate() {
            let left_out = if i <= writer { 0 } else { all - asked };
            let segments = match &block.mixer {
                Mixer::Attention(_) => self.keys(*state, &mut addresses, left_out)?,
                Mixer::Delta(_) => self.recurrent(*state, &mut slots)?,
            };
            let x = match i {
                0 => x,
                _ => View::new(from.as_slice(), cut(all - left_out))?,
            };
            let y = match i == last {
                true => y.reborrow(),
                false if i < writer => ViewMut::new(to.as_mut_slice(), layout)?,
                false => ViewMut::new(to.as_mut_slice(), cut(asked))?,
            };
            let inputs = inputs.map(|inputs| inputs.slice_rows(left_out..all));
            super::block(cpu, x, &view(block)?, segments, inputs.transpose()?, y)?;
            std::mem::swap(&mut from, &mut to);
        }
        Ok(())
    }

    /// Where the segments have keys and values, without their first `left_out` rows.
    fn keys<'b>(
        &self,
        state: usize,
        addresses: &'b mut [Vec<Addresses<'_>>],
        left_out: usize,
    ) -> std::result::Result<Segments<'b>, Failure> {
        let placed = self.map.placed(state).ok_or("a block without a state")?;
        let segments = self.segments.iter().zip(addresses);
        let segments = segments.map(|(segment, addresses)| SegmentView {
            rows: segment.rows - left_out,
            position: segment.position + left_out,
            cache: SlotView {
                pages: pages_of(addresses, placed),
                keys: placed.keys,
                values: placed.values,
                start: segment.position + left_out - segment.first(placed.kind),
            },
            mask: self.map.mask(placed),
        });
        Ok(Segments::Keys(segments.collect()))
    }

    /// Where they have a recurrent state: none is behind the last block that writes.
    fn recurrent<'b>(
        &self,
        state: usize,
        slots: &'b mut [Slots<'_>],
    ) -> std::result::Result<Segments<'b>, Failure> {
        let place = self.map.slots().place(state);
        let place = place.filter(|_| slots.len() == self.segments.len());
        let place = place.ok_or("a gated delta net without a state")?;
        let sequences = self.segments.iter().zip(slots);
        let sequences = sequences.map(|(segment, slots)| slots.sequence(place, segment.rows));
        Ok(Segments::Recurrent(sequences.collect()))
    }
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

    fn view(&self) -> std::result::Result<linear::WeightView<'_>, Failure> {
        Ok(match self {
            Self::Dense(w) => linear::WeightView::Dense(matrix(&w.view())?),
            Self::Packed(format, arrays) => {
                let arrays: Vec<host_op::View<'_>> = arrays.iter().map(Pinned::view).collect();
                linear::WeightView::Quantized(quantized(*format, &arrays)?)
            }
            Self::Bf12(w) => linear::WeightView::Bf12(w),
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

    fn view(&self) -> std::result::Result<linear::LinearView<'_>, Failure> {
        let bias = self.bias.as_ref().map(|bias| matrix(&bias.view()));
        Ok(linear::LinearView {
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

    fn view(&self) -> std::result::Result<crate::rms_norm::NormView<'_>, Failure> {
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

    fn view(&self) -> std::result::Result<RotationView<'_>, Failure> {
        Ok(RotationView {
            periods: self.periods.view().elements()?,
            scale: self.scale,
            offset: 0,
        })
    }
}

type PinnedBlock =
    super::Block<PinnedLinear, PinnedNorm, PinnedRotation, PinnedExperts, PinnedFloats>;

/// Float32 numbers, pinned.
struct PinnedFloats(Pinned);

impl PinnedFloats {
    fn new(array: &&Array) -> Result<Self, Unpinned> {
        match array.dtype() {
            Dtype::Float32 => Ok(Self(Pinned::new(array)?)),
            _ => Err(Unpinned::Unserved),
        }
    }

    fn view(&self) -> std::result::Result<&[f32], Failure> {
        self.0.view().elements()
    }
}

/// [`AllExperts`], pinned.
struct PinnedExperts {
    each: Vec<Gated<PinnedLinear>>,
    factors: Vec<f32>,
}

impl Each for PinnedExperts {
    fn count(&self) -> usize {
        self.each.len()
    }

    fn factor(&self, index: usize) -> f32 {
        self.factors.get(index).copied().unwrap_or(1.0)
    }

    fn expert(&self, index: usize) -> crate::Result<Gated<linear::LinearView<'_>>> {
        let refused = |what: String| crate::Error::Shape {
            op: "experts",
            what,
        };
        let expert = self
            .each
            .get(index)
            .ok_or_else(|| refused(format!("there is no expert {index}")))?;
        expert.try_map(|linear| {
            linear
                .view()
                .map_err(|failure| refused(failure.to_string()))
        })
    }
}

fn pinned(block: &Block<'_>) -> Result<PinnedBlock, Unpinned> {
    block.try_map(
        PinnedLinear::new,
        PinnedNorm::new,
        PinnedRotation::new,
        |all| {
            if all.each.is_empty() {
                return Err(Unpinned::Unserved);
            }
            let each = all.each.iter();
            let each = each.map(|expert| expert.try_map(PinnedLinear::new));
            Ok(PinnedExperts {
                each: each.collect::<Result<_, _>>()?,
                factors: all.factors.to_vec(),
            })
        },
        PinnedFloats::new,
    )
}

/// The kernel's view of a block.
fn view(block: &PinnedBlock) -> std::result::Result<BlockView<'_>, Failure> {
    block.try_map(
        PinnedLinear::view,
        PinnedNorm::view,
        PinnedRotation::view,
        |each| Ok(each as &dyn Each),
        PinnedFloats::view,
    )
}
