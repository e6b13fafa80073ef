//! What the CUDA kernels of single operations share.

use std::sync::{Mutex, PoisonError};

use mlx_core::Result;
use mlx_core::cuda::{self, Architecture, Kernel, Module};

use crate::Dtype;
use crate::arrays::on_cuda;

/// Numbers of any dtype, eight at a time; in front of the sources that use them.
#[macro_export]
#[doc(hidden)]
macro_rules! with_numbers {
    ($($source:literal),+) => {
        concat!(include_str!("../cuda/number.cuh"), $(include_str!($source)),+)
    };
}

/// Whether this thread's operations are kernels of ours on this GPU: bfloat16 begins with sm_80.
pub(crate) fn has_kernels() -> Result<bool> {
    Ok(on_cuda()? && cuda::gpu()?.architecture >= Architecture::new(8, 0))
}

/// What tells the source which of the dtypes its numbers have.
pub(crate) fn dtype_option(dtype: Dtype) -> String {
    match dtype {
        Dtype::Bf16 => "-DBFLOAT16",
        Dtype::F16 => "-DFLOAT16",
        Dtype::F32 => "-DFLOAT32",
    }
    .to_owned()
}

/// The variants of a kernel, each compiled once for the process.
pub(crate) struct Compiled<V>(Mutex<Vec<(V, Kernel)>>);

impl<V: PartialEq> Compiled<V> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The kernel `name` of `source`, compiled with the options of `variant`.
    pub(crate) fn get(
        &self,
        variant: V,
        name: &str,
        source: &str,
        options: impl FnOnce(&V) -> Vec<String>,
    ) -> Result<Kernel> {
        self.made(variant, name, |variant| {
            let options = options(variant);
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            Module::compile(name, source, &options)
        })
    }

    /// The kernel `name` of a source that is made for `variant`.
    pub(crate) fn made(
        &self,
        variant: V,
        name: &str,
        compile: impl FnOnce(&V) -> Result<Module>,
    ) -> Result<Kernel> {
        let mut compiled = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, kernel)) = compiled.iter().find(|(v, _)| *v == variant) {
            return Ok(kernel.clone());
        }
        let kernel = compile(&variant)?.kernel(name)?;
        compiled.push((variant, kernel.clone()));
        Ok(kernel)
    }
}
