//! Which keys a query sees, where MLX may want that as an array.

use mlx_core::Array;

use super::MaskView;

/// Which of S keys each of L queries sees; the last query belongs to the last key.
#[derive(Clone, Copy)]
pub enum Mask<'a> {
    /// Every query sees every key.
    None,
    /// A query sees the keys up to its own.
    Causal,
    /// Of those, the last `width`.
    Window {
        /// Keys seen, the query's own included.
        width: i32,
        /// The same as booleans `[L, S]`, for MLX.
        array: &'a Array,
    },
    /// A query sees the keys that are less than `width` from its own, on either side.
    Around {
        /// Keys seen on each side, the query's own included.
        width: i32,
        /// The same as booleans `[L, S]`, for MLX.
        array: &'a Array,
    },
    /// Booleans `[L, S]`, true where the query sees the key.
    Array(&'a Array),
}

impl Mask<'_> {
    /// The kernel's mask, unless it is an array.
    pub(crate) fn rule(&self) -> Option<MaskView<'static>> {
        match self {
            Self::None => Some(MaskView::None),
            Self::Causal => Some(MaskView::Causal),
            Self::Window { width, .. } => Some(MaskView::Window((*width).max(0) as usize)),
            Self::Around { width, .. } => Some(MaskView::Around((*width).max(0) as usize)),
            Self::Array(_) => None,
        }
    }
}
