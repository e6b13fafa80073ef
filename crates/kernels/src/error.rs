//! What a kernel refuses.

use crate::Isa;

/// Why a kernel did not run. It checks all its arguments before it writes anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The arguments of an operation do not fit together.
    #[error("{op}: {what}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// Which sizes disagree, with their values.
        what: String,
    },
    /// A view reaches beyond the memory it was made from.
    #[error("a view of {needed} bytes does not fit in the {given} that it was given")]
    TooShort {
        /// Bytes up to the end of the last element.
        needed: usize,
        /// Bytes there are.
        given: usize,
    },
    /// An instruction set that this machine lacks was asked for.
    #[error("this machine lacks the instruction set {lacking}; the best it has is {best}",
        lacking = .0.name(), best = Isa::best().name())]
    Isa(Isa),
    /// No instruction set has this name.
    #[error("there is no instruction set '{0}' (MLX_BACKEND_ISA takes {names}); leave it out for the best one",
        names = Isa::ALL.map(Isa::name).join(", "))]
    IsaName(String),
}

/// The result of a kernel.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Returns [`Error::Shape`] from the function around it unless the condition holds.
macro_rules! ensure {
    ($op:expr, $condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::Error::Shape { op: $op, what: format!($($what)+) });
        }
    };
}
pub(crate) use ensure;
