//! What the kernels ask of an instruction set.

/// A vector of float32 lanes, and the conversions that model weights need.
///
/// # Safety
/// Every method is `#[inline(always)]` and may be called only in code that is compiled for the
/// instruction set, which the machine must have: see [`super::dispatch`]. Pointers need no
/// alignment; a `load` reads, and a `store` writes, `LANES` elements.
#[allow(
    clippy::missing_safety_doc,
    reason = "it is the same for all, and stands above"
)]
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// `LANES` float32 values.
    type V: Copy;
    /// `LANES` 32-bit words.
    type W: Copy;
    /// Lanes of a vector. A power of two, at most 16.
    const LANES: usize;
    /// Vector registers: what a tile of accumulators may fill.
    const REGISTERS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// The larger of each pair of lanes; `b` where either is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of each pair of lanes; `b` where either is not a number.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `x` in the lanes where `a` is less than `b`, 0 in the others.
    unsafe fn where_less(a: Self::V, b: Self::V, x: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the machine can.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// To the nearest integer, for magnitudes below 2^22.
    unsafe fn round(a: Self::V) -> Self::V;
    /// 2 to the power of integral lanes in -126..=127.
    unsafe fn exp2_integer(a: Self::V) -> Self::V;
    /// The sum of the lanes.
    unsafe fn sum(a: Self::V) -> f32;
    /// The sum of the lanes of each of four vectors.
    #[inline(always)]
    unsafe fn sum_four(a: [Self::V; 4]) -> [f32; 4] {
        // SAFETY: by the trait's contract.
        unsafe {
            [
                Self::sum(a[0]),
                Self::sum(a[1]),
                Self::sum(a[2]),
                Self::sum(a[3]),
            ]
        }
    }
    /// The largest lane.
    unsafe fn max_lane(a: Self::V) -> f32;

    unsafe fn load_f32(p: *const f32) -> Self::V;
    unsafe fn load_f16(p: *const half::f16) -> Self::V;
    unsafe fn load_bf16(p: *const half::bf16) -> Self::V;
    unsafe fn store_f32(p: *mut f32, a: Self::V);
    /// Rounds to the nearest, ties to even.
    unsafe fn store_f16(p: *mut half::f16, a: Self::V);
    /// Rounds to the nearest, ties to even.
    unsafe fn store_bf16(p: *mut half::bf16, a: Self::V);

    /// `LANES` bytes as numbers 0 to 255.
    unsafe fn load_u8(p: *const u8) -> Self::V;
    /// `LANES` words of 32 bits.
    unsafe fn load_words(p: *const u8) -> Self::W;
    /// Bits `SHIFT..SHIFT + BITS` of each word as a number, times `2^SHIFT`, but where they are
    /// the highest bits times one. (So they need a mask and no shift, and where the mask would
    /// leave a negative number, a shift and no mask.)
    unsafe fn field<const SHIFT: u32, const BITS: u32>(words: Self::W) -> Self::V;
    /// `p[0]` in the first `LANES / COUNT` lanes, `p[1]` in the next, and so on. `COUNT` is 1, 2
    /// or 4 and at most `LANES / 4`.
    unsafe fn spread<const COUNT: usize>(p: *const f32) -> Self::V;
    /// Transposes `LANES` rows of `LANES` words of 32 bits: the words are moved, not looked at.
    /// Row `i` is read at `src[i]`, and written at `dst + i * stride` (in words).
    unsafe fn transpose(src: &[*const u8], dst: *mut u32, stride: usize);

    /// Eight codes of `BITS` bits (at most 8), the lowest first, each in a byte of its own.
    #[inline(always)]
    unsafe fn spread_codes<const BITS: usize>(packed: u64) -> u64 {
        let mut bytes = 0;
        for i in 0..8 {
            bytes |= (packed >> (i * BITS) & ((1 << BITS) - 1)) << (8 * i);
        }
        bytes
    }

    /// Asks for the cache line at `p`, which need not be there.
    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint; SSE is part of every x86-64.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: a hint that changes nothing but the cache.
        unsafe {
            std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) p,
                options(nostack, readonly, preserves_flags));
        }
        let _ = p;
    }

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        // SAFETY: by the trait's contract.
        unsafe { Self::splat(0.0) }
    }
}

/// Methods whose bodies are intrinsics of the instruction set.
macro_rules! methods {
    ($($(#[$meta:meta])* fn $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? $body:block)*) => {
        $(
            $(#[$meta])*
            #[inline(always)]
            unsafe fn $name($($arg: $type),*) $(-> $out)? {
                // SAFETY: the trait's contract: the machine has the instruction set, and
                // pointers lead to as many elements as the method touches.
                unsafe { $body }
            }
        )*
    };
}
pub(super) use methods;
