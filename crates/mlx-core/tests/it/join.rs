use mlx_core::{Array, ops};

use crate::common::{Nd, Rng, assert_close, on_each_device};

on_each_device! {
    fn concatenating_what_was_split_gives_the_whole() {
        let mut rng = Rng::new(30);
        for _ in 0..30 {
            let rank = rng.size(1, 4);
            let mut shape = rng.shape(rank);
            let (at, axis) = rng.axis(rank);
            let parts = rng.size(1, 4);
            shape[at] *= parts;
            let x = Nd::random(&mut rng, &shape, -1.0, 1.0);

            let pieces = ops::split(&x.array(), parts as i32, axis).unwrap();
            assert_eq!(pieces.len(), parts);
            let length = shape[at] / parts;
            for (p, piece) in pieces.iter().enumerate() {
                let mut part = shape.clone();
                part[at] = length;
                let want = Nd::from_fn(&part, |i| {
                    let mut from = i.to_vec();
                    from[at] += p * length;
                    x.at(&from)
                });
                assert_close(piece, &want, 0.0, 0.0);
            }
            let pieces: Vec<&Array> = pieces.iter().collect();
            assert_close(&ops::concatenate(&pieces, axis).unwrap(), &x, 0.0, 0.0);
        }
    }

    fn split_at_cuts_where_it_is_told() {
        let x = Nd::random(&mut Rng::new(31), &[2, 7], -1.0, 1.0);
        let parts = ops::split_at(&x.array(), &[3, 4], -1).unwrap();
        let shapes: Vec<&[i32]> = parts.iter().map(Array::shape).collect();
        assert_eq!(shapes, [[2, 3], [2, 1], [2, 3]]);
        let want = Nd::from_fn(&[2, 3], |i| x.at(&[i[0], i[1] + 4]));
        assert_close(&parts[2], &want, 0.0, 0.0);
    }

    fn stacking_makes_a_new_axis() {
        let mut rng = Rng::new(32);
        let x: Vec<Nd> = (0..3).map(|_| Nd::random(&mut rng, &[2, 4], -1.0, 1.0)).collect();
        let arrays: Vec<Array> = x.iter().map(Nd::array).collect();
        let arrays: Vec<&Array> = arrays.iter().collect();
        let want = Nd::from_fn(&[2, 3, 4], |i| x[i[1]].at(&[i[0], i[2]]));
        assert_close(&ops::stack(&arrays, 1).unwrap(), &want, 0.0, 0.0);
        assert_close(&ops::stack(&arrays, -2).unwrap(), &want, 0.0, 0.0);
    }

    fn tiles_repeat_the_whole_and_repeats_each_element() {
        let x = Nd::random(&mut Rng::new(33), &[2, 3], -1.0, 1.0);
        let tiled = Nd::from_fn(&[4, 9], |i| x.at(&[i[0] % 2, i[1] % 3]));
        assert_close(&ops::tile(&x.array(), &[2, 3]).unwrap(), &tiled, 0.0, 0.0);
        let repeated = Nd::from_fn(&[2, 6], |i| x.at(&[i[0], i[1] / 2]));
        assert_close(&ops::repeat(&x.array(), 2, -1).unwrap(), &repeated, 0.0, 0.0);
    }
}
