//! Numbers that operations need at each token, as arrays that are made once a thread.
//!
//! On a GPU each new array is a buffer of its own.

use std::cell::RefCell;

use mlx_core::{Array, Dtype, Result};

thread_local! {
    static MADE: RefCell<Vec<(u64, Dtype, Array)>> = const { RefCell::new(Vec::new()) };
}

/// [`Array::scalar_of`], for a value that stands in the program: each stays as long as the thread.
pub(crate) fn constant(value: f64, dtype: Dtype) -> Result<Array> {
    MADE.with_borrow_mut(|made| {
        let bits = value.to_bits();
        if let Some((_, _, array)) = made.iter().find(|(b, d, _)| (*b, *d) == (bits, dtype)) {
            return Ok(array.clone());
        }
        let array = Array::scalar_of(value, dtype)?;
        made.push((bits, dtype, array.clone()));
        Ok(array)
    })
}

#[cfg(test)]
mod tests {
    use mlx_core::device::{self, Choice};

    use super::*;

    #[test]
    fn a_constant_is_made_once_for_each_dtype() {
        device::open(Choice::Cpu).unwrap();
        for _ in 0..3 {
            for (value, dtype) in [
                (0.5, Dtype::Float32),
                (0.5, Dtype::Bfloat16),
                (-1.0, Dtype::Float32),
            ] {
                let found = constant(value, dtype).unwrap();
                assert_eq!(found.dtype(), dtype);
                let found = found.cast(Dtype::Float32).unwrap().item::<f32>().unwrap();
                assert_eq!(f64::from(found), value);
            }
        }
        assert_eq!(MADE.with_borrow(Vec::len), 3);
    }
}
