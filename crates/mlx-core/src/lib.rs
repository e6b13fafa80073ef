//! Safe arrays over MLX: what the rest of the project knows of it.
//!
//! ```
//! use mlx_core::{Array, Dtype, device, ops};
//!
//! fn main() -> mlx_core::Result<()> {
//!     device::open(device::Choice::Auto)?;
//!     let x = Array::arange(0.0, 6.0, 1.0, Dtype::Float32)?.reshape(&[2, 3])?;
//!     let gram = ops::matmul(&x, &x.t()?)?;
//!     assert_eq!(gram.to_vec::<f32>()?, [5.0, 14.0, 14.0, 50.0]);
//!     Ok(())
//! }
//! ```
//!
//! # What holds here
//! - **An MLX error is an `Err`.** Every call's status is checked, and every constructor's handle;
//!   nothing here prints, exits, or lets a panic or a C++ exception cross the boundary.
//! - **One thread, its own arrays.** [`Array`] is neither `Send` nor `Sync`; several threads may use
//!   MLX at a time, each with arrays of its own.
//! - **No silent promotion.** Nothing here makes a float32 scalar behind the caller's back: a scalar
//!   that meets a bfloat16 array is a bfloat16 ([`Array::scalar_of`]).
//! - **No index is outside its axis.** Their values are not known before the graph runs, and MLX does not
//!   look at them; [`ops::take`] and its like clamp them. What would end the process is an `Err` here,
//!   except running out of memory on a CPU.
//! - **Nothing leaks.** Each handle has one owner, and its `Drop` frees it.
//! - **No `mx.compile`.** On a CPU it runs a C++ compiler at run time, so nothing here turns it on; what is
//!   worth one kernel on Metal is written as one ([`metal`]).

pub mod cuda;
pub mod device;
pub mod fast;
pub mod host_op;
pub mod io;
pub mod memory;
pub mod metal;
pub mod ops;
pub mod quant;
pub mod random;
#[cfg(target_os = "macos")]
#[doc(hidden)]
pub mod sysctl;

mod array;
mod dtype;
mod error;
mod exit;
mod ffi;
mod stream;
mod submit;
mod turn;

pub use array::{Array, Bytes, async_eval, eval};
pub use device::DeviceKind;
pub use dtype::{Dtype, Element};
pub use error::{Call, Error, Operand, Result};
