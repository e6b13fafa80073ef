//! CUDA kernels of our own: compiled where there is no GPU, run where there is one.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod common;

use common::Rng;
use mlx_core::cuda::{Architecture, Compiler, Launch, Module, Scalar};
use mlx_core::device::{self, Choice};
use mlx_core::{Array, Dtype, Error, ops};

const SOURCE: &str = r#"
extern "C" __global__ void scaled_sum(
    const float* a, const float* b, float* sum, int n, float by, bool negate) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) {
    float s = (a[i] + b[i]) * by;
    sum[i] = negate ? -s : s;
  }
}

// Puts one row into a cache and gives back its sum, for which each later reader waits.
extern "C" __global__ void put_row(float* cache, const float* row, float* sum, int at, int width) {
  float total = 0;
  for (int i = 0; i < width; i++) {
    cache[at * width + i] = row[i];
    total += row[i];
  }
  *sum = total;
}

extern "C" __global__ void reversed(const float* x, float* y, int n) {
  extern __shared__ float shared[];
  for (int i = threadIdx.x; i < n; i += blockDim.x) shared[i] = x[i];
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = shared[n - 1 - i];
}
"#;

/// NVIDIA's compiler, where `cargo xtask test` put it.
fn compiler() -> Option<Compiler> {
    let file = build_scripts::cuda_compiler_if_there();
    if file.is_none() {
        eprintln!("skipped: NVIDIA's compiler is not there; `cargo xtask test` fetches it");
    }
    Some(Compiler::open(&file?).unwrap())
}

#[test]
fn kernels_compile_for_each_architecture_without_a_gpu() {
    let Some(compiler) = compiler() else { return };
    let with_header = format!("#include <cuda_bf16.h>\n{SOURCE}");
    for architecture in [(8, 0), (9, 0), (12, 0)] {
        let architecture = Architecture::new(architecture.0, architecture.1);
        let options = ["--ptxas-options=-v"];
        let image = compiler
            .compile("test", &with_header, architecture, &options)
            .unwrap();
        assert!(image.code.starts_with(b"\x7fELF"), "{architecture}");
        let name = architecture.to_string();
        assert!(image.log.contains(&name), "{}", image.log);
        assert!(image.log.contains("registers"), "{}", image.log);
    }
}

#[test]
fn a_mistake_is_reported_with_its_place() {
    let Some(compiler) = compiler() else { return };
    let source = "extern \"C\" __global__ void k(float* x) {\n  x[0] = nonsense;\n}";
    let error = compiler
        .compile("mistaken", source, Architecture::new(9, 0), &[])
        .unwrap_err();
    assert!(matches!(error, Error::Compile { .. }));
    let text = error.to_string();
    assert!(text.contains("mistaken.cu(2)"), "{text}");
    assert!(text.contains("nonsense"), "{text}");
    let refused = compiler.compile("m", SOURCE, Architecture::new(9, 0), &["--no-such-option"]);
    assert!(refused.unwrap_err().to_string().contains("no-such-option"));
}

#[test]
fn another_device_is_refused() {
    device::open(Choice::Cpu).unwrap();
    let error = Module::compile("scaled_sum", SOURCE, &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("scaled_sum need the device cuda"),
        "{error}"
    );
}

/// Opens the GPU, if this machine has one.
fn open_gpu() -> bool {
    let opened = device::open(Choice::Auto).unwrap().kind == mlx_core::DeviceKind::Cuda;
    if !opened {
        eprintln!("skipped: there is no GPU");
    }
    opened
}

fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..n).map(|_| rng.float(-1.0, 1.0) as f32).collect()
}

fn array(values: &[f32]) -> Array {
    Array::from_slice(values, &[values.len() as i32]).unwrap()
}

#[test]
fn a_kernel_computes_among_other_operations() {
    if !open_gpu() {
        return;
    }
    let kernel = Module::compile("test", SOURCE, &[])
        .and_then(|module| module.kernel("scaled_sum"))
        .unwrap();
    for n in [1, 255, 1000, 100_000] {
        let (a, b) = (random(1, n), random(2, n));
        let doubled = ops::add(&array(&a), &array(&a)).unwrap();
        let scalars = [
            Scalar::Int(n as i32),
            Scalar::Float(0.5),
            Scalar::Bool(true),
        ];
        let launch = Launch::new([n.div_ceil(128) as u32, 1, 1], [128, 1, 1]);
        // SAFETY: the arguments are the kernel's, which stays within n elements.
        let sum = unsafe {
            let inputs = [&doubled, &array(&b)];
            kernel.launch(&inputs, &[(&[n as i32], Dtype::Float32)], &scalars, launch)
        };
        let got = ops::neg(&sum.unwrap()[0]).unwrap().to_vec::<f32>().unwrap();
        for i in 0..n {
            assert_eq!(got[i], (2.0 * a[i] + b[i]) * 0.5, "element {i} of {n}");
        }
    }
}

#[test]
fn a_strided_input_is_copied() {
    if !open_gpu() {
        return;
    }
    let kernel = Module::compile("test", SOURCE, &[])
        .and_then(|module| module.kernel("scaled_sum"))
        .unwrap();
    let x = random(3, 35);
    let transposed = array(&x).reshape(&[5, 7]).unwrap().t().unwrap();
    let zeros = Array::zeros(&[7, 5], Dtype::Float32).unwrap();
    let scalars = [Scalar::Int(35), Scalar::Float(1.0), Scalar::Bool(false)];
    // SAFETY: the arguments are the kernel's, which stays within 35 elements.
    let made = unsafe {
        let launch = Launch::new([1, 1, 1], [64, 1, 1]);
        kernel.launch(
            &[&transposed, &zeros],
            &[(&[7, 5], Dtype::Float32)],
            &scalars,
            launch,
        )
    };
    let got = made.unwrap()[0].to_vec::<f32>().unwrap();
    let want: Vec<f32> = (0..35).map(|i| x[(i % 5) * 7 + i / 5]).collect();
    assert_eq!(got, want);
}

#[test]
fn a_kernel_writes_a_cache_in_place() {
    if !open_gpu() {
        return;
    }
    let kernel = Module::compile("test", SOURCE, &[])
        .and_then(|module| module.kernel("put_row"))
        .unwrap();
    let (rows, width) = (16, 24);
    let cache = Array::zeros(&[rows, width], Dtype::Float32).unwrap();
    cache.eval().unwrap();
    let values = random(4, (rows * width) as usize);
    let mut row = array(&values[..width as usize]);
    for at in 0..rows {
        let launch = Launch {
            copy_strided: false,
            ..Launch::new([1, 1, 1], [1, 1, 1])
        };
        let scalars = [Scalar::Int(at), Scalar::Int(width)];
        // SAFETY: the arguments are the kernel's; the cache is written in a row it has, belongs to
        // nothing else, and each next launch depends on this one's sum.
        let sum =
            unsafe { kernel.launch(&[&cache, &row], &[(&[1], Dtype::Float32)], &scalars, launch) };
        let sum = &sum.unwrap()[0];
        if at + 1 < rows {
            let start = ((at + 1) * width) as usize;
            let next = array(&values[start..start + width as usize]);
            let nothing = ops::sub(sum, sum).unwrap();
            row = ops::add(&next, &nothing).unwrap();
        } else {
            sum.eval().unwrap();
        }
    }
    assert_eq!(cache.to_vec::<f32>().unwrap(), values);
}

#[test]
fn dynamic_shared_memory_beyond_48_kb_is_allowed() {
    if !open_gpu() {
        return;
    }
    // A kernel of its own: the first launch of one decides how much it may have.
    let source = SOURCE.replace("reversed", "reversed_in_much");
    let kernel = Module::compile("test", &source, &[])
        .and_then(|module| module.kernel("reversed_in_much"))
        .unwrap();
    let n = 20_000;
    let x = random(5, n);
    let launch = Launch {
        shared_memory: 4 * n as u32,
        ..Launch::new([1, 1, 1], [256, 1, 1])
    };
    let outputs: [(&[i32], Dtype); 1] = [(&[n as i32], Dtype::Float32)];
    // SAFETY: the arguments are the kernel's, and it has n floats of shared memory.
    let y = unsafe { kernel.launch(&[&array(&x)], &outputs, &[Scalar::Int(n as i32)], launch) };
    let mut got = y.unwrap()[0].to_vec::<f32>().unwrap();
    got.reverse();
    assert_eq!(got, x);
}

#[test]
fn a_kernel_that_is_not_there_is_an_error_and_the_next_one_runs() {
    if !open_gpu() {
        return;
    }
    let module = Module::compile("test", SOURCE, &[]).unwrap();
    let x = array(&random(6, 8));
    let outputs: [(&[i32], Dtype); 1] = [(&[8], Dtype::Float32)];
    let launch = Launch {
        shared_memory: 32,
        ..Launch::new([1, 1, 1], [8, 1, 1])
    };
    let run = |name: &str| {
        // SAFETY: the arguments are those of `reversed`; no other name is a kernel's.
        let made = unsafe {
            let kernel = module.kernel(name)?;
            kernel.launch(&[&x], &outputs, &[Scalar::Int(8)], launch)
        }?;
        made[0].eval()
    };
    assert!(run("no_such_kernel").is_err());
    run("reversed").unwrap();
}

#[test]
fn a_thread_computes_on_after_an_allocation_failed() {
    if !open_gpu() {
        return;
    }
    let (a, b) = (random(7, 1000), random(8, 1000));
    // Submitted before the failure and read after it.
    let before = ops::add(&array(&a), &array(&b)).unwrap();
    mlx_core::async_eval(&[&before]).unwrap();
    // Four terabytes, twice: the second failure is like the first.
    for _ in 0..2 {
        let huge = Array::zeros(&[1 << 20, 1 << 20], Dtype::Float32).unwrap();
        let error = huge.eval().unwrap_err().to_string();
        assert!(error.contains("out of memory"), "{error}");
    }
    let after = ops::sub(&array(&a), &array(&b)).unwrap();
    let (sums, differences) = (before.to_vec::<f32>(), after.to_vec::<f32>());
    let (sums, differences) = (sums.unwrap(), differences.unwrap());
    for i in 0..a.len() {
        assert_eq!([sums[i], differences[i]], [a[i] + b[i], a[i] - b[i]], "{i}");
    }
}

#[test]
fn the_gpu_is_described() {
    if !open_gpu() {
        return;
    }
    let gpu = mlx_core::cuda::gpu().unwrap();
    assert!(
        gpu.multiprocessors > 0 && gpu.shared_memory_per_block >= 48 << 10,
        "{gpu:?}"
    );
    assert!(gpu.architecture >= Architecture::new(7, 0), "{gpu:?}");
}
