//! Views share a buffer and have strides of their own; what is read from them must be theirs.

use half::bf16;
use mlx_core::{Array, Dtype};

use crate::common::{Nd, Rng, assert_close, on_each_device};

/// One random view of both arrays.
fn viewed(rng: &mut Rng, array: &Array, plain: &Nd) -> (Array, Nd) {
    let rank = plain.shape.len();
    match rng.size(0, 6) {
        0 => {
            let mut axes: Vec<usize> = (0..rank).collect();
            for i in (1..rank).rev() {
                axes.swap(i, rng.size(0, i + 1));
            }
            let shape: Vec<usize> = axes.iter().map(|&a| plain.shape[a]).collect();
            let want = Nd::from_fn(&shape, |i| {
                let mut from = vec![0; rank];
                for (to, &axis) in axes.iter().enumerate() {
                    from[axis] = i[to];
                }
                plain.at(&from)
            });
            let axes: Vec<i32> = axes.iter().map(|&a| a as i32).collect();
            (array.transpose(&axes).unwrap(), want)
        }
        1 => {
            let (mut start, mut stop, mut step) = (vec![], vec![], vec![]);
            for &n in &plain.shape {
                let from = rng.size(0, n);
                start.push(from);
                stop.push(rng.size(from + 1, n + 1));
                step.push(rng.size(1, 3));
            }
            let shape: Vec<usize> = (0..rank)
                .map(|a| (stop[a] - start[a]).div_ceil(step[a]))
                .collect();
            let want = Nd::from_fn(&shape, |i| {
                let from: Vec<usize> = (0..rank).map(|a| start[a] + i[a] * step[a]).collect();
                plain.at(&from)
            });
            let int = |v: Vec<usize>| v.into_iter().map(|x| x as i32).collect::<Vec<_>>();
            (
                array
                    .slice_strided(&int(start), &int(stop), &int(step))
                    .unwrap(),
                want,
            )
        }
        2 => {
            let shape = [&[2], &plain.shape[..]].concat();
            let want = Nd::from_fn(&shape, |i| plain.at(&i[1..]));
            (array.broadcast_to(&want.shape_i32()).unwrap(), want)
        }
        3 => {
            let axis = rng.size(0, rank + 1);
            let mut shape = plain.shape.clone();
            shape.insert(axis, 1);
            let want = Nd {
                shape,
                data: plain.data.clone(),
            };
            (array.expand_dims(axis as i32).unwrap(), want)
        }
        4 => {
            let want = Nd {
                shape: vec![plain.data.len()],
                data: plain.data.clone(),
            };
            (array.reshape(&[-1]).unwrap(), want)
        }
        _ => {
            let backwards: Vec<i32> = plain.shape.iter().map(|&n| -(n as i32) - 1).collect();
            let want = Nd::from_fn(&plain.shape, |i| {
                let from: Vec<usize> = i.iter().zip(&plain.shape).map(|(i, n)| n - 1 - i).collect();
                plain.at(&from)
            });
            let array = array
                .slice_strided(&vec![-1; rank], &backwards, &vec![-1; rank])
                .unwrap();
            (array, want)
        }
    }
}

on_each_device! {
    fn views_of_views_read_right() {
        let mut rng = Rng::new(40);
        for _ in 0..300 {
            let rank = rng.size(1, 4);
            let shape = rng.shape(rank);
            let mut plain = Nd::random(&mut rng, &shape, -9.0, 9.0);
            let mut array = plain.array();
            for _ in 0..rng.size(1, 5) {
                (array, plain) = viewed(&mut rng, &array, &plain);
                if rng.coin() {
                    array.eval().unwrap();
                }
            }
            let got: Vec<f64> =
                array.to_vec::<f32>().unwrap().into_iter().map(f64::from).collect();
            assert_eq!(got, plain.data);
            assert_close(&array.contiguous().unwrap(), &plain, 0.0, 0.0);
        }
    }

    fn other_element_sizes_read_right_when_transposed() {
        let bytes = Array::from_slice(&[1u8, 2, 3, 4, 5, 6], &[2, 3]).unwrap();
        assert_eq!(bytes.t().unwrap().to_vec::<u8>().unwrap(), [1, 4, 2, 5, 3, 6]);
        let flags = Array::from_slice(&[true, false, false, true, true, false], &[2, 3]).unwrap();
        let turned = flags.t().unwrap().to_vec::<bool>().unwrap();
        assert_eq!(turned, [true, true, false, true, false, false]);
        let halves = bytes.cast(Dtype::Bfloat16).unwrap().t().unwrap();
        let want = [1.0, 4.0, 2.0, 5.0, 3.0, 6.0].map(bf16::from_f32);
        assert_eq!(halves.to_vec::<bf16>().unwrap(), want);
    }

    fn an_item_of_a_slice_is_the_one_sliced() {
        let x = Array::arange(0.0, 24.0, 1.0, Dtype::Float32).unwrap().reshape(&[4, 6]).unwrap();
        let one = x.t().unwrap().slice(&[2, 3], &[3, 4]).unwrap();
        assert_eq!(one.item::<f32>().unwrap(), 20.0);
    }

    fn a_slice_counts_from_the_end_and_stops_at_it() {
        let x = Array::arange(0.0, 5.0, 1.0, Dtype::Int32).unwrap();
        assert_eq!(x.slice(&[-2], &[99]).unwrap().to_vec::<i32>().unwrap(), [3, 4]);
        assert_eq!(x.slice(&[1], &[-1]).unwrap().to_vec::<i32>().unwrap(), [1, 2, 3]);
    }

    fn updating_a_slice_leaves_the_rest_and_the_original() {
        let mut rng = Rng::new(41);
        let x = Nd::random(&mut rng, &[3, 8, 2], -1.0, 1.0);
        let update = Nd::random(&mut rng, &[3, 2, 2], 5.0, 6.0);
        let array = x.array();
        let changed =
            array.slice_update(&update.array(), &[0, 3, 0], &[3, 5, 2]).unwrap();
        let want = Nd::from_fn(&[3, 8, 2], |i| {
            if (3..5).contains(&i[1]) { update.at(&[i[0], i[1] - 3, i[2]]) } else { x.at(i) }
        });
        assert_close(&changed, &want, 0.0, 0.0);
        assert_close(&array, &x, 0.0, 0.0);
    }

    fn shapes_change_as_named() {
        let x = Array::zeros(&[2, 1, 3, 4], Dtype::Float32).unwrap();
        assert_eq!(x.squeeze(-3).unwrap().shape(), [2, 3, 4]);
        assert_eq!(x.flatten(1, -1).unwrap().shape(), [2, 12]);
        assert_eq!(x.swap_axes(1, -1).unwrap().shape(), [2, 4, 3, 1]);
        assert_eq!(x.reshape(&[-1, 6]).unwrap().shape(), [4, 6]);
        assert_eq!(x.view(Dtype::Uint8).unwrap().shape(), [2, 1, 3, 16]);
        assert_eq!(x.cast(Dtype::Uint8).unwrap().dtype(), Dtype::Uint8);
    }
}
