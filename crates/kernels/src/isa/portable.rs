//! Plain Rust: eight lanes that the compiler makes vectors of where it can.

use std::array::from_fn;

use half::{bf16, f16};

use super::Simd;

#[derive(Clone, Copy)]
pub(crate) struct Portable;

const LANES: usize = 8;
type V = [f32; LANES];

/// Reads `LANES` elements at `p`, however aligned.
///
/// # Safety
/// `p` leads to `LANES` elements.
#[inline(always)]
unsafe fn read<T: Copy>(p: *const T) -> [T; LANES] {
    // SAFETY: by this function's own contract.
    unsafe { p.cast::<[T; LANES]>().read_unaligned() }
}

impl Simd for Portable {
    type V = V;
    type W = [u32; LANES];
    const LANES: usize = LANES;
    const REGISTERS: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        from_fn(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn where_less(a: V, b: V, x: V) -> V {
        from_fn(|i| if a[i] < b[i] { x[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn mul_add(a: V, b: V, c: V) -> V {
        // Not `f32::mul_add`: without the instruction that is a call into the C library.
        from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn round(a: V) -> V {
        // Adding 1.5 * 2^23 leaves no bits for a fraction.
        const SHIFT: f32 = 12_582_912.0;
        from_fn(|i| (a[i] + SHIFT) - SHIFT)
    }
    #[inline(always)]
    unsafe fn exp2_integer(a: V) -> V {
        from_fn(|i| f32::from_bits(((a[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn sum(a: V) -> f32 {
        let four: [f32; 4] = from_fn(|i| a[i] + a[i + 4]);
        (four[0] + four[2]) + (four[1] + four[3])
    }
    #[inline(always)]
    unsafe fn max_lane(a: V) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }

    #[inline(always)]
    unsafe fn load_f32(p: *const f32) -> V {
        // SAFETY: by the trait's contract.
        unsafe { read(p) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const f16) -> V {
        // SAFETY: by the trait's contract.
        unsafe { read(p) }.map(f16::to_f32)
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const bf16) -> V {
        // SAFETY: by the trait's contract.
        unsafe { read(p) }.map(|x| f32::from_bits(u32::from(x.to_bits()) << 16))
    }
    #[inline(always)]
    unsafe fn store_f32(p: *mut f32, a: V) {
        // SAFETY: by the trait's contract.
        unsafe { p.cast::<V>().write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn store_f16(p: *mut f16, a: V) {
        // SAFETY: by the trait's contract.
        unsafe {
            p.cast::<[f16; LANES]>()
                .write_unaligned(a.map(f16::from_f32))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut bf16, a: V) {
        // SAFETY: by the trait's contract.
        unsafe {
            p.cast::<[bf16; LANES]>()
                .write_unaligned(a.map(bf16::from_f32))
        }
    }

    #[inline(always)]
    unsafe fn load_u8(p: *const u8) -> V {
        // SAFETY: by the trait's contract.
        unsafe { read(p) }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn load_words(p: *const u8) -> [u32; LANES] {
        // SAFETY: by the trait's contract.
        unsafe { read(p.cast::<u32>()) }.map(u32::from_le)
    }
    #[inline(always)]
    unsafe fn field<const SHIFT: u32, const BITS: u32>(words: [u32; LANES]) -> V {
        words.map(|word| {
            let field = match SHIFT + BITS {
                32 => word >> SHIFT,
                _ => word & (((1 << BITS) - 1) << SHIFT),
            };
            // It is below 2^31, and signed conversions are the faster ones.
            field as i32 as f32
        })
    }

    #[inline(always)]
    unsafe fn spread<const COUNT: usize>(p: *const f32) -> V {
        // SAFETY: by the trait's contract; an index is below `COUNT`.
        from_fn(|i| unsafe { p.add(i * COUNT / LANES).read_unaligned() })
    }
    #[inline(always)]
    unsafe fn transpose(src: &[*const u8], dst: *mut u32, stride: usize) {
        for (column, row) in src.iter().enumerate().take(LANES) {
            // SAFETY: by the trait's contract.
            let words = unsafe { read(row.cast::<u32>()) };
            for (i, word) in words.into_iter().enumerate() {
                // SAFETY: by the trait's contract.
                unsafe { dst.add(i * stride + column).write_unaligned(word) };
            }
        }
    }
}
