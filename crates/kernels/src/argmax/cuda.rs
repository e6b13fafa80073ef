//! The largest of each row as CUDA kernels: MLX gives a row to one block, which takes as long for a vocabulary
//! as a layer of a model does.

use mlx_core::cuda::{Launch, Scalar};
use mlx_core::{Array, Dtype, Result};

use super::drawn::Drawn;
use crate::arrays::exactly;
use crate::cuda::{Compiled, has_kernels};

/// CUDA C++ that needs no header.
pub const SOURCE: &str = include_str!("argmax.cu");

/// Threads of a block, and numbers that one looks at.
const THREADS: u32 = 256;
const EACH: i32 = 8192;

/// What the source is compiled with.
pub fn options() -> Vec<String> {
    vec![format!("-DTHREADS={THREADS}")]
}

/// See [`super::graph::argmax`], of `x` `[N, V]`; `None` for what the kernels lack.
pub(super) fn argmax(x: &Array) -> Result<Option<Drawn>> {
    let (rows, columns) = (x.dim(0), x.dim(1));
    if x.dtype() != Dtype::Float32 || rows > i32::from(u16::MAX) || !has_kernels()? {
        return Ok(None);
    }
    static PARTS: Compiled<()> = Compiled::new();
    static ROWS: Compiled<()> = Compiled::new();
    let of_parts = PARTS.get((), "largest_of_parts", SOURCE, |()| options())?;
    let of_rows = ROWS.get((), "largest_of_rows", SOURCE, |()| options())?;
    let parts = columns.unsigned_abs().div_ceil(EACH.unsigned_abs());
    let shape = [rows, parts as i32];
    let found: [(&[i32], Dtype); 2] = [(&shape, Dtype::Float32), (&shape, Dtype::Int32)];
    let launch = Launch::new([parts, rows.unsigned_abs(), 1], [THREADS, 1, 1]);
    let scalars = [columns, EACH].map(Scalar::Int);
    // SAFETY: the parameters are the kernel's, which reads `rows` rows of `columns` numbers, dense or copied, and
    // writes a number and a place for each part of each row.
    let made = unsafe { of_parts.launch(&[x], &found, &scalars, launch) }?;
    let [values, places] = exactly(made);
    let each: (&[i32], Dtype) = (&[rows], Dtype::Int32);
    let launch = Launch::new([rows.unsigned_abs(), 1, 1], [THREADS, 1, 1]);
    let scalars = [Scalar::Int(shape[1])];
    // SAFETY: the parameters are the kernel's, which reads those parts and writes two numbers for each row.
    let made = unsafe { of_rows.launch(&[&values, &places], &[each, each], &scalars, launch) }?;
    let [id, seen] = exactly(made);
    Ok(Some(Drawn { id, seen }))
}
