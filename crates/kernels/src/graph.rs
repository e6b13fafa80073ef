//! The kernels as nodes of MLX's graph, and the choice between them and MLX's own operations.
//!
//! Each operation here takes and gives arrays. On the CPU it becomes a host operation that runs our
//! kernel, and on CUDA one of our launches where we have one, unless [`force_mlx`] says otherwise; else it
//! is MLX's. What they compute is the same, so a model calls these and knows of no device.

use mlx_core::{DeviceKind, device};

pub use crate::altup::Coefficients;
pub use crate::argmax::drawn::Drawn;
pub use crate::argmax::graph::argmax;
pub use crate::arrays::{force_mlx, on_cpu};
pub use crate::attention::Scores;
pub use crate::attention::array_mask::Mask;
pub use crate::attention::graph::{Seen, Sinks, attend, attend_and_show, attend_to};
pub use crate::bf12::graph::{Encoded, bf12_matmuls, bf12_rows, encode_bf12};
pub use crate::block::graph::{AllExperts, Block, Linear, PinnedBlocks, Weight};
pub use crate::block::{
    AltUp, Attention, Both, DeltaInputs, DeltaNet, Laurel, Mixer, Mlp, OwnInput,
};
pub use crate::columns::Columns;
pub use crate::delta::graph::{
    Delta, Deltas, Entered as NetEntered, Made as NetMade, Net, Remembered, delta_net, gated_delta,
};
pub use crate::delta::net::Sizes as DeltaSizes;
pub use crate::dequantize::graph::dequantized;
pub use crate::draw::cuda::{Slot as DrawSlot, draw as draw_by_slots};
pub use crate::draw::graph::{draw_each, on_host};
pub use crate::experts::graph::{Mixture, logits, mixture};
pub use crate::experts::{Experts, Shared};
pub use crate::gated::Activation;
pub use crate::gated::graph::gated;
pub use crate::kv::{Heads, KvBuffers, Slot};
pub use crate::matmul::graph::matmuls;
pub use crate::mlp::Gated;
pub use crate::pages::graph::{Page, PageKind, PageList, PageMap, Segment, live_pages};
pub use crate::pages::slots::{SlotMap, SlotPages};
pub use crate::pages::still::{PageRoom, StillPage};
pub use crate::pages::transfer::{Range as PageRange, read_pages, write_pages};
pub use crate::quantized_matmul::graph::{dequantized_rows, quantized_matmuls};
pub use crate::quantized_matmul::mlx::unpacked;
pub use crate::quantized_matmul::packed::Packed;
pub use crate::rms_norm::graph::{residual, residual_norm, rms_norm};
pub use crate::rms_norm::norm::Norm;
pub use crate::rope::entry::{Entered, Entry, Rotation};
pub use crate::rope::graph::into_cache;
pub use crate::rows::rows;

/// Whether [`attend`] writes caches where they lie, so that attention has to be submitted before the
/// next operation that writes them.
pub fn writes_in_place() -> mlx_core::Result<bool> {
    Ok(crate::cuda::has_kernels()? || crate::kv::metal::may_write_in_place()?)
}

/// Rows of which none depends on the others in any product on a processor: with floats as weights, or with all
/// of them quantized.
pub const fn rows_apart(quantized: bool) -> usize {
    match quantized {
        true => crate::quantized_matmul::FEW,
        false if crate::matmul::FEW < crate::bf12::FEW => crate::matmul::FEW,
        false => crate::bf12::FEW,
    }
}

/// So many rows, and more, are multiplied in tiles by every product on a processor: there too none depends on the
/// others.
pub const fn rows_in_tiles() -> usize {
    let (dense, encoded) = (crate::matmul::FEW, crate::bf12::FEW);
    let few = if dense < encoded { encoded } else { dense };
    match few < crate::quantized_matmul::FEW {
        true => crate::quantized_matmul::FEW + 1,
        false => few + 1,
    }
}

/// Whether products of several rows may make plain matrices of packed ones on the way: on CUDA. MLX's
/// kernels for Metal unpack as they multiply.
pub fn may_unpack() -> mlx_core::Result<bool> {
    Ok(device::current()? == DeviceKind::Cuda)
}
