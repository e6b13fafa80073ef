//! The gate of an MLP as a Metal kernel.

use std::cell::OnceCell;

use mlx_core::metal::Kernel;
use mlx_core::{Array, Result};

use super::Activation;
use crate::arrays::{are_floats, exactly};
use crate::metal::{Optional, runs};

/// The body of the kernel.
pub(super) const BODY: &str = include_str!("gated.metal");

/// Threads of a group.
const GROUP: i32 = 256;

/// What stands in front of the kernel.
const SILU_HEADER: &str = "#define SILU 1\n";
const GELU_TANH_HEADER: &str = "#define SILU 0\n";

thread_local! {
    static SILU: OnceCell<Kernel> = const { OnceCell::new() };
    static GELU_TANH: OnceCell<Kernel> = const { OnceCell::new() };
}

/// `activation(gate) · up`; `None` where the kernel does not run.
pub(super) fn gated(activation: Activation, gate: &Array, up: &Array) -> Result<Option<Array>> {
    let Ok(size) = i32::try_from(gate.size()) else {
        return Ok(None);
    };
    let alike = gate.shape() == up.shape() && gate.dtype() == up.dtype();
    if !alike || size == 0 || !are_floats(&[gate]) || !runs(Optional::Gate)? {
        return Ok(None);
    }
    let (made_by, name, header) = match activation {
        Activation::Silu => (&SILU, "gated_silu", SILU_HEADER),
        Activation::GeluTanh => (&GELU_TANH, "gated_gelu_tanh", GELU_TANH_HEADER),
        Activation::Clamped { .. } => return Ok(None),
    };
    made_by.with(|made| {
        let kernel = match made.get() {
            Some(kernel) => kernel,
            None => {
                let new = Kernel::new(name, &["gate", "up"], &["y"], BODY, header, true)?;
                made.get_or_init(|| new)
            }
        };
        let outputs = [(gate.shape(), gate.dtype())];
        let group = [GROUP.min(size), 1, 1];
        // SAFETY: each of `size` threads reads its element of two dense arrays of that size, and writes it of
        // the third.
        let made =
            unsafe { kernel.launch(&[gate, up], &outputs, gate.dtype(), [size, 1, 1], group) }?;
        let [y] = exactly(made);
        Ok(Some(y))
    })
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;
    use crate::metal::as_cpp;

    /// The body, as C++, against the formulas in float64.
    #[test]
    fn the_body_computes_both_gates() {
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        const N: usize = 4096;
        let mut gate: Vec<f32> = (0..N).map(|_| 12.0 * random()).collect();
        gate[..4].copy_from_slice(&[-100.0, 100.0, -1e30, 0.0]);
        let up: Vec<f32> = (0..N).map(|_| 3.0 * random()).collect();
        let input = [&gate[..], &up].concat();
        for (is_silu, header) in [(true, SILU_HEADER), (false, GELU_TANH_HEADER)] {
            let source = format!(
                r"
{header}
int main() {{
  auto gate = read<float>({N}), up = read<float>({N}), y = std::vector<float>({N});
  for (uint i = 0; i < {N}; i++) {{
    const uint3 thread_position_in_grid = {{i, 0, 0}};
    [&]() {{
      {BODY}
    }}();
  }}
  write(y);
}}"
            );
            let found = as_cpp::run(&source, &input);
            for ((&g, &u), &y) in gate.iter().zip(&up).zip(&found) {
                let g = f64::from(g);
                let right = match is_silu {
                    true => g / (1.0 + (-g).exp()),
                    false => {
                        let inner = (2.0 / PI).sqrt() * (g + 0.044715 * g * g * g);
                        0.5 * g * (1.0 + inner.tanh())
                    }
                };
                // Far below zero float64's tanh cancels: the bound there is that of the largest gate.
                let error = (f64::from(y) - right * f64::from(u)).abs();
                let bound = 2e-6 * (right * f64::from(u)).abs() + 1e-6;
                assert!(error <= bound, "SiLU {is_silu}, {g} times {u}: {y}");
            }
        }
    }
}
