//! The element types of checkpoints and activations, as the kernels see them.

use half::{bf16, f16};

use super::Simd;

/// An element type: how to load it as float32 and store float32 as it.
///
/// # Safety
/// The methods that take an instruction set are under [`Simd`]'s contract. Pointers need no
/// alignment.
#[allow(
    clippy::missing_safety_doc,
    reason = "it is the same for all, and stands above"
)]
pub(crate) trait Float: Copy + Default + Send + Sync + 'static {
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
    unsafe fn store<S: Simd>(p: *mut Self, v: S::V);
    fn to_f32(self) -> f32;
    fn from_f32(x: f32) -> Self;

    /// The first `n` of `LANES` elements; the other lanes are zero.
    #[inline(always)]
    unsafe fn load_first<S: Simd>(p: *const Self, n: usize) -> S::V {
        debug_assert!(n <= S::LANES);
        let mut lanes = [Self::default(); 16];
        // SAFETY: the caller has `n` elements at `p`; `lanes` holds any vector.
        unsafe {
            std::ptr::copy_nonoverlapping(
                p.cast::<u8>(),
                lanes.as_mut_ptr().cast(),
                n * size_of::<Self>(),
            );
            Self::load::<S>(lanes.as_ptr())
        }
    }

    /// Stores the first `n` lanes.
    #[inline(always)]
    unsafe fn store_first<S: Simd>(p: *mut Self, v: S::V, n: usize) {
        debug_assert!(n <= S::LANES);
        let mut lanes = [Self::default(); 16];
        // SAFETY: the caller has room for `n` elements at `p`; `lanes` holds any vector.
        unsafe {
            Self::store::<S>(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(
                lanes.as_ptr().cast::<u8>(),
                p.cast(),
                n * size_of::<Self>(),
            );
        }
    }
}

macro_rules! float {
    ($type:ty, $load:ident, $store:ident, $to:expr, $from:expr) => {
        impl Float for $type {
            #[inline(always)]
            unsafe fn load<S: Simd>(p: *const Self) -> S::V {
                // SAFETY: by the trait's contract.
                unsafe { S::$load(p) }
            }
            #[inline(always)]
            unsafe fn store<S: Simd>(p: *mut Self, v: S::V) {
                // SAFETY: by the trait's contract.
                unsafe { S::$store(p, v) }
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                $to(self)
            }
            #[inline(always)]
            fn from_f32(x: f32) -> Self {
                $from(x)
            }
        }
    };
}

float!(f32, load_f32, store_f32, |x| x, |x| x);
float!(f16, load_f16, store_f16, f16::to_f32, f16::from_f32);
float!(bf16, load_bf16, store_bf16, bf16::to_f32, bf16::from_f32);

/// `with_float!(dtype, T => body)`: `body` with `T` the [`Float`] of `dtype`.
macro_rules! with_float {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::Dtype::F32 => {
                type $T = f32;
                $body
            }
            $crate::Dtype::F16 => {
                type $T = half::f16;
                $body
            }
            $crate::Dtype::Bf16 => {
                type $T = half::bf16;
                $body
            }
        }
    };
}
pub(crate) use with_float;
