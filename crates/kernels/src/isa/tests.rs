//! Each instruction set does what the trait says, compared with plain arithmetic.

use half::{bf16, f16};

use super::*;

/// Some float32 values of every kind that matters to rounding.
fn values() -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32;
    let mut out = vec![
        0.0,
        -0.0,
        1.0,
        -1.0,
        65504.0,
        65520.0,
        1e-8,
        6e-8,
        -3e-5,
        3.0e38,
        f32::INFINITY,
    ];
    // Exactly between two bfloat16, the lower one even and odd, and next to that.
    out.extend([0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3f80_7fff].map(f32::from_bits));
    // The same for float16.
    out.extend([0x3f80_1000, 0x3f80_3000, 0x3f80_1001, 0x3f80_0fff].map(f32::from_bits));
    while out.len() < 320 {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let scale = f32::from_bits((96 + (state >> 20) % 48) << 23);
        out.push((state as f32 / u32::MAX as f32 - 0.5) * scale);
    }
    out
}

/// Applies a kernel to each vector of `xs` on each instruction set.
macro_rules! lanes {
    ($S:ident, |$x:ident| $body:expr) => {{
        struct Lanes<'a>(&'a [f32]);
        impl Kernel for Lanes<'_> {
            type Output = Vec<f32>;
            #[inline(always)]
            unsafe fn run<$S: Simd>(self) -> Vec<f32> {
                let mut out = vec![0.0; self.0.len()];
                for (from, to) in self
                    .0
                    .chunks_exact($S::LANES)
                    .zip(out.chunks_exact_mut($S::LANES))
                {
                    // SAFETY: run by `dispatch`; each chunk is a vector.
                    unsafe {
                        let $x = $S::load_f32(from.as_ptr());
                        $S::store_f32(to.as_mut_ptr(), $body);
                    }
                }
                out
            }
        }
        // SAFETY: the test asks for available instruction sets only.
        move |isa: Isa, xs: &[f32]| unsafe { dispatch(isa, Lanes(xs)) }
    }};
}

#[test]
fn what_is_not_less_becomes_zero() {
    let run = lanes!(S, |x| S::where_less(
        S::sub(S::zero(), x),
        S::splat(-0.5),
        x
    ));
    let mut xs = values();
    xs.extend([f32::NAN, f32::NEG_INFINITY, 0.5, 0.500_000_06]);
    xs.resize(xs.len().next_multiple_of(16), 1.5);
    for isa in Isa::available() {
        for (x, y) in xs.iter().zip(run(isa, &xs)) {
            let want = if -x < -0.5 { *x } else { 0.0 };
            assert_eq!(y, want, "{isa:?}: {x}");
        }
    }
}

#[test]
fn exp_is_accurate_and_ends_in_zero() {
    let run = lanes!(S, |x| exp::<S>(x));
    let mut xs: Vec<f32> = (0..16_000)
        .map(|i| -87.3 + 175.6 * i as f32 / 16_000.0)
        .collect();
    xs.extend((0..1600).map(|i| -1.0 + i as f32 / 800.0));
    for isa in Isa::available() {
        for (x, y) in xs.iter().zip(run(isa, &xs)) {
            let want = f64::from(*x).exp();
            let error = (f64::from(y) - want).abs() / want;
            assert!(error < 3e-7, "{isa:?}: exp({x}) = {y}, error {error:e}");
        }
        let ends = [
            f32::NEG_INFINITY,
            -1e30,
            -88.1,
            f32::NAN,
            100.0,
            f32::INFINITY,
            0.0,
            0.0,
        ];
        let ends: Vec<f32> = ends.into_iter().cycle().take(16).collect();
        let got = run(isa, &ends);
        assert_eq!(got[..3], [0.0; 3], "{isa:?}");
        assert!(got[3].is_nan(), "{isa:?}");
        assert!(
            got[4] > 1e38 && got[5] > 1e38 && got[4].is_finite(),
            "{isa:?}"
        );
        assert_eq!(got[6], 1.0, "{isa:?}");
    }
}

#[test]
fn sigmoid_is_accurate() {
    let run = lanes!(S, |x| sigmoid::<S>(x));
    let xs: Vec<f32> = (0..16_000)
        .map(|i| -87.0 + 187.0 * i as f32 / 16_000.0)
        .collect();
    for isa in Isa::available() {
        for (x, y) in xs.iter().zip(run(isa, &xs)) {
            let want = 1.0 / (1.0 + (-f64::from(*x)).exp());
            let error = (f64::from(y) - want).abs() / want;
            assert!(error < 1e-6, "{isa:?}: sigmoid({x}) = {y}, error {error:e}");
        }
    }
}

#[test]
fn arithmetic_is_that_of_lanes() {
    let xs = values();
    let run = lanes!(S, |x| {
        let y = S::add(S::mul(x, S::splat(0.75)), S::splat(0.5));
        let y = S::max(S::min(y, S::splat(3.0)), S::splat(-2.0));
        S::mul_add(
            S::sub(y, S::splat(0.25)),
            S::splat(2.0),
            S::div(S::splat(1.0), S::splat(8.0)),
        )
    });
    let round = lanes!(S, |x| S::round(S::max(
        S::min(x, S::splat(1e6)),
        S::splat(-1e6)
    )));
    for isa in Isa::available() {
        for (x, y) in xs.iter().zip(run(isa, &xs)) {
            let want = ((x * 0.75 + 0.5).clamp(-2.0, 3.0) - 0.25) * 2.0 + 0.125;
            assert!((y - want).abs() < 1e-6, "{isa:?}: {x}: {y}, not {want}");
        }
        for (x, y) in xs.iter().zip(round(isa, &xs)) {
            assert_eq!(y, x.clamp(-1e6, 1e6).round_ties_even(), "{isa:?}: {x}");
        }
    }
}

struct Convert<'a>(&'a [f32]);

impl Kernel for Convert<'_> {
    type Output = (Vec<f16>, Vec<bf16>, Vec<f32>, Vec<f32>);

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Self::Output {
        let n = self.0.len();
        let (mut h, mut b) = (vec![f16::ZERO; n], vec![bf16::ZERO; n]);
        let (mut hf, mut bf) = (vec![0.0; n], vec![0.0; n]);
        for i in (0..n).step_by(S::LANES) {
            // SAFETY: run by `dispatch`; `n` is a multiple of any number of lanes.
            unsafe {
                let x = f32::load::<S>(self.0.as_ptr().add(i));
                f16::store::<S>(h.as_mut_ptr().add(i), x);
                bf16::store::<S>(b.as_mut_ptr().add(i), x);
                f32::store::<S>(hf.as_mut_ptr().add(i), f16::load::<S>(h.as_ptr().add(i)));
                f32::store::<S>(bf.as_mut_ptr().add(i), bf16::load::<S>(b.as_ptr().add(i)));
            }
        }
        (h, b, hf, bf)
    }
}

#[test]
fn conversions_round_to_nearest_even() {
    let mut xs = values();
    xs[200] = f32::NAN;
    xs[201] = f32::from_bits(0x7f80_0001);
    for isa in Isa::available() {
        // SAFETY: it is available.
        let (h, b, hf, bf) = unsafe { dispatch(isa, Convert(&xs)) };
        for (i, &x) in xs.iter().enumerate() {
            if x.is_nan() {
                assert!(hf[i].is_nan() && bf[i].is_nan(), "{isa:?}");
                continue;
            }
            assert_eq!(
                h[i].to_bits(),
                f16::from_f32(x).to_bits(),
                "{isa:?}: f16 of {x:e}"
            );
            assert_eq!(
                b[i].to_bits(),
                bf16::from_f32(x).to_bits(),
                "{isa:?}: bf16 of {x:e}"
            );
            assert_eq!(hf[i], h[i].to_f32(), "{isa:?}");
            assert_eq!(bf[i], b[i].to_f32(), "{isa:?}");
        }
    }
}

struct Unpack<'a>(&'a [u8]);

impl Kernel for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (bytes, n) = (self.0, S::LANES);
        let mut got = [0.0; 16];
        // SAFETY: run by `dispatch`; the caller gives more bytes than a tile of words has.
        unsafe {
            S::store_f32(got.as_mut_ptr(), S::load_u8(bytes.as_ptr().add(1)));
            assert!((0..n).all(|i| got[i] == f32::from(bytes[1 + i])));

            let words = S::load_words(bytes.as_ptr().add(3));
            let word = |i: usize| u32::from_le_bytes(std::array::from_fn(|b| bytes[3 + 4 * i + b]));
            S::store_f32(got.as_mut_ptr(), S::field::<0, 4>(words));
            assert!((0..n).all(|i| got[i] == (word(i) & 15) as f32));
            S::store_f32(got.as_mut_ptr(), S::field::<16, 8>(words));
            assert!((0..n).all(|i| got[i] == (word(i) & 0xff_0000) as f32));
            S::store_f32(got.as_mut_ptr(), S::field::<28, 4>(words));
            assert!((0..n).all(|i| got[i] == (word(i) >> 28) as f32));

            let four = [3.0, 5.0, 7.0, 9.0];
            S::store_f32(got.as_mut_ptr(), S::spread::<1>(four.as_ptr()));
            assert!((0..n).all(|i| got[i] == 3.0));
            if n >= 8 {
                S::store_f32(got.as_mut_ptr(), S::spread::<2>(four.as_ptr()));
                assert!((0..n).all(|i| got[i] == four[2 * i / n]));
            }
            if n >= 16 {
                S::store_f32(got.as_mut_ptr(), S::spread::<4>(four.as_ptr()));
                assert!((0..n).all(|i| got[i] == four[4 * i / n]));
            }

            let rows: Vec<*const u8> = (0..n).map(|i| bytes.as_ptr().add(1 + 68 * i)).collect();
            let mut out = vec![0_u32; 20 * n];
            S::transpose(&rows, out.as_mut_ptr(), 20);
            for (i, row) in rows.iter().enumerate() {
                for j in 0..n {
                    assert_eq!(out[j * 20 + i], row.cast::<u32>().add(j).read_unaligned());
                }
            }

            let lanes: Vec<f32> = (0..n).map(|i| ((i * 7) % n) as f32 - 2.0).collect();
            let v = S::load_f32(lanes.as_ptr());
            assert_eq!(S::sum(v), lanes.iter().sum::<f32>());
            assert_eq!(S::max_lane(v), n as f32 - 3.0);
            let four = [v, S::add(v, v), S::splat(1.0), S::sub(v, S::splat(1.0))];
            assert_eq!(S::sum_four(four), four.map(|v| S::sum(v)));
            let mut kept = [1.0_f32; 16];
            f32::store_first::<S>(
                kept.as_mut_ptr(),
                f32::load_first::<S>(lanes.as_ptr(), 3),
                2,
            );
            assert_eq!(kept[..3], [lanes[0], lanes[1], 1.0]);
            f32::store::<S>(kept.as_mut_ptr(), f32::load_first::<S>(lanes.as_ptr(), 3));
            assert_eq!(kept[2..4], [lanes[2], 0.0]);
        }
    }
}

#[test]
fn bits_are_unpacked_and_transposed() {
    let bytes: Vec<u8> = (0..2000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for isa in Isa::available() {
        // SAFETY: it is available.
        unsafe { dispatch(isa, Unpack(&bytes)) };
    }
}

#[test]
fn the_best_is_available() {
    assert!(Isa::best().is_available());
    assert!(Isa::available().any(|isa| isa == Isa::Portable));
}

#[test]
fn names_are_read_back() {
    for isa in Isa::ALL {
        assert_eq!(isa.name().parse(), Ok(isa));
        assert_eq!(format!("{isa:?}").parse(), Ok(isa));
    }
    let error = "avx1024".parse::<Isa>().unwrap_err().to_string();
    assert!(
        error.contains("'avx1024'") && error.contains("avx2, avx512"),
        "{error}"
    );
}
