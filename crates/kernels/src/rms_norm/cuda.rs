//! Norms and residual sums as a CUDA kernel.

use mlx_core::cuda::{Launch, Scalar};
use mlx_core::{Array, Result};

use super::norm::Norm;
use crate::Dtype;
use crate::arrays::dtype;
use crate::cuda::{Compiled, dtype_option, has_kernels};

/// CUDA C++ that needs no header.
pub const SOURCE: &str = crate::with_numbers!("residual.cu");

/// Elements of a row that a thread holds, if the row is not too long: more make more code, which MLX hashes
/// at each launch.
const EACH: usize = 8;
/// Elements of the longest row: a thread of the largest block then holds 32.
const LONGEST: usize = 16384;

/// What the code depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Elements of a row.
    pub width: usize,
    /// Of everything.
    pub dtype: Dtype,
    /// Whether there is an addend.
    pub add: bool,
    /// Whether the addend is normalized.
    pub behind: bool,
    /// Whether what follows is wanted normalized.
    pub norm: bool,
}

impl Variant {
    /// What the source is compiled with.
    pub fn options(&self) -> Vec<String> {
        let mut options = vec![
            dtype_option(self.dtype),
            format!("-DWIDTH={}", self.width),
            format!("-DTHREADS={}", self.threads()),
        ];
        let stages = [
            (self.add, "ADD"),
            (self.behind, "BEHIND"),
            (self.norm, "NORM"),
        ];
        let stages = stages.iter().filter(|(is_there, _)| *is_there);
        options.extend(stages.map(|(_, name)| format!("-D{name}")));
        options
    }

    fn threads(&self) -> usize {
        self.width
            .div_ceil(EACH)
            .next_multiple_of(32)
            .clamp(32, 512)
    }
}

/// What becomes of rows `x [.., width]`.
pub(super) struct Rows<'a> {
    pub(super) x: &'a Array,
    /// What is added, and how it is normalized before.
    pub(super) addend: Option<(&'a Array, Option<Norm<'a>>)>,
    /// How the rows are normalized then.
    pub(super) norm: Option<Norm<'a>>,
}

impl Rows<'_> {
    /// The sum, if there is an addend, and the normalized rows, if they are wanted; `None` for what the
    /// kernel lacks.
    pub(super) fn on_gpu(&self) -> Result<Option<Vec<Array>>> {
        let x = self.x;
        let behind = self.addend.and_then(|(_, norm)| norm);
        let width = x.shape().last().map_or(0, |&n| n as usize);
        let rows = x.size().checked_div(width).unwrap_or(0);
        let alike = |norm: &Norm<'_>| norm.fits(x) && norm.weight.dtype() == x.dtype();
        let fits = width.is_multiple_of(8)
            && width <= LONGEST
            && [behind, self.norm].iter().flatten().all(alike)
            && self.addend.is_none_or(|(addend, _)| {
                addend.shape() == x.shape() && addend.dtype() == x.dtype()
            });
        let (Some(dtype), Ok(rows @ 1..), true) = (
            dtype(x.dtype()),
            u32::try_from(rows),
            fits && has_kernels()?,
        ) else {
            return Ok(None);
        };
        let variant = Variant {
            width,
            dtype,
            add: self.addend.is_some(),
            behind: behind.is_some(),
            norm: self.norm.is_some(),
        };
        static COMPILED: Compiled<Variant> = Compiled::new();
        let kernel = COMPILED.get(variant, "residual", SOURCE, Variant::options)?;
        let addend = self.addend.map(|(addend, _)| addend);
        let weights = [behind, self.norm].map(|norm| norm.map(|norm| norm.weight));
        let inputs = [Some(x), addend].into_iter().chain(weights).flatten();
        let inputs: Vec<&Array> = inputs.collect();
        let output = (x.shape(), x.dtype());
        let outputs = vec![output; usize::from(variant.add) + usize::from(variant.norm)];
        let eps = [behind, self.norm].map(|norm| Scalar::Float(norm.map_or(0.0, |norm| norm.eps)));
        let launch = Launch::new([rows, 1, 1], [variant.threads() as u32, 1, 1]);
        // SAFETY: the parameters are the kernel's, compiled for what there is of inputs and outputs and
        // for rows of this width; x, addend and outputs have `rows` of them. Rows are multiples of 16
        // bytes, and the arrays are dense or copied, and begin at multiples of rows.
        let made = unsafe { kernel.launch(&inputs, &outputs, &eps, launch) }?;
        Ok(Some(made))
    }
}
