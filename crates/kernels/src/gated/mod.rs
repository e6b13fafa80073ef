//! Gated activations: what stands between the products of a feed-forward layer.

pub mod cuda;
pub(crate) mod graph;
mod metal;
mod sigmoid;

use std::ops::Range;

use crate::error::ensure;
use crate::isa::{Kernel, Simd, dispatch, sigmoid};
use crate::scratch::Scratch;
use crate::vector::{grain, load_row, store_row};
use crate::view::Rows;
use crate::{Cpu, Result, View, ViewMut};

pub(crate) use sigmoid::gate_by_sigmoid;

/// The function that the gate goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `g · sigmoid(g)`: Qwen3.
    Silu,
    /// `g/2 · (1 + tanh(√(2/π) (g + 0.044715 g³)))`: Gemma.
    GeluTanh,
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
                load_row::<S>(&self.up, plane, row, up);
                for k in (0..cols).step_by(S::LANES) {
                    let (g, u) = (S::load_f32(gate.add(k)), S::load_f32(up.add(k)));
                    // 1 + tanh(x) is 2 sigmoid(2x), which keeps its accuracy where tanh nears -1.
                    let x = match self.activation {
                        Activation::Silu => g,
                        Activation::GeluTanh => {
                            let cubic = S::mul(S::mul(g, g), S::splat(0.044_715 * GELU));
                            S::mul(g, S::add(cubic, S::splat(GELU)))
                        }
                    };
                    S::store_f32(gate.add(k), S::mul(S::mul(g, sigmoid::<S>(x)), u));
                }
                store_row::<S>(self.y, plane, row, gate);
            }
        }
    }
}

/// 2 √(2/π).
const GELU: f32 = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::SQRT_2;
