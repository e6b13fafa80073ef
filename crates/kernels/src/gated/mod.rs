//! Gated activations: what stands between the products of a feed-forward layer.

pub mod cuda;
pub(crate) mod graph;
mod metal;
mod sigmoid;

use std::ops::Range;

use crate::error::ensure;
use crate::isa::{Kernel, Simd, dispatch, sigmoid};
use crate::scratch::Scratch;
use crate::vector::{dot, grain, load_row, store_row};
use crate::view::Rows;
use crate::{Cpu, Result, View, ViewMut};

pub(crate) use sigmoid::gate_by_sigmoid;

/// The function that the gate goes through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `g · sigmoid(g)`: Qwen3.
    Silu,
    /// `g/2 · (1 + tanh(√(2/π) (g + 0.044715 g³)))`: Gemma.
    GeluTanh,
    /// `(u + 1) · g · sigmoid(alpha g)`, where `g` is the gate, but at most `limit`, and `u` is up, held between
    /// `-limit` and `limit`: gpt-oss.
    Clamped {
        /// Above zero.
        limit: f32,
        /// Of the sigmoid.
        alpha: f32,
    },
}

/// `y = activation(gate) · up`, in float32 from and to any element types. `gate` and `up` may be
/// two halves of the rows of one matrix.
///
/// # Errors
/// When the sizes disagree.
pub fn gated(
    cpu: &Cpu,
    activation: Activation,
    gate: View<'_>,
    up: View<'_>,
    y: ViewMut<'_>,
) -> Result<()> {
    gated_above(cpu, activation, None, gate, up, y)
}

/// The same of a gate that is `cut` first: of each row what is above its mean by more than so many times its
/// standard deviation, less that; else 0.
///
/// # Errors
/// When the sizes disagree.
pub fn gated_above(
    cpu: &Cpu,
    activation: Activation,
    cut: Option<f32>,
    gate: View<'_>,
    up: View<'_>,
    mut y: ViewMut<'_>,
) -> Result<()> {
    let shape = y.layout().shape();
    ensure!(
        "gated",
        gate.layout().shape() == shape && up.layout().shape() == shape,
        "gate {:?} and up {:?} do not make y {shape:?}",
        gate.layout().shape(),
        up.layout().shape()
    );
    let y = y.rows();
    cpu.pool()
        .run_ranges(shape[0] * shape[1], grain(shape[2]), |range| {
            // SAFETY: the machine has the instruction set, since a `Cpu` that names it could be made;
            // ranges are disjoint.
            unsafe {
                dispatch(
                    cpu.isa(),
                    Gated {
                        activation,
                        cut,
                        gate,
                        up,
                        y,
                        range,
                    },
                )
            }
        });
    Ok(())
}

/// Rows `range`, counted plane after plane.
struct Gated<'a> {
    activation: Activation,
    cut: Option<f32>,
    gate: View<'a>,
    up: View<'a>,
    y: Rows<'a>,
    range: Range<usize>,
}

impl Kernel for Gated<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (rows, cols) = (self.y.layout().rows, self.y.layout().cols);
        let (mut gate, mut up) = (Scratch::<f32>::take(cols), Scratch::<f32>::take(cols));
        let (gate, up) = (gate.as_mut_ptr(), up.as_mut_ptr());
        for i in self.range {
            let (plane, row) = (i / rows, i % rows);
            // SAFETY: run by `dispatch`; scratch rows have room up to whole vectors.
            unsafe {
                load_row::<S>(&self.gate, plane, row, gate);
                if let Some(cut) = self.cut {
                    keep_above::<S>(gate, up, cols, cut);
                }
                load_row::<S>(&self.up, plane, row, up);
                for k in (0..cols).step_by(S::LANES) {
                    let (mut g, mut u) = (S::load_f32(gate.add(k)), S::load_f32(up.add(k)));
                    // 1 + tanh(x) is 2 sigmoid(2x), which keeps its accuracy where tanh nears -1.
                    let x = match self.activation {
                        Activation::Silu => g,
                        Activation::GeluTanh => {
                            let cubic = S::mul(S::mul(g, g), S::splat(0.044_715 * GELU));
                            S::mul(g, S::add(cubic, S::splat(GELU)))
                        }
                        Activation::Clamped { limit, alpha } => {
                            g = S::min(g, S::splat(limit));
                            u = S::max(S::min(u, S::splat(limit)), S::splat(-limit));
                            u = S::add(u, S::splat(1.0));
                            S::mul(g, S::splat(alpha))
                        }
                    };
                    S::store_f32(gate.add(k), S::mul(S::mul(g, sigmoid::<S>(x)), u));
                }
                store_row::<S>(self.y, plane, row, gate);
            }
        }
    }
}

/// What of `n` numbers is above their mean by more than `cut` times their standard deviation, less that; else 0.
///
/// # Safety
/// [`Simd`]'s contract; both rows have room up to whole vectors. `scratch` is written.
#[inline(always)]
unsafe fn keep_above<S: Simd>(row: *mut f32, scratch: *mut f32, n: usize, cut: f32) {
    // SAFETY: by this function's own contract.
    unsafe {
        let ones = S::splat(1.0);
        for k in (0..n).step_by(S::LANES) {
            S::store_f32(scratch.add(k), ones);
        }
        let mean = S::splat(dot::<S>(row, scratch, n) / n as f32);
        for k in (0..n).step_by(S::LANES) {
            S::store_f32(row.add(k), S::sub(S::load_f32(row.add(k)), mean));
        }
        let deviation = (dot::<S>(row, row, n) / n as f32).sqrt();
        let threshold = S::splat(cut * deviation);
        for k in (0..n).step_by(S::LANES) {
            let above = S::sub(S::load_f32(row.add(k)), threshold);
            S::store_f32(row.add(k), S::max(above, S::zero()));
        }
    }
}

/// 2 √(2/π).
const GELU: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
