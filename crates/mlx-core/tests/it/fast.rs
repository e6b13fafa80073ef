use mlx_core::fast::{self, SdpaMask};
use mlx_core::{Array, Dtype};

use crate::common::{Nd, Rng, assert_close, indices, on_each_device, product_tolerance};

/// Rotary embedding as its paper has it, on `[B, H, L, D]`; `angle(position, pair)`.
fn rotated(
    x: &Nd,
    dims: usize,
    traditional: bool,
    offset: impl Fn(usize) -> f64,
    frequency: impl Fn(usize) -> f64,
) -> Nd {
    Nd::from_fn(&x.shape, |i| {
        let d = i[3];
        if d >= dims {
            return x.at(i);
        }
        let (pair, first, partner) = if traditional {
            (d / 2, d % 2 == 0, d ^ 1)
        } else {
            let half = dims / 2;
            (d % half, d < half, (d + half) % dims)
        };
        let angle = (i[2] as f64 + offset(i[0])) * frequency(pair);
        let other = x.at(&[i[0], i[1], i[2], partner]);
        let sign = if first { -1.0 } else { 1.0 };
        x.at(i) * angle.cos() + sign * other * angle.sin()
    })
}

/// Attention as softmax(scale q k^T + mask) v, one query at a time.
fn attended(q: &Nd, k: &Nd, v: &Nd, scale: f64, mask: impl Fn(&[usize]) -> f64) -> Nd {
    let (queries_per_key, keys) = (q.shape[1] / k.shape[1], k.shape[2]);
    let data = indices(&q.shape[..3]).flat_map(|i| {
        let (b, h, l) = (i[0], i[1], i[2]);
        let head = h / queries_per_key;
        let query = q.row(&[b, h, l]);
        let scores: Vec<f64> = (0..keys)
            .map(|s| {
                let dot: f64 = query
                    .iter()
                    .zip(k.row(&[b, head, s]))
                    .map(|(q, k)| q * k)
                    .sum();
                scale * dot + mask(&[b, h, l, s])
            })
            .collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|s| (s - largest).exp()).sum();
        let mut out = vec![0.0; v.shape[3]];
        for (s, score) in scores.iter().enumerate() {
            let weight = (score - largest).exp() / total;
            for (out, v) in out.iter_mut().zip(v.row(&[b, head, s])) {
                *out += weight * v;
            }
        }
        out
    });
    Nd {
        data: data.collect(),
        shape: [&q.shape[..3], &v.shape[3..]].concat(),
    }
}

/// Random q, k and v: (batch, query heads, key heads, queries, keys, head_dim, value dim).
fn qkv(rng: &mut Rng, sizes: [usize; 7]) -> (Nd, Nd, Nd) {
    let [b, hq, hkv, l, s, d, dv] = sizes;
    (
        Nd::random(rng, &[b, hq, l, d], -1.0, 1.0),
        Nd::random(rng, &[b, hkv, s, d], -1.0, 1.0),
        Nd::random(rng, &[b, hkv, s, dv], -1.0, 1.0),
    )
}

const SIZES: [[usize; 7]; 6] = [
    [1, 1, 1, 1, 1, 4, 4],
    [2, 4, 4, 5, 5, 8, 8],
    [1, 8, 2, 3, 11, 16, 16],
    [2, 8, 1, 1, 7, 64, 64],
    [1, 6, 3, 9, 20, 256, 256],
    [1, 2, 2, 4, 9, 8, 12],
];

on_each_device! {
    fn rms_norm_divides_by_the_root_of_the_mean_square() {
        let mut rng = Rng::new(50);
        for dtype in [Dtype::Float32, Dtype::Bfloat16, Dtype::Float16] {
            for width in [1, 7, 64, 513] {
                let (x, array) =
                    Nd::random(&mut rng, &[2, 3, width], -3.0, 3.0).rounded(dtype);
                let (w, weight) = Nd::random(&mut rng, &[width], 0.5, 1.5).rounded(dtype);
                let eps = 1e-5;
                let norm = |i: &[usize]| {
                    let squares: f64 = (0..width).map(|d| x.at(&[i[0], i[1], d]).powi(2)).sum();
                    x.at(i) / (squares / width as f64 + f64::from(eps)).sqrt()
                };
                let rel = match dtype {
                    Dtype::Float32 => 4e-6,
                    Dtype::Float16 => 3e-3,
                    _ => 2e-2,
                };
                let plain = fast::rms_norm(&array, None, eps).unwrap();
                assert_eq!(plain.dtype(), dtype);
                assert_close(&plain, &Nd::from_fn(&x.shape, norm), rel, 1e-6);
                let weighted = fast::rms_norm(&array, Some(&weight), eps).unwrap();
                let want = Nd::from_fn(&x.shape, |i| norm(i) * w.at(&i[2..]));
                assert_close(&weighted, &want, rel, 1e-6);
            }
        }
    }

    fn rope_turns_each_pair_by_its_position() {
        let mut rng = Rng::new(51);
        for traditional in [false, true] {
            for (dims, width, offset, scale) in
                [(8, 8, 0, 1.0), (8, 8, 300, 1.0), (6, 10, 17, 1.0), (64, 64, 41, 0.125)]
            {
                let x = Nd::random(&mut rng, &[2, 3, 5, width], -1.0, 1.0);
                let frequency =
                    |pair: usize| scale * 10000f64.powf(-2.0 * pair as f64 / dims as f64);
                let want = rotated(&x, dims, traditional, |_| f64::from(offset), frequency);
                let (d, s) = (dims as i32, scale as f32);
                let got =
                    fast::rope(&x.array(), d, traditional, Some(10000.0), s, offset, None).unwrap();
                assert_close(&got, &want, 0.0, 1e-4);

                let offset = Array::scalar(offset).unwrap();
                let dynamic = fast::rope_dynamic(
                    &x.array(), d, traditional, Some(10000.0), s, &offset, None,
                );
                assert_close(&dynamic.unwrap(), &want, 0.0, 1e-4);
            }
        }
    }

    fn rope_takes_periods_instead_of_a_base() {
        let mut rng = Rng::new(52);
        let x = Nd::random(&mut rng, &[1, 2, 4, 12], -1.0, 1.0);
        let periods = Nd::random(&mut rng, &[5], 1.0, 50.0);
        let want = rotated(&x, 10, false, |_| 7.0, |pair| 1.0 / periods.data[pair]);
        let got =
            fast::rope(&x.array(), 10, false, None, 1.0, 7, Some(&periods.array())).unwrap();
        assert_close(&got, &want, 0.0, 1e-5);
    }

    fn rope_starts_each_row_at_its_own_offset() {
        let mut rng = Rng::new(53);
        let x = Nd::random(&mut rng, &[3, 2, 4, 8], -1.0, 1.0);
        let offsets = [0, 5, 19];
        let frequency = |pair: usize| 100f64.powf(-2.0 * pair as f64 / 8.0);
        let want = rotated(&x, 8, false, |row| f64::from(offsets[row]), frequency);
        let offsets = Array::from_slice(&offsets, &[3]).unwrap();
        let got =
            fast::rope_dynamic(&x.array(), 8, false, Some(100.0), 1.0, &offsets, None).unwrap();
        assert_close(&got, &want, 0.0, 1e-5);
    }

    fn attention_without_a_mask_weighs_every_key() {
        let mut rng = Rng::new(54);
        for sizes in SIZES {
            let (q, k, v) = qkv(&mut rng, sizes);
            let want = attended(&q, &k, &v, 0.3, |_| 0.0);
            let (q, k, v) = (q.array(), k.array(), v.array());
            let got = fast::scaled_dot_product_attention(&q, &k, &v, 0.3, SdpaMask::None).unwrap();
            assert_close(&got, &want, 0.0, 5.0 * product_tolerance());
        }
    }

    fn a_causal_query_sees_the_keys_up_to_its_own_with_the_last_two_aligned() {
        let mut rng = Rng::new(55);
        for sizes in SIZES {
            let (q, k, v) = qkv(&mut rng, sizes);
            let ahead = sizes[4] - sizes[3];
            let mask = |i: &[usize]| if i[3] <= i[2] + ahead { 0.0 } else { f64::NEG_INFINITY };
            let want = attended(&q, &k, &v, 0.3, mask);
            let (q, k, v) = (q.array(), k.array(), v.array());
            let got = fast::scaled_dot_product_attention(&q, &k, &v, 0.3, SdpaMask::Causal).unwrap();
            assert_close(&got, &want, 0.0, 5.0 * product_tolerance());
        }
    }

    fn an_array_mask_chooses_keys_or_adds_to_scores() {
        let mut rng = Rng::new(56);
        for sizes in SIZES {
            let [b, hq, _, l, s, ..] = sizes;
            let (q, k, v) = qkv(&mut rng, sizes);
            let arrays = (q.array(), k.array(), v.array());
            for shape in [vec![l, s], vec![b, 1, l, s], vec![b, hq, l, s], vec![1, s]] {
                let added = Nd::random(&mut rng, &shape, -4.0, 4.0);
                let want = attended(&q, &k, &v, 0.3, |i| added.at_broadcast(i));
                let got = attend(&arrays, SdpaMask::Array(&added.array()));
                assert_close(&got, &want, 0.0, 5.0 * product_tolerance());

                // The first key stays, so that no query is left without one.
                let kept = Nd::from_fn(&shape, |i| {
                    let first = i[i.len() - 1] == 0;
                    if first || rng.coin() { 1.0 } else { 0.0 }
                });
                let want = attended(&q, &k, &v, 0.3, |i| {
                    if kept.at_broadcast(i) != 0.0 { 0.0 } else { f64::NEG_INFINITY }
                });
                let mask = kept.array().cast(Dtype::Bool).unwrap();
                let got = attend(&arrays, SdpaMask::Array(&mask));
                assert_close(&got, &want, 0.0, 5.0 * product_tolerance());
            }
        }
    }

    fn attention_keeps_a_narrow_dtype() {
        let mut rng = Rng::new(57);
        let (q, k, v) = qkv(&mut rng, [1, 4, 2, 3, 9, 64, 64]);
        let (q, qa) = q.rounded(Dtype::Bfloat16);
        let (k, ka) = k.rounded(Dtype::Bfloat16);
        let (v, va) = v.rounded(Dtype::Bfloat16);
        let mask = |i: &[usize]| if i[3] <= i[2] + 6 { 0.0 } else { f64::NEG_INFINITY };
        let want = attended(&q, &k, &v, 0.125, mask);
        let got =
            fast::scaled_dot_product_attention(&qa, &ka, &va, 0.125, SdpaMask::Causal).unwrap();
        assert_eq!(got.dtype(), Dtype::Bfloat16);
        assert_close(&got, &want, 2e-2, 1e-2);
    }
}

fn attend((q, k, v): &(Array, Array, Array), mask: SdpaMask<'_>) -> Array {
    fast::scaled_dot_product_attention(q, k, v, 0.3, mask).unwrap()
}
