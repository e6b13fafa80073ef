//! How fast an NVIDIA GPU reads its own memory.

use std::time::Instant;

use mlx_core::cuda::{self, Launch, Module, Scalar};
use mlx_core::random::{self, Key};
use mlx_core::{Array, Dtype, Result};

const SOURCE: &str = include_str!("read.cu");

/// Threads of a block, as the source has it.
const BLOCK: u32 = 512;
/// Blocks for each multiprocessor: all that fit.
const BLOCKS: u32 = 4;
/// Passes over the memory in the longer of two launches.
const PASSES: i32 = 11;

/// The best of several reads of 4 GiB of the GPU's memory, in bytes a second. The device is CUDA.
///
/// Two launches differ in their number of passes alone; the difference of their times has no cost of
/// launching in it.
///
/// # Errors
/// Where the memory is not there or the kernel cannot be compiled.
pub fn best_gpu_read_rate() -> Result<f64> {
    const WORDS: i32 = 1 << 30;
    let read = Module::compile("bandwidth", SOURCE, &[])?.kernel("read_all")?;
    let data = random::bits(&Key::new(1)?, &[WORDS])?;
    data.eval()?;
    let blocks = cuda::gpu()?.multiprocessors * BLOCKS;
    let shape = [(blocks * BLOCK) as i32];
    let outputs: [(&[i32], Dtype); 1] = [(&shape, Dtype::Uint32)];
    let seconds = |passes: i32| -> Result<f64> {
        let scalars = [Scalar::Int(WORDS / 4), Scalar::Int(passes)];
        let launch = Launch::new([blocks, 1, 1], [BLOCK, 1, 1]);
        // SAFETY: the arguments are the kernel's; it reads the vectors there are and writes one word
        // a thread, for which the output has room.
        let sums: Vec<Array> = unsafe { read.launch(&[&data], &outputs, &scalars, launch) }?;
        let begun = Instant::now();
        mlx_core::eval(&sums.iter().collect::<Vec<_>>())?;
        Ok(begun.elapsed().as_secs_f64())
    };
    seconds(1)?;
    let mut best = 0.0_f64;
    for _ in 0..5 {
        let (short, long) = (seconds(1)?, seconds(PASSES)?);
        let bytes = f64::from(PASSES - 1) * data.nbytes() as f64;
        best = best.max(bytes / (long - short).max(f64::MIN_POSITIVE));
    }
    Ok(best)
}
