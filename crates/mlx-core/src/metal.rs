//! Kernels of our own on Metal, which MLX compiles on the user's machine when they are first launched.

use std::ffi::CString;
use std::fmt;

use mlx_sys::{mlx_fast_metal_kernel, mlx_fast_metal_kernel_config, mlx_vector_string};

use crate::ffi::{ArrayVec, api, check, failure, list_failure};
use crate::stream::Stream;
use crate::{Array, Dtype, Error, Result};

/// A kernel: the body of a function in Metal's C++, with names for its inputs and outputs.
///
/// MLX writes the head of the function: for an input `x` there is a pointer `x`, and `x_shape` and
/// `x_strides` where the body names them; `thread_position_in_grid` is there if it is named, and so is the
/// type `T` of [`Kernel::launch`].
pub struct Kernel {
    raw: mlx_fast_metal_kernel,
    name: &'static str,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kernel").field(&self.name).finish()
    }
}

impl Kernel {
    /// `copy_strided` has inputs copied that are not dense in row-major order.
    pub fn new(
        name: &'static str,
        inputs: &[&'static str],
        outputs: &[&'static str],
        body: &'static str,
        header: &'static str,
        copy_strided: bool,
    ) -> Result<Self> {
        const OP: &str = "metal_kernel";
        crate::device::require_open(OP)?;
        let (inputs, outputs) = (Names::new(inputs)?, Names::new(outputs)?);
        let [c_name, body, header] = [c_string(name)?, c_string(body)?, c_string(header)?];
        // SAFETY: the names and texts are NUL-terminated, alive, and copied by the call.
        let raw = unsafe {
            api().mlx_fast_metal_kernel_new(
                c_name.as_ptr(),
                inputs.0,
                outputs.0,
                body.as_ptr(),
                header.as_ptr(),
                copy_strided,
                false,
            )
        };
        match raw.ctx.is_null() {
            true => Err(failure(OP)),
            false => Ok(Self { raw, name }),
        }
    }

    /// New arrays of the given shapes and dtypes, written by `threads` threads along x, y and z, in groups of
    /// `group`; `T` is `dtype` in the body. What Metal refuses is the error of the evaluation.
    ///
    /// # Safety
    /// - The body reads and writes within its inputs and outputs, whose number and dtypes are these; what it
    ///   does not write of an output is undefined.
    /// - It does not write to its inputs, with one exception: an input whose buffer belongs to no other array
    ///   than those passed on from launch to launch, such as a KV cache. Then nothing copies it, and each
    ///   later operation that reads the buffer takes an output of this launch: MLX does not know of the
    ///   write, and only such a dependency keeps it from running the two at a time, or the later one first.
    pub unsafe fn launch(
        &self,
        inputs: &[&Array],
        outputs: &[(&[i32], Dtype)],
        dtype: Dtype,
        threads: [i32; 3],
        group: [i32; 3],
    ) -> Result<Vec<Array>> {
        let stream = Stream::current(self.name)?;
        let config = Config::new(outputs, dtype, threads, group)?;
        let vec = ArrayVec::new(self.name, inputs)?;
        let mut made = ArrayVec::empty();
        // SAFETY: all handles are alive; `made` is empty and becomes ours. For what the kernel does the
        // caller vouches.
        let status = unsafe {
            api().mlx_fast_metal_kernel_apply(
                made.raw_mut(),
                self.raw,
                vec.raw(),
                config.0,
                stream.raw(),
            )
        };
        if status == 0 {
            return made.to_vec(self.name);
        }
        let params = format!("{threads:?} threads in groups of {group:?}");
        Err(list_failure(self.name, inputs, params))
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        // SAFETY: the handle is owned here and freed once.
        unsafe { api().mlx_fast_metal_kernel_free(self.raw) };
    }
}

/// An owned list of names.
struct Names(mlx_vector_string);

impl Names {
    fn new(names: &[&str]) -> Result<Self> {
        let names: Vec<CString> = names
            .iter()
            .map(|name| c_string(name))
            .collect::<Result<_>>()?;
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: as many NUL-terminated texts as the number says, copied by the call.
        let raw =
            unsafe { api().mlx_vector_string_new_data(pointers.as_mut_ptr(), pointers.len()) };
        match raw.ctx.is_null() {
            true => Err(failure("metal_kernel")),
            false => Ok(Self(raw)),
        }
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // SAFETY: the handle is owned here and freed once.
        unsafe { api().mlx_vector_string_free(self.0) };
    }
}

/// An owned description of a launch.
struct Config(mlx_fast_metal_kernel_config);

impl Config {
    fn new(
        outputs: &[(&[i32], Dtype)],
        dtype: Dtype,
        [x, y, z]: [i32; 3],
        [group_x, group_y, group_z]: [i32; 3],
    ) -> Result<Self> {
        const OP: &str = "metal_kernel";
        // SAFETY: takes nothing.
        let config = Self(unsafe { api().mlx_fast_metal_kernel_config_new() });
        if config.0.ctx.is_null() {
            return Err(failure(OP));
        }
        for (shape, dtype) in outputs {
            // SAFETY: the handle is alive, the shape has as many axes and is copied.
            check(OP, unsafe {
                api().mlx_fast_metal_kernel_config_add_output_arg(
                    config.0,
                    shape.as_ptr(),
                    shape.len(),
                    dtype.to_raw(),
                )
            })?;
        }
        // SAFETY: the handle is alive, the rest are numbers and a name that is copied.
        unsafe {
            check(
                OP,
                api().mlx_fast_metal_kernel_config_set_grid(config.0, x, y, z),
            )?;
            check(
                OP,
                api().mlx_fast_metal_kernel_config_set_thread_group(
                    config.0, group_x, group_y, group_z,
                ),
            )?;
            check(
                OP,
                api().mlx_fast_metal_kernel_config_add_template_arg_dtype(
                    config.0,
                    c"T".as_ptr(),
                    dtype.to_raw(),
                ),
            )?;
        }
        Ok(config)
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        // SAFETY: the handle is owned here and freed once.
        unsafe { api().mlx_fast_metal_kernel_config_free(self.0) };
    }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Compile {
        module: "metal_kernel".to_owned(),
        reason: "its source has a NUL in it".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{self, Choice};

    #[test]
    fn a_kernel_for_metal_is_refused_elsewhere() {
        device::open(Choice::Cpu).unwrap();
        let kernel = Kernel::new("twice", &["x"], &["y"], "y[0] = 2 * x[0];", "", true).unwrap();
        let x = Array::ones(&[4], Dtype::Float32).unwrap();
        let shape: &[i32] = &[4];
        let outputs = [(shape, Dtype::Float32)];
        // SAFETY: one input, one output, the first element of each is there.
        let made = unsafe { kernel.launch(&[&x], &outputs, Dtype::Float32, [4, 1, 1], [4, 1, 1]) };
        let error = made.unwrap_err().to_string();
        assert!(
            error.contains("twice") && error.contains("Metal"),
            "{error}"
        );
    }
}
