//! AArch64's Advanced SIMD: four lanes, part of every such processor.

use std::arch::aarch64::*;
use std::arch::asm;

use half::{bf16, f16};

use super::Simd;
use super::simd::methods;

#[derive(Clone, Copy)]
pub(crate) struct Neon;

impl Simd for Neon {
    type V = float32x4_t;
    type W = uint32x4_t;
    const LANES: usize = 4;
    const REGISTERS: usize = 32;

    methods! {
        fn splat(x: f32) -> float32x4_t { vdupq_n_f32(x) }
        fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
        fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t { vsubq_f32(a, b) }
        fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t { vdivq_f32(a, b) }
        fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            // The processor's own maximum hands on a NaN of either side.
            vbslq_f32(vcgtq_f32(a, b), a, b)
        }
        fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            vbslq_f32(vcltq_f32(a, b), a, b)
        }
        fn where_less(a: float32x4_t, b: float32x4_t, x: float32x4_t) -> float32x4_t {
            vbslq_f32(vcltq_f32(a, b), x, vdupq_n_f32(0.0))
        }
        fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            vfmaq_f32(c, a, b)
        }
        fn round(a: float32x4_t) -> float32x4_t { vrndnq_f32(a) }
        fn exp2_integer(a: float32x4_t) -> float32x4_t {
            let biased = vaddq_s32(vcvtq_s32_f32(a), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        }
        fn sum(a: float32x4_t) -> f32 { vaddvq_f32(a) }
        fn sum_four(a: [float32x4_t; 4]) -> [f32; 4] {
            let [a, b, c, d] = a;
            let all = vpaddq_f32(vpaddq_f32(a, b), vpaddq_f32(c, d));
            let mut sums = [0.0; 4];
            vst1q_f32(sums.as_mut_ptr(), all);
            sums
        }
        fn max_lane(a: float32x4_t) -> f32 { vmaxvq_f32(a) }

        fn load_f32(p: *const f32) -> float32x4_t { vld1q_f32(p) }
        fn load_f16(p: *const f16) -> float32x4_t {
            let halves = vld1_u16(p.cast());
            let wide: float32x4_t;
            // The conversion's intrinsic needs the type `f16`, which stable Rust lacks.
            asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) wide, in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags));
            wide
        }
        fn load_bf16(p: *const bf16) -> float32x4_t {
            vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p.cast())))
        }
        fn store_f32(p: *mut f32, a: float32x4_t) { vst1q_f32(p, a) }
        fn store_f16(p: *mut f16, a: float32x4_t) {
            let halves: uint16x4_t;
            // As in `load_f16`.
            asm!("fcvtn {0:v}.4h, {1:v}.4s", out(vreg) halves, in(vreg) a,
                options(pure, nomem, nostack, preserves_flags));
            vst1_u16(p.cast(), halves);
        }
        fn store_bf16(p: *mut bf16, a: float32x4_t) {
            // Half of the last place kept, less one where that place is even; NaNs stay NaNs.
            let bits = vreinterpretq_u32_f32(a);
            let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
            let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
            let quiet = vorrq_u32(bits, vdupq_n_u32(0x0040_0000));
            let chosen = vbslq_u32(vceqq_f32(a, a), rounded, quiet);
            vst1_u16(p.cast(), vshrn_n_u32::<16>(chosen));
        }

        fn load_u8(p: *const u8) -> float32x4_t {
            let bytes = vreinterpret_u8_u32(vdup_n_u32(p.cast::<u32>().read_unaligned()));
            let words = vmovl_u16(vget_low_u16(vmovl_u8(bytes)));
            vcvtq_f32_u32(words)
        }
        fn load_words(p: *const u8) -> uint32x4_t { vreinterpretq_u32_u8(vld1q_u8(p)) }
        fn transpose(src: &[*const u8], dst: *mut u32, stride: usize) {
            let rows = [
                vreinterpretq_u32_u8(vld1q_u8(src[0])),
                vreinterpretq_u32_u8(vld1q_u8(src[1])),
                vreinterpretq_u32_u8(vld1q_u8(src[2])),
                vreinterpretq_u32_u8(vld1q_u8(src[3])),
            ];
            let even = [vtrn1q_u32(rows[0], rows[1]), vtrn1q_u32(rows[2], rows[3])];
            let odd = [vtrn2q_u32(rows[0], rows[1]), vtrn2q_u32(rows[2], rows[3])];
            let low = |[a, b]: [uint32x4_t; 2]| {
                vtrn1q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b))
            };
            let high = |[a, b]: [uint32x4_t; 2]| {
                vtrn2q_u64(vreinterpretq_u64_u32(a), vreinterpretq_u64_u32(b))
            };
            for (i, row) in [low(even), low(odd), high(even), high(odd)].into_iter().enumerate() {
                vst1q_u32(dst.add(i * stride), vreinterpretq_u32_u64(row));
            }
        }
    }

    #[inline(always)]
    unsafe fn field<const SHIFT: u32, const BITS: u32>(words: uint32x4_t) -> float32x4_t {
        // SAFETY: by the trait's contract.
        unsafe {
            vcvtq_f32_u32(match SHIFT + BITS {
                32 => vshlq_u32(words, vdupq_n_s32(-(SHIFT as i32))),
                _ => vandq_u32(words, vdupq_n_u32(((1 << BITS) - 1) << SHIFT)),
            })
        }
    }

    #[inline(always)]
    unsafe fn spread<const COUNT: usize>(p: *const f32) -> float32x4_t {
        // SAFETY: by the trait's contract; `COUNT` is 1 with four lanes.
        unsafe { vdupq_n_f32(p.read_unaligned()) }
    }
}
