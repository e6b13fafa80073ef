//! The gate of an MLP as a CUDA kernel.

use mlx_core::cuda::{Launch, Scalar};
use mlx_core::{Array, Result};

use super::Activation;
use crate::Dtype;
use crate::arrays::{dtype, exactly, with_last};
use crate::columns::Columns;
use crate::cuda::{Compiled, dtype_option, has_kernels};

/// CUDA C++ that needs no header.
pub const SOURCE: &str = crate::with_numbers!("activation.cuh", "gated.cu");

/// Threads of a block.
const THREADS: u32 = 256;

/// What the code depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variant {
    /// Of the gate.
    pub activation: Activation,
    /// Of gate, up and result.
    pub dtype: Dtype,
}

impl Variant {
    /// What the source is compiled with.
    pub fn options(&self) -> Vec<String> {
        let mut options = activation_options(self.activation);
        options.extend([dtype_option(self.dtype), format!("-DTHREADS={THREADS}")]);
        options
    }
}

/// What tells the source which function a gate goes through.
pub(crate) fn activation_options(activation: Activation) -> Vec<String> {
    match activation {
        Activation::Silu => vec!["-DSILU".to_owned()],
        Activation::GeluTanh => vec!["-DGELU_TANH".to_owned()],
        Activation::Clamped { limit, alpha } => vec![
            "-DCLAMPED".to_owned(),
            format!("-DLIMIT={limit:e}f"),
            format!("-DALPHA={alpha:e}f"),
        ],
    }
}

/// See [`super::graph::gated`]; `None` for what the kernel lacks.
pub(super) fn gated(activation: Activation, gate: &Columns, up: &Columns) -> Result<Option<Array>> {
    let (g, u) = (gate.array(), up.array());
    let ([rows, gate_apart], [up_rows, up_apart]) = (gate.rows(), up.rows());
    let width = gate.width();
    let places = [gate.start(), gate_apart, up.start(), up_apart];
    let eights = rows.checked_mul(width / 8).filter(|n| *n > 0);
    let fits = g.dtype() == u.dtype()
        && (rows, width) == (up_rows, up.width())
        && width % 8 == 0
        && places.iter().all(|n| n % 8 == 0);
    let (Some(dtype), Some(eights), true) = (dtype(g.dtype()), eights, fits && has_kernels()?)
    else {
        return Ok(None);
    };
    static COMPILED: Compiled<Variant> = Compiled::new();
    let variant = Variant { activation, dtype };
    let kernel = COMPILED.get(variant, "gated", SOURCE, Variant::options)?;
    let shape = with_last(g, width);
    let [g_at, g_apart, u_at, u_apart] = places;
    let scalars = [eights, width / 8, g_at, g_apart, u_at, u_apart].map(Scalar::Int);
    let blocks = eights.unsigned_abs().div_ceil(THREADS);
    let launch = Launch::new([blocks, 1, 1], [THREADS, 1, 1]);
    // SAFETY: the parameters are the kernel's. It reads `rows` rows of `width` numbers within each of
    // the arrays, which are dense or copied, and writes as many; all places are multiples of 8 numbers.
    let made = unsafe { kernel.launch(&[g, u], &[(&shape, g.dtype())], &scalars, launch) }?;
    let [made] = exactly(made);
    Ok(Some(made))
}
