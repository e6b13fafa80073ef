//! MLX's memory, in a program of its own: the figures are the process's.

#![allow(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

mod common;

use std::sync::Mutex;

use common::on_each_device;
use mlx_core::{Array, DeviceKind, Dtype, Error, async_eval, device, memory, ops};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Builds, computes and drops a small graph with views, several outputs and an unused branch.
fn round(weights: &Array, step: i32) {
    let x = Array::full(&[4, 16], f64::from(step % 7), Dtype::Float32).unwrap();
    let y = ops::matmul(&x, &weights.t().unwrap()).unwrap();
    let parts = ops::split(&y, 2, -1).unwrap();
    let _unused = ops::exp(&parts[1]).unwrap();
    let z = ops::softmax(&parts[0], -1, true).unwrap();
    if step % 2 == 0 {
        async_eval(&[&z]).unwrap();
    }
    let largest = ops::argmax(&z, -1, false).unwrap().to_vec::<u32>().unwrap();
    assert!(largest.iter().all(|&i| i < 8));
    ops::matmul(&x, &x).unwrap_err();
}

on_each_device! {
    fn ten_thousand_rounds_leave_the_active_memory_where_it_was() {
        let _alone = ONE_AT_A_TIME.lock().unwrap();
        let weights = Array::ones(&[16, 16], Dtype::Float32).unwrap();
        weights.eval().unwrap();
        (0..100).for_each(|step| round(&weights, step));
        device::synchronize().unwrap();
        let before = memory::active().unwrap();
        (0..10_000).for_each(|step| round(&weights, step));
        device::synchronize().unwrap();
        assert_eq!(memory::active().unwrap(), before);
    }

    fn figures_follow_what_is_allocated() {
        let _alone = ONE_AT_A_TIME.lock().unwrap();
        const BYTES: usize = 4 << 20;
        device::synchronize().unwrap();
        memory::clear_cache().unwrap();
        memory::reset_peak().unwrap();
        let before = memory::active().unwrap();
        let x = Array::ones(&[1 << 20], Dtype::Float32).unwrap();
        x.eval().unwrap();
        assert!(memory::active().unwrap() >= before + BYTES);
        drop(x);
        device::synchronize().unwrap();
        assert!(memory::active().unwrap() < before + BYTES);
        assert!(memory::peak().unwrap() >= before + BYTES);
        assert!(memory::cache().unwrap() >= BYTES);
        memory::clear_cache().unwrap();
        assert_eq!(memory::cache().unwrap(), 0);
    }

    fn a_cache_limit_bounds_what_is_kept() {
        let _alone = ONE_AT_A_TIME.lock().unwrap();
        let previous = memory::set_cache_limit(1 << 20).unwrap();
        for _ in 0..4 {
            Array::ones(&[1 << 18], Dtype::Float32).unwrap().eval().unwrap();
            Array::ones(&[1 << 19], Dtype::Float32).unwrap().eval().unwrap();
        }
        device::synchronize().unwrap();
        // A limit is kept when something is allocated.
        Array::ones(&[1], Dtype::Float32).unwrap().eval().unwrap();
        assert!(memory::cache().unwrap() <= 3 << 20);
        assert_eq!(memory::set_cache_limit(previous).unwrap(), 1 << 20);
    }

    fn room_is_refused_where_a_gpu_cannot_have_it() {
        let _alone = ONE_AT_A_TIME.lock().unwrap();
        memory::make_room(1 << 20).unwrap();
        let much = memory::make_room(u64::MAX);
        if device::current().unwrap() == DeviceKind::Cuda {
            let error = much.unwrap_err();
            let has_figures = matches!(error, Error::OutOfMemory { needed, available } if needed > available);
            assert!(has_figures, "{error}");
        } else {
            much.unwrap();
        }
    }

    fn setting_a_memory_limit_gives_the_one_before() {
        let _alone = ONE_AT_A_TIME.lock().unwrap();
        let previous = memory::set_memory_limit(1 << 30).unwrap();
        assert!(previous > 0);
        assert_eq!(memory::memory_limit().unwrap(), 1 << 30);
        assert_eq!(memory::set_memory_limit(previous).unwrap(), 1 << 30);
    }

    fn only_metal_has_a_wired_limit() {
        let _alone = ONE_AT_A_TIME.lock().unwrap();
        let metal = device::open(device::Choice::Auto).unwrap().kind == DeviceKind::Metal;
        match memory::set_wired_limit(0) {
            Ok(_) => assert!(metal),
            Err(error) => {
                assert!(!metal && matches!(error, Error::Device { .. }), "{error}");
            }
        }
    }
}
