//! Elements back on the host.
//!
//! MLX's views share a buffer: a transposed, sliced or broadcast array has strides and an offset of
//! its own, and its data pointer does not walk its elements in order. A read therefore asks MLX
//! whether the evaluated array is dense, and has it copied where it is not.

use crate::ffi::{api, check, op_failure, refusal};
use crate::{Array, Element, Error, Result};

impl Array {
    /// The only element of an array of size 1; computes it first.
    pub fn item<T: Element>(&self) -> Result<T> {
        self.require::<T>("item")?;
        let elements = if self.size() == 1 {
            self.copy_out("item")?
        } else {
            Vec::new()
        };
        elements.first().copied().ok_or_else(|| {
            refusal(
                "item",
                &[self],
                String::new(),
                "only an array of one element is a number",
            )
        })
    }

    /// All elements in row-major order; computes the array first.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.require::<T>("to_vec")?;
        self.eval()?;
        if self.is_row_contiguous()? {
            self.copy_out("to_vec")
        } else {
            self.contiguous()?.copy_out("to_vec")
        }
    }

    fn require<T: Element>(&self, op: &'static str) -> Result<()> {
        let found = self.dtype();
        if found == T::DTYPE {
            Ok(())
        } else {
            Err(Error::Dtype {
                op,
                wanted: T::DTYPE,
                found,
            })
        }
    }

    /// Whether the elements lie densely in row-major order. Known once the array is computed.
    pub(crate) fn is_row_contiguous(&self) -> Result<bool> {
        let mut dense = false;
        // SAFETY: the handle is alive.
        check("to_vec", unsafe {
            api()._mlx_array_is_row_contiguous(&mut dense, self.raw())
        })?;
        Ok(dense)
    }

    /// Copies a dense array of `T`, computing it first.
    fn copy_out<T: Element>(&self, op: &'static str) -> Result<Vec<T>> {
        self.eval()?;
        let size = self.size();
        if size == 0 {
            return Ok(Vec::new());
        }
        // SAFETY: the handle is alive. MLX casts its pointer to the type in the function's name
        // without looking at the dtype, so this is the address of the first element's first byte.
        let data = unsafe { api().mlx_array_data_uint8(self.raw()) };
        if data.is_null() {
            return Err(op_failure(op, &[&self], String::new()));
        }
        // SAFETY: the array is computed, dense (or of one element) and of dtype `T`, so `size`
        // elements lie at `data`, and they stay there while `self` lives.
        Ok(unsafe { T::read(data, size) })
    }
}
