//! What wrote the buffers of a cache last, and how one waits for it.

use mlx_core::{Array, Result};

/// A result of the last operation that wrote the buffers in place.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) result: Option<Array>,
    /// Of a kernel that knows the buffers by their addresses: MLX would not keep them for it, so they
    /// wait for it before they go.
    pub(super) by_address: Option<Launched>,
}

/// A launch of a kernel that knows buffers, and tables of their addresses, by addresses.
///
/// MLX keeps an operation that failed, for want of memory say, and runs it when its result is asked for
/// again. What it needs may be gone by then, or never have been computed: what the driver refused in the
/// midst of a pass MLX may take for done. So after a failure nobody asks for the result of a
/// launch that was made before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launched {
    /// Failures of this thread before it.
    failures: u64,
}

impl Launched {
    /// One that is made now.
    pub(crate) fn now() -> Self {
        Self {
            failures: mlx_core::cuda::failures(),
        }
    }

    /// Whether it may be what failed.
    fn may_have_failed(self) -> bool {
        mlx_core::cuda::failures() != self.failures
    }

    /// Waits for the launch, whose result this is.
    pub(crate) fn settle(self, result: &Array) -> Result<()> {
        match self.may_have_failed() {
            true => result.wait(),
            false => result.eval(),
        }
    }

    /// Whether another operation may come behind the launch, whose result this is.
    pub(crate) fn leads_on(self, result: &Array) -> bool {
        !self.may_have_failed() || result.wait().is_ok()
    }
}

impl Written {
    /// Waits for it.
    pub(super) fn settle(&mut self) -> Result<()> {
        match (self.result.take(), self.by_address) {
            (Some(result), Some(launched)) => launched.settle(&result),
            (Some(result), None) => result.eval(),
            (None, _) => Ok(()),
        }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if self.by_address.is_some() {
            // What went wrong shows where the result itself is asked for.
            let _ = self.settle();
        }
    }
}
