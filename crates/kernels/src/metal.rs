//! Which of our kernels for Metal are asked for.
//!
//! They were written without a Mac: the arithmetic is tested, by compiling their bodies as C++, and the
//! launches are not. So each runs only where `MLX_BACKEND_METAL_KERNELS` names it.

use std::sync::OnceLock;

use mlx_core::{DeviceKind, Result, device};

/// The variable: names with commas between them.
const VARIABLE: &str = "MLX_BACKEND_METAL_KERNELS";

/// A kernel for Metal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Optional {
    /// The gate of an MLP as one operation: `gate`.
    Gate,
    /// Caches written where they lie: `cache`.
    Cache,
}

/// Whether this thread's operations are to use it.
pub(crate) fn runs(kernel: Optional) -> Result<bool> {
    static NAMED: OnceLock<String> = OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var(VARIABLE).unwrap_or_default());
    Ok(names(named, kernel)
        && device::current()? == DeviceKind::Metal
        && !crate::arrays::is_mlx_forced())
}

fn names(list: &str, kernel: Optional) -> bool {
    let name = match kernel {
        Optional::Gate => "gate",
        Optional::Cache => "cache",
    };
    list.split(',').any(|named| named.trim() == name)
}

/// Makes a body for Metal a C++ function of a test's library.
#[cfg(test)]
pub(crate) mod as_cpp;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_that_is_named_runs() {
        assert!(!names("", Optional::Gate));
        assert!(names("gate", Optional::Gate));
        assert!(!names("gate", Optional::Cache));
        assert!(names("gate, cache", Optional::Cache));
        assert!(!names("gates", Optional::Gate));
    }
}
