//! A row of any format as float32.

use super::{Mode, Quantized, Scales, fp};
use crate::gemm::{Source, Word};
use crate::isa::{Float, Simd, with_float};
use crate::scratch::Scratch;
use crate::vector::narrow;

/// Two nibbles of a byte, each as twice its e2m1 value plus 12: small integers, so that what
/// turns an affine code into a weight serves for these as well.
static FP4_PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [
            (2.0 * fp::e2m1(byte as u8 & 15) + 12.0) as u8,
            (2.0 * fp::e2m1(byte as u8 >> 4) + 12.0) as u8,
        ];
        byte += 1;
    }
    pairs
};

/// The value of each e4m3 code.
static FP8: [f32; 256] = {
    let mut values = [0.0; 256];
    let mut code = 0;
    while code < 256 {
        values[code] = fp::e4m3(code as u8);
        code += 1;
    }
    values
};

/// Writes row `row` of `w` to `out`.
///
/// First all codes become bytes, which are put at the end of `out`, then all bytes weights: a
/// vector of bytes that were only just stored one by one could not be loaded without a stall.
///
/// # Safety
/// [`Simd`]'s contract; `row` is below `w.rows()`, and `out` has room for `w.cols()` floats.
#[inline(always)]
pub(super) unsafe fn dequantize<S: Simd>(w: &Quantized<'_>, row: usize, out: *mut f32) {
    let first = row * w.groups();
    // SAFETY: by this function's own contract; scales and biases have an element a group. Of
    // `out`, the last quarter holds bytes: float `i` overwrites none that is beyond `i`.
    unsafe {
        let spare = out.cast::<u8>().add(3 * w.cols());
        match w.scales {
            Scales::Affine {
                scales,
                biases,
                dtype,
            } => {
                let bytes = code_bytes::<S>(w, row, spare);
                with_float!(dtype, T => {
                    let scales = scales.as_ptr().cast::<T>().add(first);
                    let biases = biases.as_ptr().cast::<T>().add(first);
                    for g in 0..w.groups() {
                        let scale = scales.add(g).read_unaligned().to_f32();
                        let bias = biases.add(g).read_unaligned().to_f32();
                        scale_group::<S>(w, g, bytes, scale, bias, out);
                    }
                });
            }
            Scales::Bytes(scales) if w.format().mode() == Mode::Mxfp8 => {
                mxfp8(w, row, &scales[first..][..w.groups()], out);
            }
            Scales::Bytes(scales) => {
                let bytes = code_bytes::<S>(w, row, spare);
                for (g, &scale) in scales[first..][..w.groups()].iter().enumerate() {
                    let scale = match w.format().mode() {
                        Mode::Nvfp4 => fp::e4m3(scale),
                        _ => fp::e8m0(scale),
                    };
                    scale_group::<S>(w, g, bytes, 0.5 * scale, -6.0 * scale, out);
                }
            }
        }
    }
}

/// Row `row` of an mxfp8 `w`, whose scales these are.
///
/// # Safety
/// As [`dequantize`].
#[inline(always)]
unsafe fn mxfp8(w: &Quantized<'_>, row: usize, scales: &[u8], out: *mut f32) {
    let codes = &w.packed[row * w.row_bytes()..][..w.row_bytes()];
    let groups = codes.chunks_exact(w.format().group_size());
    for (g, (codes, &scale)) in groups.zip(scales).enumerate() {
        let scale = fp::e8m0(scale);
        for (i, &code) in codes.iter().enumerate() {
            // SAFETY: by this function's own contract.
            unsafe { *out.add(g * codes.len() + i) = FP8[usize::from(code)] * scale };
        }
    }
}

/// The codes of row `row` of `w`, which is not mxfp8, a byte each: at `spare`, or where they are. Those of
/// four-bit floats are made integers, twice what they say plus 12.
///
/// # Safety
/// [`Simd`]'s contract; `row` is below `w.rows()`, and `spare` has room for `w.cols()` bytes.
#[inline(always)]
pub(super) unsafe fn code_bytes<S: Simd>(
    w: &Quantized<'_>,
    row: usize,
    spare: *mut u8,
) -> *const u8 {
    let codes = &w.packed[row * w.row_bytes()..][..w.row_bytes()];
    // SAFETY: by this function's own contract.
    unsafe {
        match (w.format().mode(), w.format().bits()) {
            (Mode::Affine, 2) => spread::<S, 2>(codes, spare),
            (Mode::Affine, 3) => spread::<S, 3>(codes, spare),
            (Mode::Affine, 4) => spread::<S, 4>(codes, spare),
            (Mode::Affine, 5) => spread::<S, 5>(codes, spare),
            (Mode::Affine, 6) => spread::<S, 6>(codes, spare),
            (Mode::Affine, _) => codes.as_ptr(),
            _ => {
                for (i, &code) in codes.iter().enumerate() {
                    let pair = FP4_PAIRS[usize::from(code)];
                    spare.add(2 * i).cast::<[u8; 2]>().write(pair);
                }
                spare
            }
        }
    }
}

impl Source for Quantized<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    #[inline(always)]
    unsafe fn words<S: Simd>(&self, word: Word, row: usize, scratch: *mut u32) -> *const u32 {
        // SAFETY: by the trait's contract. A row is of whole pairs, since groups are.
        unsafe {
            match word {
                Word::F32 => dequantize::<S>(self, row, scratch.cast()),
                Word::Bf16Pair => {
                    let mut wide = Scratch::<f32>::take(self.cols);
                    dequantize::<S>(self, row, wide.as_mut_ptr());
                    narrow::<S, half::bf16>(wide.as_ptr(), scratch.cast(), self.cols);
                }
            }
        }
        scratch
    }
}

/// Codes of `BITS` bits, each to a byte of its own; gives back the first one's address.
///
/// # Safety
/// [`Simd`]'s contract; `bytes` has room.
#[inline(always)]
unsafe fn spread<S: Simd, const BITS: usize>(codes: &[u8], bytes: *mut u8) -> *const u8 {
    for (i, codes) in codes.chunks_exact(BITS).enumerate() {
        let mut packed = [0; 8];
        packed[..BITS].copy_from_slice(codes);
        // SAFETY: by this function's own contract.
        unsafe {
            let spread = S::spread_codes::<BITS>(u64::from_le_bytes(packed));
            bytes
                .add(8 * i)
                .cast::<u64>()
                .write_unaligned(spread.to_le());
        }
    }
    bytes
}

/// Group `g` of `out`: `bytes * scale + bias`.
///
/// # Safety
/// [`Simd`]'s contract; `bytes` leads to the codes of a row of `w`, and `out` to room for one.
#[inline(always)]
unsafe fn scale_group<S: Simd>(
    w: &Quantized<'_>,
    g: usize,
    bytes: *const u8,
    scale: f32,
    bias: f32,
    out: *mut f32,
) {
    let group = w.format().group_size();
    // SAFETY: by this function's own contract; groups are multiples of 16.
    unsafe {
        let (scale, bias) = (S::splat(scale), S::splat(bias));
        for i in (g * group..(g + 1) * group).step_by(S::LANES) {
            S::store_f32(
                out.add(i),
                S::mul_add(S::load_u8(bytes.add(i)), scale, bias),
            );
        }
    }
}
