use mlx_core::{Array, Dtype, ops};

use crate::common::{Nd, Rng, assert_close, indices, nd, on_each_device};

fn index_array(values: &Nd) -> Array {
    let data: Vec<i32> = values.data.iter().map(|&v| v as i32).collect();
    Array::from_slice(&data, &values.shape_i32()).unwrap()
}

/// An index as MLX reads it: a negative one counts from the end.
fn wrapped(index: f64, length: usize) -> usize {
    if index < 0.0 {
        (index + length as f64) as usize
    } else {
        index as usize
    }
}

/// A random array with one of its axes, and indices into that axis.
fn along_axis(rng: &mut Rng) -> (Nd, usize, i32, Nd) {
    let rank = rng.size(1, 4);
    let shape = rng.shape(rank);
    let (at, axis) = rng.axis(rank);
    let mut index_shape = shape.clone();
    index_shape[at] = rng.size(1, 6);
    let n = shape[at] as i64;
    (
        Nd::random(rng, &shape, -1.0, 1.0),
        at,
        axis,
        Nd::random_ints(rng, &index_shape, -n, n),
    )
}

on_each_device! {
    fn take_gathers_slices_in_the_shape_of_the_indices() {
        let mut rng = Rng::new(20);
        for _ in 0..30 {
            let (rank, index_rank) = (rng.size(1, 4), rng.size(0, 3));
            let (shape, index_shape) = (rng.shape(rank), rng.shape(index_rank));
            let (at, axis) = rng.axis(rank);
            let n = shape[at] as i64;
            let x = Nd::random(&mut rng, &shape, -1.0, 1.0);
            let wanted = Nd::random_ints(&mut rng, &index_shape, -n, n);
            let out = [&shape[..at], &index_shape[..], &shape[at + 1..]].concat();
            let want = Nd::from_fn(&out, |i| {
                let taken = wrapped(wanted.at(&i[at..at + index_rank]), shape[at]);
                x.at(&[&i[..at], &[taken], &i[at + index_rank..]].concat())
            });
            let got = ops::take(&x.array(), &index_array(&wanted), axis).unwrap();
            assert_close(&got, &want, 0.0, 0.0);
        }
    }

    fn take_along_axis_picks_one_element_for_each_position() {
        let mut rng = Rng::new(21);
        for _ in 0..30 {
            let (x, at, axis, wanted) = along_axis(&mut rng);
            let want = Nd::from_fn(&wanted.shape, |i| {
                let mut from = i.to_vec();
                from[at] = wrapped(wanted.at(i), x.shape[at]);
                x.at(&from)
            });
            let got = ops::take_along_axis(&x.array(), &index_array(&wanted), axis).unwrap();
            assert_close(&got, &want, 0.0, 0.0);
        }
    }

    /// MLX reads and writes wherever an index says.
    fn an_index_outside_the_axis_means_the_element_at_that_end() {
        let mut rng = Rng::new(31);
        for round in 0..40 {
            let (x, at, axis, _) = along_axis(&mut rng);
            let length = x.shape[at];
            // In every type, whether or not it holds the axis' length.
            let dtype = [Dtype::Int8, Dtype::Int32, Dtype::Int64, Dtype::Uint8, Dtype::Uint32][round % 5];
            let extreme: Vec<i32> = match dtype {
                Dtype::Int8 => vec![-128, 127, -(length as i32) - 1, length as i32],
                Dtype::Uint8 => vec![255, length as i32],
                Dtype::Uint32 => vec![i32::MAX, length as i32],
                _ => vec![i32::MIN, i32::MAX, -(length as i32) - 1, length as i32],
            };
            let ends: Vec<usize> =
                extreme.iter().map(|&i| if i < 0 { 0 } else { length - 1 }).collect();
            let indices = Array::from_slice(&extreme, &[extreme.len() as i32]).unwrap();
            let out = [&x.shape[..at], &[extreme.len()], &x.shape[at + 1..]].concat();
            let want = Nd::from_fn(&out, |i| {
                x.at(&[&i[..at], &[ends[i[at]]], &i[at + 1..]].concat())
            });
            let got = ops::take(&x.array(), &indices.cast(dtype).unwrap(), axis).unwrap();
            assert_close(&got, &want, 0.0, 0.0);

            let shape: Vec<i32> = (0..x.shape.len())
                .map(|i| if i == at { extreme.len() as i32 } else { 1 })
                .collect();
            let along = indices.cast(dtype).unwrap().reshape(&shape).unwrap();
            let out: Vec<i32> = out.iter().map(|&n| n as i32).collect();
            let along = along.broadcast_to(&out).unwrap();
            assert_close(&ops::take_along_axis(&x.array(), &along, axis).unwrap(), &want, 0.0, 0.0);
            // The ends are written, and nothing else.
            let values = Array::full(&out, 7.0, Dtype::Float32).unwrap();
            let put = ops::put_along_axis(&x.array(), &along, &values, axis).unwrap();
            let want = Nd::from_fn(&x.shape, |i| match ends.contains(&i[at]) {
                true => 7.0,
                false => x.at(i),
            });
            assert_close(&put, &want, 0.0, 0.0);
        }
    }

    fn indices_into_nothing_are_refused() {
        let empty = Array::zeros(&[2, 0], Dtype::Float32).unwrap();
        let index = Array::from_slice(&[0], &[1, 1]).unwrap();
        assert!(ops::take(&empty, &index, 1).is_err());
        assert!(ops::take_along_axis(&empty, &index, 1).is_err());
        assert!(ops::put_along_axis(&empty, &index, &index, 1).is_err());
    }

    fn put_along_axis_replaces_one_element_for_each_position() {
        let mut rng = Rng::new(22);
        for _ in 0..30 {
            let rank = rng.size(1, 4);
            let shape = rng.shape(rank);
            let (at, axis) = rng.axis(rank);
            // One index a line, so that no element is written twice.
            let mut index_shape = shape.clone();
            index_shape[at] = 1;
            let x = Nd::random(&mut rng, &shape, -1.0, 1.0);
            let wanted = Nd::random_ints(&mut rng, &index_shape, 0, shape[at] as i64);
            let values = Nd::random(&mut rng, &index_shape, 5.0, 6.0);
            let want = Nd::from_fn(&shape, |i| {
                let hit = wanted.at_broadcast(i) as usize == i[at];
                if hit { values.at_broadcast(i) } else { x.at(i) }
            });
            let got =
                ops::put_along_axis(&x.array(), &index_array(&wanted), &values.array(), axis);
            assert_close(&got.unwrap(), &want, 0.0, 0.0);
        }
    }

    fn triangles_keep_their_side_of_the_diagonal() {
        let mut rng = Rng::new(23);
        for k in -3..4 {
            let shape = [2, rng.size(1, 6), rng.size(1, 6)];
            let x = Nd::random(&mut rng, &shape, 1.0, 2.0);
            let lower = Nd::from_fn(&shape, |i| {
                if i[2] as i32 <= i[1] as i32 + k { x.at(i) } else { 0.0 }
            });
            let upper = Nd::from_fn(&shape, |i| {
                if i[2] as i32 >= i[1] as i32 + k { x.at(i) } else { 0.0 }
            });
            assert_close(&ops::tril(&x.array(), k).unwrap(), &lower, 0.0, 0.0);
            assert_close(&ops::triu(&x.array(), k).unwrap(), &upper, 0.0, 0.0);
        }
    }

    fn sorting_orders_an_axis_and_its_indices_agree() {
        let mut rng = Rng::new(24);
        for _ in 0..30 {
            let rank = rng.size(1, 4);
            let shape = rng.shape(rank);
            let (at, axis) = rng.axis(rank);
            let x = Nd::random(&mut rng, &shape, -1.0, 1.0);
            let line = |i: &[usize]| {
                let mut index = i.to_vec();
                let mut line: Vec<f64> = (0..shape[at])
                    .map(|j| {
                        index[at] = j;
                        x.at(&index)
                    })
                    .collect();
                line.sort_by(f64::total_cmp);
                line
            };
            let sorted = Nd::from_fn(&shape, |i| line(i)[i[at]]);
            let a = x.array();
            assert_close(&ops::sort(&a, axis).unwrap(), &sorted, 0.0, 0.0);
            let order = ops::argsort(&a, axis).unwrap();
            assert_close(&ops::take_along_axis(&a, &order, axis).unwrap(), &sorted, 0.0, 0.0);

            let mut one = shape.clone();
            one[at] = 1;
            let first = Nd::from_fn(&one, |i| line(i)[0]);
            let last = Nd::from_fn(&one, |i| line(i)[shape[at] - 1]);
            let smallest = ops::argmin(&a, axis, true).unwrap();
            let largest = ops::argmax(&a, axis, true).unwrap();
            assert_close(&ops::take_along_axis(&a, &smallest, axis).unwrap(), &first, 0.0, 0.0);
            assert_close(&ops::take_along_axis(&a, &largest, axis).unwrap(), &last, 0.0, 0.0);
        }
    }

    fn a_partition_puts_kth_in_place_with_smaller_before_and_larger_after() {
        let mut rng = Rng::new(25);
        for _ in 0..20 {
            let shape = [rng.size(1, 4), rng.size(2, 40)];
            let kth = rng.size(0, shape[1]);
            let x = Nd::random(&mut rng, &shape, -1.0, 1.0);
            let a = x.array();
            let by_index = ops::argpartition(&a, kth as i32, -1).unwrap();
            let by_index = ops::take_along_axis(&a, &by_index, -1).unwrap();
            for got in [nd(&ops::partition(&a, kth as i32, -1).unwrap()), nd(&by_index)] {
                for row in 0..shape[0] {
                    let line: Vec<f64> = (0..shape[1]).map(|j| got.at(&[row, j])).collect();
                    let mut sorted: Vec<f64> = (0..shape[1]).map(|j| x.at(&[row, j])).collect();
                    sorted.sort_by(f64::total_cmp);
                    assert_eq!(line[kth], sorted[kth]);
                    assert!(line[..kth].iter().all(|&v| v <= line[kth]));
                    assert!(line[kth..].iter().all(|&v| v >= line[kth]));
                    let mut all = line;
                    all.sort_by(f64::total_cmp);
                    assert_eq!(all, sorted);
                }
            }
        }
    }

    fn argmax_gives_the_first_of_equals() {
        let x = Array::from_slice(&[1.0f32, 3.0, 3.0, 2.0, 2.0, 1.0], &[2, 3]).unwrap();
        assert_eq!(ops::argmax(&x, -1, false).unwrap().to_vec::<u32>().unwrap(), [1, 0]);
    }
}

#[test]
fn indices_walk_in_row_major_order() {
    let all: Vec<_> = indices(&[2, 2]).collect();
    assert_eq!(all, [[0, 0], [0, 1], [1, 0], [1, 1]]);
}
