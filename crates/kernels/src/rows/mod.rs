//! Chosen rows of a plain matrix: an embedding.

use mlx_core::cuda::{Launch, Scalar};
use mlx_core::{Array, Dtype, Result, ops};

use crate::arrays::exactly;
use crate::cuda::{Compiled, has_kernels};

/// CUDA C++ that needs no header.
pub const SOURCE: &str = include_str!("rows.cu");

/// Threads of a block.
const THREADS: u32 = 128;
/// Bytes that a thread copies at once.
const PIECE: usize = 16;

/// What the source is compiled with.
pub fn options() -> Vec<String> {
    vec![format!("-DTHREADS={THREADS}")]
}

/// The rows of `matrix [N, K]` at `ids`, int32 `[L]`: `[L, K]`.
///
/// On CUDA rows that are not there are undefined. (MLX's own kernel takes 280 µs for 2048 rows of 2 kB.)
pub fn rows(matrix: &Array, ids: &Array) -> Result<Array> {
    match on_gpu(matrix, ids)? {
        Some(made) => Ok(made),
        None => ops::take(matrix, ids, 0),
    }
}

/// `None` for what the kernel lacks.
fn on_gpu(matrix: &Array, ids: &Array) -> Result<Option<Array>> {
    let (&[count, width], &[length]) = (matrix.shape(), ids.shape()) else {
        return Ok(None);
    };
    let bytes = width.max(0) as usize * matrix.dtype().size();
    let fits =
        ids.dtype() == Dtype::Int32 && bytes.is_multiple_of(PIECE) && bytes > 0 && length > 0;
    let (Ok(pieces), true) = (i32::try_from(bytes / PIECE), fits && has_kernels()?) else {
        return Ok(None);
    };
    static COMPILED: Compiled<()> = Compiled::new();
    let kernel = COMPILED.get((), "rows", SOURCE, |()| options())?;
    let shape = [length, width];
    let outputs = [(&shape[..], matrix.dtype())];
    let launch = Launch::new([length.unsigned_abs(), 1, 1], [THREADS, 1, 1]);
    // SAFETY: the parameters are the kernel's. It reads as many ids as it has blocks, and of the matrix
    // rows that are there, and writes a row a block. Rows are whole pieces, and the arrays are dense or
    // copied, and begin at multiples of rows.
    let made = unsafe {
        let scalars = [count, pieces].map(Scalar::Int);
        kernel.launch(&[matrix, ids], &outputs, &scalars, launch)
    }?;
    let [made] = exactly(made);
    Ok(Some(made))
}
