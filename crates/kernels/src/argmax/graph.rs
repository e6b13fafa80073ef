//! Greedy decoding as a node of MLX's graph.

use mlx_core::{Array, Dtype, Result, host_op, ops};

use crate::Cpu;
use crate::graph::{are_floats, matrix, on_cpu};

/// The index of the largest of `x` `[V]`, int32 `[1]`; of several, the first.
pub fn argmax(x: &Array) -> Result<Array> {
    if x.ndim() != 1 || x.size() == 0 || !are_floats(&[x]) || !on_cpu()? {
        let index = ops::argmax(x, -1, false)?;
        return index.reshape(&[1])?.cast(Dtype::Int32);
    }
    host_op::single("argmax", &[x], &[1], Dtype::Int32, |inputs, y| {
        let index = super::argmax(Cpu::shared(), matrix(&inputs[0])?)?;
        y.elements_mut::<i32>()?[0] = i32::try_from(index)?;
        Ok(())
    })
}
