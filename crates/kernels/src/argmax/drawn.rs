//! What a draw gives: a token, and whether the logits were numbers.

use mlx_core::{Array, Dtype, Result, host_op, ops};

use crate::arrays::exactly;

/// A token that was drawn from logits; or one of each of N rows of them.
///
/// The two differ only where the logits are not numbers: one of them is NaN, or the largest is not
/// finite. The next step may be under way before anybody looks, so that its input must be a token.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// An index of the vocabulary, int32 `[1]` or `[N]`: the input of the next step.
    pub id: Array,
    /// The same, or -1 where the logits are not numbers: what the host reads.
    pub seen: Array,
}

impl Drawn {
    /// Of `logits` `[V]` or `[N, V]`, by MLX's operations: `id` and what it was drawn from.
    pub fn new(logits: &Array, id: Array) -> Result<Self> {
        // The largest is NaN if one of them is. Nothing but a finite number is 0 times 0.
        let dtype = logits.dtype();
        let largest = ops::max(logits, &[-1], false)?.reshape(&[-1])?;
        let zero = ops::mul(&largest, &Array::scalar_of(0.0, dtype)?)?;
        let are_numbers = ops::less(&zero, &Array::scalar_of(1.0, dtype)?)?;
        let seen = ops::where_(&are_numbers, &id, &Array::scalar(-1_i32)?)?;
        Ok(Self { id, seen })
    }

    /// Of a kernel on the CPU, which writes both: `find` says the index in a row, if the logits are numbers.
    pub(crate) fn by_kernel(
        name: &'static str,
        inputs: &[&Array],
        rows: i32,
        mut find: impl FnMut(&[host_op::View<'_>], usize) -> Result<Option<usize>, host_op::Failure>
        + Send
        + 'static,
    ) -> Result<Self> {
        let each: (&[i32], Dtype) = (&[rows], Dtype::Int32);
        let made = host_op::call(name, inputs, &[each, each], move |inputs, outputs| {
            let [id, seen] = outputs else {
                return Err("not two outputs".into());
            };
            let both = id.elements_mut::<i32>()?.iter_mut();
            for (row, (id, seen)) in both.zip(seen.elements_mut::<i32>()?).enumerate() {
                let found = find(inputs, row)?.map(i32::try_from).transpose()?;
                (*id, *seen) = (found.unwrap_or(0), found.unwrap_or(-1));
            }
            Ok(())
        })?;
        let [id, seen] = exactly(made);
        Ok(Self { id, seen })
    }
}
