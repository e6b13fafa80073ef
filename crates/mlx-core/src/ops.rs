//! Operations on arrays, as free functions on this thread's stream.
//!
//! Shapes broadcast as in NumPy, and a negative axis counts from the end. Dtypes promote as in MLX:
//! a float32 operand makes a bfloat16 partner float32, a scalar array included, so make scalars
//! with [`crate::Array::scalar_of`]. Errors name the operation, its operands and parameters.

mod arith;
mod compare;
mod gather;
mod index;
mod join;
mod reduce;
mod sort;

pub use arith::*;
pub use compare::*;
pub use gather::gather_matmul;
pub(crate) use gather::matrices_of;
pub use index::*;
pub use join::*;
pub use reduce::*;
pub use sort::*;
