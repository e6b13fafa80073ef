//! Where a kernel runs: an instruction set and a pool of threads.

use std::sync::OnceLock;

use crate::{Error, Isa, Pool, Result};

/// The processor as the kernels use it. Every operation takes one.
pub struct Cpu {
    isa: Isa,
    pool: Pool,
}

impl Cpu {
    /// The instruction set of [`Isa::chosen`] (the best one, where that is an error) and one thread a
    /// physical core. Made once.
    pub fn shared() -> &'static Cpu {
        static SHARED: OnceLock<Cpu> = OnceLock::new();
        SHARED.get_or_init(|| Cpu {
            isa: Isa::chosen().unwrap_or_else(|_| Isa::best()),
            pool: Pool::new(0),
        })
    }

    /// A processor of one's own; zero `threads` means one a physical core.
    ///
    /// # Errors
    /// When the machine lacks `isa`.
    pub fn new(isa: Isa, threads: usize) -> Result<Self> {
        if !isa.is_available() {
            return Err(Error::Isa(isa));
        }
        Ok(Self {
            isa,
            pool: Pool::new(threads),
        })
    }

    /// The instruction set. The machine has it.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}
