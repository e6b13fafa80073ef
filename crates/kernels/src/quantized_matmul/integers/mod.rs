//! bfloat16 `x` by weights of any format, with AVX2, and with VNNI where there is that: of all but mxfp8 in products of 16-bit integers.
//!
//! Few rows are the decode step, and memory is its limit, which the float path does not reach: it takes
//! three instructions for eight weights, and a core of such a machine must unpack six weights in
//! a cycle. Here three do for sixteen:
//!
//! * Codes become 16-bit integers by a mask or a shift, in the order in which that leaves them; those that
//!   cross bytes by an exchange of bytes and a product that shifts. See [`codes`].
//! * `x` becomes 16-bit integers, in that order, once a call: the 64 elements of a span of a group share a power
//!   of two, the largest one that loses none of the largest element; or, where a step of codes is of several
//!   groups, the eight (sixteen with codes of two bits) that meet in a lane. A bfloat16 has eight significant
//!   bits, so an element keeps all of them unless it is more than 128 times smaller than the largest of them;
//!   what it loses then is at most 2^-15 of that one, where rounding to bfloat16 may lose 2^-9 of itself. See
//!   [`arrange`].
//! * Sums of the products of a lane are exact integers; scales, powers of two and all further sums are float32.
//!   A span has one factor, so that a lane's sum costs a conversion and an addition; lanes of several groups need
//!   theirs permuted and multiplied too. See [`steps`].
//!
//! Weights of mxfp8 become float32 in registers ([`floats8`]). Many rows, a prefill, have [`many`].
//!
//! With AVX-512 and VNNI two rows of weights of 4 or 8 bits lie in a vector ([`pairs`]).
//!
//! An element of `x` that is infinite makes its row of the product not a number, as one that is none does.
//! On a machine with AVX-512, this is what serves the formats that have no kernel of their own there.

mod arrange;
mod codes;
mod floats8;
mod many;
mod pairs;
mod rows;
mod scales;
mod steps;

use half::{bf16, f16};

use super::format::lane_groups;
use super::{Mode, Part};
use crate::{Cpu, Dtype, Isa, View, stream};

use arrange::Arranged;
use codes::{Affine2, Affine4, Affine8, Codes, Floats4, Odd};
use rows::Job;
use scales::{E4m3, E8m0, Plain, ScaleFormat};

/// `y = x · wᵀ` for each part, all of one kind; `x` is bfloat16, and the sizes fit.
pub(super) fn products(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    let format = parts[0].w.format();
    match (format.mode(), format.bits()) {
        (Mode::Mxfp4, _) => start::<Floats4, E8m0>(cpu, x, parts),
        (Mode::Nvfp4, _) => start::<Floats4, E4m3>(cpu, x, parts),
        (Mode::Mxfp8, _) => floats8::products(cpu, x, parts),
        (Mode::Affine, 2) => affine::<Affine2>(cpu, x, parts),
        (Mode::Affine, 3) => affine::<Odd<3>>(cpu, x, parts),
        (Mode::Affine, 4) => affine::<Affine4>(cpu, x, parts),
        (Mode::Affine, 5) => affine::<Odd<5>>(cpu, x, parts),
        (Mode::Affine, 6) => affine::<Odd<6>>(cpu, x, parts),
        (Mode::Affine, _) => affine::<Affine8>(cpu, x, parts),
    }
}

/// Whether pairs of 16-bit integers are multiplied and added in one instruction, sixteen at a time.
fn has_vnni(cpu: &Cpu) -> bool {
    cpu.isa() == Isa::Avx512 && is_x86_feature_detected!("avx512vnni")
}

/// The same for many rows. False where there are no such instructions, or the format's weights are no integers: nothing
/// was done.
pub(super) fn many_products(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) -> bool {
    if cpu.isa() != Isa::Avx2 && !has_vnni(cpu) {
        return false;
    }
    let (format, _, dtype) = parts[0].w.kind();
    match (format.mode(), dtype) {
        (Mode::Mxfp8, _) => return false,
        (Mode::Nvfp4, _) => many::products::<E4m3>(cpu, x, parts),
        (Mode::Mxfp4, _) => many::products::<E8m0>(cpu, x, parts),
        (Mode::Affine, Some(Dtype::F32)) => many::products::<Plain<f32>>(cpu, x, parts),
        (Mode::Affine, Some(Dtype::F16)) => many::products::<Plain<f16>>(cpu, x, parts),
        (Mode::Affine, _) => many::products::<Plain<bf16>>(cpu, x, parts),
    }
    true
}

/// By the type of scales and biases.
fn affine<C: Codes>(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    let (_, _, dtype) = parts[0].w.kind();
    match dtype {
        Some(Dtype::F32) => start::<C, Plain<f32>>(cpu, x, parts),
        Some(Dtype::F16) => start::<C, Plain<f16>>(cpu, x, parts),
        _ => start::<C, Plain<bf16>>(cpu, x, parts),
    }
}

/// Arranges `x` and shares the rows of the weights among the threads.
fn start<C: Codes, S: ScaleFormat>(cpu: &Cpu, x: &View<'_>, parts: &[Part<'_>]) {
    let format = parts[0].w.format();
    // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made.
    let arranged = unsafe { Arranged::new::<C>(x, format.group_size()) };
    let job = Job {
        order: lane_groups(format, C::LANE),
        format,
        arranged: &arranged,
        parts,
    };
    let rows = parts.iter().map(|part| part.w.rows());
    // The constant first, or it would be compiled for all codes.
    if C::IN_PAIRS && has_vnni(cpu) {
        let run = |part, range| {
            // SAFETY: as below; the machine has AVX-512 with VNNI.
            unsafe { job.columns_of_pairs::<C, S>(part, range) }
        };
        return stream::share(cpu, parts[0].w.row_bytes(), rows, run);
    }
    stream::share(cpu, parts[0].w.row_bytes(), rows, |part, range| {
        // SAFETY: as above; ranges are disjoint and within the rows, and the weights are of the
        // format that was matched.
        unsafe { job.columns::<C, S>(part, range) }
    });
}
