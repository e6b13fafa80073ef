use mlx_core::host_op::{self, View, ViewMut};
use mlx_core::{Array, Dtype, ops};

use crate::common::{Nd, Rng, assert_close, on_each_device};

fn add_one(inputs: &[View<'_>], outputs: &mut [ViewMut<'_>]) -> Result<(), host_op::Failure> {
    let from = inputs[0].elements::<f32>()?;
    for (to, from) in outputs[0].elements_mut::<f32>()?.iter_mut().zip(from) {
        *to = from + 1.0;
    }
    Ok(())
}

on_each_device! {
    fn a_closure_takes_part_in_the_graph() {
        let x = Nd::random(&mut Rng::new(70), &[3, 4], -1.0, 1.0);
        let before = ops::mul(&x.array(), &Array::scalar(2.0f32).unwrap()).unwrap();
        let made = host_op::call("add_one", &[&before], &[(&[3, 4], Dtype::Float32)], add_one);
        let after = ops::neg(&made.unwrap()[0]).unwrap();
        let want = Nd::from_fn(&[3, 4], |i| -(2.0 * x.at(i) + 1.0));
        assert_close(&after, &want, 1e-6, 0.0);
    }

    fn several_outputs_have_their_own_shapes_and_dtypes() {
        let x = Array::from_slice(&[3i32, -4, 5], &[3]).unwrap();
        let outputs: [(&[i32], Dtype); 2] = [(&[], Dtype::Int64), (&[3], Dtype::Bool)];
        let made = host_op::call("sum_and_signs", &[&x], &outputs, |inputs, outputs| {
            let x = inputs[0].elements::<i32>()?;
            let [sum, signs] = outputs else { return Err("two outputs".into()) };
            assert_eq!((sum.shape(), signs.shape()), (&[][..], &[3][..]));
            sum.elements_mut::<i64>()?[0] = x.iter().map(|&v| i64::from(v)).sum();
            for (sign, v) in signs.elements_mut::<bool>()?.iter_mut().zip(x) {
                *sign = *v < 0;
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(made[0].item::<i64>().unwrap(), 4);
        assert_eq!(made[1].to_vec::<bool>().unwrap(), [false, true, false]);
    }

    fn a_strided_input_is_shown_with_its_strides() {
        let x = Array::arange(0.0, 6.0, 1.0, Dtype::Float32).unwrap().reshape(&[2, 3]).unwrap();
        let turned = x.t().unwrap();
        let made = host_op::call("strides", &[&turned], &[(&[2], Dtype::Int64)], |i, o| {
            assert!(!i[0].is_dense());
            assert!(i[0].elements::<f32>().is_err());
            o[0].elements_mut::<i64>()?.copy_from_slice(i[0].strides());
            Ok(())
        });
        assert_eq!(made.unwrap()[0].to_vec::<i64>().unwrap(), [1, 3]);

        let dense = turned.contiguous().unwrap();
        let made = host_op::call("add_one", &[&dense], &[(&[3, 2], Dtype::Float32)], add_one);
        let want = [1.0, 4.0, 2.0, 5.0, 3.0, 6.0];
        assert_eq!(made.unwrap()[0].to_vec::<f32>().unwrap(), want);
    }

    fn an_update_leaves_the_original_as_it_was() {
        let set_last = |x: &Array| {
            host_op::update("set_last", x, &[], |_, target| {
                let last = target.size() - 1;
                target.elements_mut::<f32>()?[last] = 9.0;
                Ok(())
            })
            .unwrap()
        };
        let x = Array::arange(0.0, 6.0, 1.0, Dtype::Float32).unwrap().reshape(&[2, 3]).unwrap();
        let changed = set_last(&x);
        assert_eq!(changed.to_vec::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 9.0]);
        assert_eq!(x.to_vec::<f32>().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        let changed = set_last(&x.t().unwrap());
        assert_eq!(changed.to_vec::<f32>().unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 9.0]);
        // In place: nothing else refers to this one.
        let fresh = Array::zeros(&[4], Dtype::Float32).unwrap();
        let changed = set_last(&ops::exp(&fresh).unwrap());
        assert_eq!(changed.to_vec::<f32>().unwrap(), [1.0, 1.0, 1.0, 9.0]);
    }

    fn a_failure_is_the_error_of_whoever_waits() {
        let x = Array::zeros(&[2], Dtype::Float32).unwrap();
        let output: [(&[i32], Dtype); 1] = [(&[2], Dtype::Float32)];
        let refused = host_op::call("refuse", &[&x], &output, |_, _| Err("not today".into()));
        let after = ops::neg(&refused.unwrap()[0]).unwrap();
        let text = after.to_vec::<f32>().unwrap_err().to_string();
        assert!(text.contains("refuse") && text.contains("not today"), "{text}");

        let typed = host_op::call("typed", &[&x], &output, |inputs, _| {
            inputs[0].elements::<i32>().map(|_| ())
        });
        let text = typed.unwrap()[0].eval().unwrap_err().to_string();
        assert!(text.contains("float32, not int32"), "{text}");
        // And the stream goes on.
        assert_eq!(ops::exp(&x).unwrap().to_vec::<f32>().unwrap(), [1.0, 1.0]);
    }

    fn a_panic_is_an_error_too() {
        let x = Array::zeros(&[2], Dtype::Float32).unwrap();
        let made = host_op::call("panics", &[&x], &[(&[2], Dtype::Float32)], |inputs, _| {
            assert_eq!(inputs.len(), 2, "a mistake in the closure");
            Ok(())
        });
        let text = made.unwrap()[0].eval().unwrap_err().to_string();
        assert!(text.contains("panics") && text.contains("a mistake"), "{text}");
        assert_eq!(ops::exp(&x).unwrap().to_vec::<f32>().unwrap(), [1.0, 1.0]);
    }

    fn what_a_closure_holds_is_dropped_with_its_arrays() {
        let held = std::sync::Arc::new(());
        let inside = held.clone();
        let x = Array::zeros(&[2], Dtype::Float32).unwrap();
        let made = host_op::call("holds", &[&x], &[(&[2], Dtype::Float32)], move |i, o| {
            let _inside = &inside;
            add_one(i, o)
        })
        .unwrap();
        assert_eq!(std::sync::Arc::strong_count(&held), 2);
        assert_eq!(made[0].to_vec::<f32>().unwrap(), [1.0, 1.0]);
        drop(made);
        mlx_core::device::synchronize().unwrap();
        // The worker may let go a moment after the result is there.
        let dropped = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            std::sync::Arc::strong_count(&held) == 1
        });
        assert!(dropped);
    }

    fn a_room_is_written_and_read_where_it_lies_and_counts_as_mlx_memory() {
        use mlx_core::host_op::Room;
        let len = 5_000_000;
        let before = mlx_core::memory::active().unwrap();
        let room = std::sync::Arc::new(Room::new(len).unwrap());
        assert!(room.nbytes() >= len && (room.as_ptr() as usize).is_multiple_of(64));
        // Other tests hold little meanwhile.
        assert!(mlx_core::memory::active().unwrap() >= before + len - 1_000_000);
        let weak = std::sync::Arc::downgrade(&room);
        let x = Array::from_slice(&[3_u8, 7], &[2]).unwrap();
        let to = room.clone();
        let written = host_op::single("fill", &[&x], &[1], Dtype::Uint8, move |inputs, done| {
            done.bytes_mut().fill(1);
            let [first, last] = inputs[0].bytes()? else {
                return Err("two bytes".into());
            };
            // SAFETY: the room has so many bytes, and its other user comes after this operation.
            unsafe {
                to.as_ptr().write(*first);
                to.as_ptr().add(to.len() - 1).write(*last);
            }
            Ok(())
        });
        let written = written.unwrap();
        let read = host_op::single("read", &[&written], &[2], Dtype::Uint8, move |_, out| {
            let (start, end) = (room.as_ptr(), room.len() - 1);
            // SAFETY: as above; this comes after the one that writes.
            let bytes = unsafe { [start.read(), start.add(end).read()] };
            out.bytes_mut().copy_from_slice(&bytes);
            Ok(())
        });
        let read = read.unwrap();
        assert_eq!(read.to_vec::<u8>().unwrap(), [3, 7]);
        drop((written, read));
        let freed = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            weak.strong_count() == 0
        });
        assert!(freed, "the closures have run");
    }
}
