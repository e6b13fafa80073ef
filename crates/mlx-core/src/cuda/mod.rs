//! CUDA kernels of our own, compiled at run time, as nodes of MLX's graph.
//!
//! A kernel is compiled on the user's machine, for the GPU that is there, by the compiler that MLX
//! itself brings (NVRTC): no toolkit is needed, and one source serves every GPU. The machine code
//! is kept on disk, so this costs a second once. MLX then owns everything else: it allocates the
//! outputs, orders the launch among its own operations and frees what was used.
//!
//! ```no_run
//! use mlx_core::cuda::{Launch, Module, Scalar};
//! use mlx_core::{Array, Dtype, device};
//!
//! const SOURCE: &str = r#"
//! extern "C" __global__ void scale(const float* x, float* y, int n, float by) {
//!   int i = blockIdx.x * blockDim.x + threadIdx.x;
//!   if (i < n) y[i] = x[i] * by;
//! }"#;
//!
//! fn main() -> mlx_core::Result<()> {
//!     device::open(device::Choice::Cuda)?;
//!     let scale = Module::compile("scale", SOURCE, &[])?.kernel("scale")?;
//!     let x = Array::arange(0.0, 1000.0, 1.0, Dtype::Float32)?;
//!     // SAFETY: the arguments are those of the kernel, which stays within n elements.
//!     let y = unsafe {
//!         scale.launch(
//!             &[&x],
//!             &[(&[1000], Dtype::Float32)],
//!             &[Scalar::Int(1000), Scalar::Float(2.0)],
//!             Launch::new([4, 1, 1], [256, 1, 1]),
//!         )
//!     }?;
//!     assert_eq!(y[0].to_vec::<f32>()?[3], 6.0);
//!     Ok(())
//! }
//! ```

mod compiler;
mod gpu;
mod headers;
mod image;
mod nvrtc;

use std::ffi::{CString, c_void};
use std::sync::Arc;

pub use compiler::{Compiler, Image};
pub use gpu::{Architecture, Gpu, gpu};
pub(crate) use gpu::{available_memory, release_freed, synchronize};

pub use crate::submit::failures;

use crate::ffi::{ArrayVec, api, list_failure};
use crate::stream::Stream;
use crate::{Array, DeviceKind, Dtype, Error, Result, device};
use mlx_sys::{mlxb_launch, mlxb_output, mlxb_scalar, mlxb_scalar_value};

/// Machine code for this process's GPU.
///
/// MLX recognises a module by a hash of its machine code, taken at every launch (about 30 µs for
/// 100 kB): kernels that are launched often belong in small modules.
#[derive(Clone, Debug)]
pub struct Module {
    name: Arc<str>,
    code: Arc<[u8]>,
}

impl Module {
    /// Compiles `source` (CUDA C++) for the GPU, or finds it compiled before.
    ///
    /// `name` is for error messages. `options` are NVRTC's, such as `-DHEAD_DIM=128`; the target and
    /// the folder of CUDA's headers are added here. Kernels are `extern "C"`, so that they are
    /// found by their names.
    ///
    /// # Errors
    /// [`Error::Compile`] with the compiler's log; [`Error::Device`] where the device is not CUDA.
    pub fn compile(name: &str, source: &str, options: &[&str]) -> Result<Module> {
        if device::current()? != DeviceKind::Cuda {
            return Err(Error::Device {
                device: DeviceKind::Cuda.name(),
                reason: format!("the CUDA kernels of {name} need the device cuda"),
            });
        }
        let architecture = gpu()?.architecture;
        let code =
            image::load_or_compile(Compiler::loaded()?, name, source, architecture, options)?;
        Ok(Module {
            name: name.into(),
            code: code.into(),
        })
    }

    /// A kernel of this module, an `extern "C"` function.
    ///
    /// Whether it is there shows when a launch is evaluated.
    ///
    /// # Errors
    /// A name with a NUL in it.
    pub fn kernel(&self, name: &str) -> Result<Kernel> {
        let c_name = CString::new(name).map_err(|_| Error::Compile {
            module: self.name.to_string(),
            reason: format!("{name:?} is not the name of a kernel"),
        })?;
        Ok(Kernel {
            module: self.clone(),
            name: c_name.into(),
        })
    }

    /// The machine code: a cubin.
    pub fn code(&self) -> &[u8] {
        &self.code
    }
}

/// A kernel that can be launched.
#[derive(Clone, Debug)]
pub struct Kernel {
    module: Module,
    name: Arc<std::ffi::CStr>,
}

/// An argument that a kernel takes by value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// A `bool`.
    Bool(bool),
    /// An `int`.
    Int(i32),
    /// A `float`.
    Float(f32),
}

/// How a kernel is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory. Above 48 kB the limit is raised for the kernel as its first
    /// launch needs, so the first launch must be the one that needs most.
    pub shared_memory: u32,
    /// Whether an input that is not dense in row-major order is copied for the kernel. Otherwise
    /// the kernel gets the address of its first element, whatever its strides are.
    pub copy_strided: bool,
    /// Whether blocks wait for each other, so that all must be on the GPU at once. From the first
    /// such launch on, threads that submit to the GPU wait for each other's work: of two such
    /// kernels at a time each could take half of the GPU, and both would wait for ever.
    pub blocks_wait: bool,
}

impl Launch {
    /// So many blocks of so many threads, without dynamic shared memory; strided inputs are copied.
    pub fn new(grid: [u32; 3], block: [u32; 3]) -> Launch {
        Launch {
            grid,
            block,
            shared_memory: 0,
            copy_strided: true,
            blocks_wait: false,
        }
    }
}

impl Kernel {
    /// New arrays of the given shapes and dtypes, written by this kernel.
    ///
    /// The kernel is called with the address of each input's first element, then of each output's,
    /// then the scalars, in this order. Fails on the processor's stream; what the driver refuses
    /// (too large a block, a kernel that is not there) is the error of the evaluation.
    ///
    /// # Safety
    /// - The kernel's parameters are these, and it reads and writes within them; what it does not
    ///   write of an output is undefined.
    /// - It does not write to its inputs, with one exception: an input whose buffer belongs to no
    ///   other array than those passed on from launch to launch, such as a KV cache. Then
    ///   `launch.copy_strided` is false (or the input is dense), and each later operation that reads
    ///   the buffer depends on an output of this launch: MLX does not know of the write, and only
    ///   such a dependency keeps it from running the two at a time, or the later one first.
    pub unsafe fn launch(
        &self,
        inputs: &[&Array],
        outputs: &[(&[i32], Dtype)],
        scalars: &[Scalar],
        launch: Launch,
    ) -> Result<Vec<Array>> {
        const OP: &str = "cuda_kernel";
        let stream = Stream::current(OP)?;
        let specs: Vec<mlxb_output> = outputs
            .iter()
            .map(|(shape, dtype)| mlxb_output {
                shape: shape.as_ptr(),
                ndim: shape.len(),
                dtype: dtype.to_raw(),
            })
            .collect();
        let scalars: Vec<mlxb_scalar> = scalars.iter().map(|s| s.to_raw()).collect();
        let Launch {
            grid,
            block,
            shared_memory,
            copy_strided,
            blocks_wait,
        } = launch;
        if blocks_wait {
            crate::turn::one_thread_at_a_time();
        }
        let raw_launch = mlxb_launch {
            grid,
            block,
            shared_memory,
            copy_strided,
        };
        let vec = ArrayVec::new(OP, inputs)?;
        let mut made = ArrayVec::empty();
        // SAFETY: the handles, the name, the code and the lists are alive and copied by the call;
        // `made` is empty and becomes ours. For what the kernel does the caller vouches.
        let status = unsafe {
            api().mlxb_cuda_kernel(
                made.raw_mut(),
                self.name.as_ptr(),
                self.module.code.as_ptr().cast::<c_void>(),
                self.module.code.len(),
                vec.raw(),
                specs.as_ptr(),
                specs.len(),
                scalars.as_ptr(),
                scalars.len(),
                &raw_launch,
                stream.raw(),
            )
        };
        if status == 0 {
            return made.to_vec(OP);
        }
        let kernel = self.name.to_string_lossy();
        let params = format!("{kernel} of {}, {launch:?}", self.module.name);
        Err(list_failure(OP, inputs, params))
    }
}

impl Scalar {
    fn to_raw(self) -> mlxb_scalar {
        let (kind, value) = match self {
            Scalar::Bool(b) => (mlx_sys::MLXB_SCALAR_BOOL, mlxb_scalar_value { b }),
            Scalar::Int(i) => (mlx_sys::MLXB_SCALAR_INT, mlxb_scalar_value { i }),
            Scalar::Float(f) => (mlx_sys::MLXB_SCALAR_FLOAT, mlxb_scalar_value { f }),
        };
        mlxb_scalar { kind, value }
    }
}
