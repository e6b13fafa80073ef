//! Devices and threads, in a program of its own: what is opened first counts for the process.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod common;

use std::path::Path;
use std::thread;

use mlx_core::device::{self, Choice};
use mlx_core::{Array, Dtype, Error, Result, memory, ops, random};

fn checksum(seed: u64) -> Result<f32> {
    let key = random::Key::new(seed)?;
    let mut x = random::uniform(&key, 0.0, 1.0, &[32, 32], Dtype::Float32)?;
    for _ in 0..50 {
        x = ops::sin(&ops::matmul(&x, &x.t()?)?)?;
        mlx_core::async_eval(&[&x])?;
    }
    ops::sum(&ops::square(&x)?, &[0, 1], false)?.item()
}

/// One test: its steps depend on what the process has done before.
#[test]
fn a_process_opens_a_device_and_its_threads_work_side_by_side() {
    let not_open = |result: Result<()>| {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::NotOpen { .. }), "{error}");
        assert!(error.to_string().contains("device::open"), "{error}");
    };
    not_open(Array::zeros(&[2], Dtype::Float32).map(drop));
    not_open(Array::scalar(1.0f32).map(drop));
    not_open(
        Array::from_owned_bytes(std::sync::Arc::new([0u8; 4]), 0..4, &[1], Dtype::Float32)
            .map(drop),
    );
    not_open(random::Key::new(1).map(drop));
    not_open(memory::active().map(drop));
    not_open(memory::clear_cache());
    not_open(device::synchronize());
    not_open(mlx_core::host_op::call("none", &[], &[], |_, _| Ok(())).map(drop));
    not_open(mlx_core::eval(&[]));
    not_open(ops::concatenate(&[], 0).map(drop));

    // A device that is missing leaves the others to be opened.
    if cfg!(target_os = "linux") {
        let text = device::open(Choice::Metal).unwrap_err().to_string();
        assert!(text.contains("metal") && text.contains("Mac"), "{text}");
    }
    if !["/dev/nvidiactl", "/dev/dxg"]
        .iter()
        .any(|file| Path::new(file).exists())
    {
        let text = device::open(Choice::Cuda).unwrap_err().to_string();
        assert!(text.contains("cuda") && text.contains("NVIDIA"), "{text}");
    }

    let info = device::open(Choice::Auto).unwrap();
    assert_eq!(device::open(Choice::Auto).unwrap(), info);
    assert_eq!(info.mlx_version, "0.32.2");
    assert!(info.library.is_file(), "{}", info.library.display());
    assert!(!info.name.is_empty());
    assert!(
        (1 << 28..1 << 50).contains(&info.memory_bytes),
        "{}",
        info.memory_bytes
    );

    // Each thread has arrays of its own; they share nothing but the library. Only some open it.
    let alone: Vec<f32> = (0..4).map(|seed| checksum(seed).unwrap()).collect();
    let threads: Vec<_> = (0..4)
        .map(|seed| {
            thread::spawn(move || {
                if seed % 2 == 0 {
                    device::open(Choice::Auto).unwrap();
                }
                checksum(seed).unwrap()
            })
        })
        .collect();
    let together: Vec<f32> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(together, alone);
    assert_ne!(alone[0], alone[1]);

    // An error belongs to the thread that made it.
    thread::spawn(|| ops::matmul(&two_by_three(), &two_by_three()).unwrap_err())
        .join()
        .unwrap();
    let error = ops::add(&two_by_three(), &Array::zeros(&[7], Dtype::Bool).unwrap()).unwrap_err();
    assert!(error.to_string().contains("(7)"), "{error}");

    // The CPU can be asked for whatever was opened; an accelerator that is missing cannot.
    device::open(Choice::Cpu).unwrap();
    assert!(checksum(0).unwrap().is_finite());
    for (choice, name) in [(Choice::Cuda, "cuda"), (Choice::Metal, "metal")] {
        if info.kind.name() != name {
            let text = device::open(choice).unwrap_err().to_string();
            assert!(text.contains(name), "{text}");
        }
    }
}

fn two_by_three() -> Array {
    Array::zeros(&[2, 3], Dtype::Float32).unwrap()
}

#[test]
fn choices_have_names() {
    for (name, choice) in [
        ("auto", Choice::Auto),
        ("cpu", Choice::Cpu),
        ("cuda", Choice::Cuda),
        ("metal", Choice::Metal),
    ] {
        assert_eq!(name.parse::<Choice>().unwrap(), choice);
    }
    let error = "gpu".parse::<Choice>().unwrap_err().to_string();
    assert!(error.contains("gpu") && error.contains("metal"), "{error}");
}
