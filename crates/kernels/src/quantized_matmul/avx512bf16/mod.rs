//! Few rows of bfloat16 `x` by 4- or 8-bit weights, with AVX-512's bfloat16 dot product.
//!
//! This is the decode step, and memory is its limit: a line of weights (64 bytes) must cost fewer
//! cycles than it takes to arrive. Three decisions keep it to some fifteen instructions:
//!
//! * A shift and one logical operation make a bfloat16 of a nibble; see [`unpack`].
//! * Weights stay in the order in which that unpacks them. It is `x` that is put into this order,
//!   once a call.
//! * Scales are applied to the sixteen partial sums of a line, spread over the lanes by a
//!   permutation; biases multiply the sums of `x` over groups, sixteen groups at a time.
//!
//! So products are exact, and all sums are float32.

mod arrange;
mod rows;
mod scales;
mod unpack;

use super::{Mode, Quantized, Scales};
use crate::view::Rows;
use crate::{Cpu, Dtype, View};

use arrange::Arranged;
use rows::Job;
use scales::{Bf16, E4m3, E8m0, F16, F32, ScaleFormat};

/// Bytes of weights that a range of rows has at least: enough to outweigh drawing it and the wait
/// for its first lines.
const GRAIN_BYTES: usize = 32 * 1024;

/// Whether [`product`] serves this.
pub(super) fn serves(cpu: &Cpu, x: &View<'_>, w: &Quantized<'_>) -> bool {
    let mode = w.format().mode();
    cpu.isa() == crate::Isa::Avx512Bf16
        && x.layout().dtype == Dtype::Bf16
        && match w.format().bits() {
            4 => true,
            8 => mode == Mode::Affine,
            _ => false,
        }
}

/// `y = x · wᵀ`; [`serves`] said yes, and the sizes fit.
pub(super) fn product(cpu: &Cpu, x: &View<'_>, w: &Quantized<'_>, y: Rows<'_>) {
    // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made.
    let arranged = unsafe { Arranged::new(x, w.format()) };
    let (scales, biases) = match w.scales {
        Scales::Affine { scales, biases, .. } => (scales.as_ptr(), biases.as_ptr()),
        Scales::Bytes(scales) => (scales.as_ptr(), scales.as_ptr()),
    };
    let job = Job {
        format: w.format(),
        packed: w.packed.as_ptr(),
        row_bytes: w.row_bytes(),
        scales,
        biases,
        groups: w.groups(),
        order: rows::lane_groups(w.format()),
        arranged: &arranged,
        y,
    };
    let rows = w.rows();
    match (w.format().bits(), w.scales, w.format().mode()) {
        (
            4,
            Scales::Affine {
                dtype: Dtype::Bf16, ..
            },
            _,
        ) => start::<Bf16, 4>(cpu, rows, &job),
        (
            4,
            Scales::Affine {
                dtype: Dtype::F16, ..
            },
            _,
        ) => start::<F16, 4>(cpu, rows, &job),
        (
            4,
            Scales::Affine {
                dtype: Dtype::F32, ..
            },
            _,
        ) => start::<F32, 4>(cpu, rows, &job),
        (4, _, Mode::Nvfp4) => start::<E4m3, 4>(cpu, rows, &job),
        (4, _, _) => start::<E8m0, 4>(cpu, rows, &job),
        (
            _,
            Scales::Affine {
                dtype: Dtype::F16, ..
            },
            _,
        ) => start::<F16, 8>(cpu, rows, &job),
        (
            _,
            Scales::Affine {
                dtype: Dtype::F32, ..
            },
            _,
        ) => start::<F32, 8>(cpu, rows, &job),
        _ => start::<Bf16, 8>(cpu, rows, &job),
    }
}

/// Shares the rows of the weights among the threads. A block of them stays in cache while up to
/// four rows of `x` at a time meet it.
fn start<S: ScaleFormat, const BITS: usize>(cpu: &Cpu, rows: usize, job: &Job<'_>) {
    let grain = (GRAIN_BYTES / job.row_bytes).next_multiple_of(8).max(8);
    cpu.pool().run_ranges(rows, grain, |range| {
        for first in range.clone().step_by(grain) {
            let block = first..range.end.min(first + grain);
            let mut m = 0;
            while m < job.arranged.rows {
                // SAFETY: the machine has the instruction set (see `product`), ranges are
                // disjoint and within the rows, so many rows of `x` are left, and the weights are
                // of the format that was matched.
                unsafe {
                    m += match job.arranged.rows - m {
                        4.. => job.run::<S, BITS, 2, 4>(m, block.clone(), range.end),
                        2.. => job.run::<S, BITS, 4, 2>(m, block.clone(), range.end),
                        _ => job.run::<S, BITS, 4, 1>(m, block.clone(), range.end),
                    };
                }
            }
        }
    });
}
