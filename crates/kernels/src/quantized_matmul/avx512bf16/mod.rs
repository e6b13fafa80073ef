//! Few rows of bfloat16 `x` by 4- or 8-bit weights, with AVX-512's bfloat16 dot product.
//!
//! This is the decode step, and memory is its limit: a line of weights (64 bytes) must cost fewer
//! cycles than it takes to arrive. For 4 bits three decisions keep it to some fifteen instructions (bytes have
//! their own: see [`bytes`]):
//!
//! * A shift and one logical operation make a bfloat16 of a nibble; see [`unpack`].
//! * Weights stay in the order in which that unpacks them. It is `x` that is put into this order,
//!   once a call.
//! * Scales are applied to the sixteen partial sums of a line, spread over the lanes by a
//!   permutation; biases multiply the sums of `x` over groups, sixteen groups at a time.
//!
//! So products are exact, and all sums are float32.

mod arrange;
mod bytes;
mod rows;
mod scales;
mod unpack;

use super::format::lane_groups;
use super::{Format, Mode, Part};
use crate::{Cpu, Dtype, View, stream};

use arrange::Arranged;
use rows::Job;
use scales::{Bf16, E4m3, E8m0, F16, F32, ScaleFormat};

/// Whether [`products`] has the format: codes of 4 bits, and integers of 8.
pub(super) fn has_kernel(format: Format) -> bool {
    format.bits() == 4 || format.bits() == 8 && format.mode() == Mode::Affine
}

/// `y = x · wᵀ` for each part, all of one kind that [`serves`] names; `x` is bfloat16, and the sizes fit.
pub(super) fn products(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    let (format, _, dtype) = parts[0].w.kind();
    if format.bits() == 8 {
        return bytes::products(cpu, x, parts);
    }
    // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made.
    let arranged = unsafe { Arranged::new(x, format) };
    let job = Job {
        format,
        order: lane_groups(format, 8),
        arranged: &arranged,
        parts,
    };
    match dtype {
        Some(Dtype::F32) => start::<F32>(cpu, &job),
        Some(Dtype::F16) => start::<F16>(cpu, &job),
        Some(Dtype::Bf16) => start::<Bf16>(cpu, &job),
        None if format.mode() == Mode::Nvfp4 => start::<E4m3>(cpu, &job),
        None => start::<E8m0>(cpu, &job),
    }
}

/// Shares the rows of the weights among the threads.
fn start<S: ScaleFormat>(cpu: &Cpu, job: &Job<'_>) {
    let rows = job.parts.iter().map(|part| part.w.rows());
    stream::share(cpu, job.parts[0].w.row_bytes(), rows, |part, range| {
        // SAFETY: the machine has the instruction set (see `products`), ranges are disjoint and
        // within the rows, and the weights are of the format that was matched.
        unsafe { job.columns::<S>(part, range) }
    });
}
