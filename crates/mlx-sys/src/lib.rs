//! MLX's C API (mlx-c 0.7.0) and the project's own bridge, as a table of functions.
//!
//! The native library is opened when the program starts to use it, not linked: see [`api`]. What
//! is here is as unsafe as C; `mlx-core` wraps it. Signatures and constants are bindgen's, made
//! of the C headers by `cargo xtask bindings`; the documentation there applies.
//!
//! Functions of MLX report a failure by a return value that is not zero or a handle whose `ctx` is
//! null; [`take_last_error`] then has the message.

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    rustdoc::all,
    reason = "generated from C headers, which neither say what every item is nor follow Rust's naming, \
              and whose functions are as safe as their C documentation says"
)]
#[rustfmt::skip]
mod bindings;

mod error;
mod load_error;
mod loader;
mod search;

pub use bindings::*;
pub use error::take_last_error;
pub use load_error::LoadError;
pub use loader::{Choice, Loaded, api, init, loaded};
