//! Random arrays, each a function of a key.
//!
//! There is no hidden state: the same key gives the same numbers on every device, and
//! [`Key::split`] makes new keys where several draws are wanted.

use crate::array::check_shape;
use crate::ffi::{EMPTY, api, array_op, failure, op_failure};
use crate::stream::Stream;
use crate::{Array, Dtype, Result};

/// What a draw depends on, besides its arguments.
#[derive(Clone, Debug)]
pub struct Key(Array);

impl Key {
    /// The key of a seed.
    pub fn new(seed: u64) -> Result<Key> {
        Stream::current("key")?;
        let mut out = EMPTY;
        // SAFETY: `out` is empty and becomes ours.
        let status = unsafe { api().mlx_random_key(&mut out, seed) };
        if status == 0 {
            Ok(Key(Array::from_raw(out)))
        } else {
            Err(failure("key"))
        }
    }

    /// Two keys that are independent of each other and of this one, which should not be used again.
    pub fn split(&self) -> Result<(Key, Key)> {
        let stream = Stream::current("split_key")?;
        let (mut a, mut b) = (EMPTY, EMPTY);
        // SAFETY: the key is alive; `a` and `b` are empty and become ours.
        let status = unsafe { api().mlx_random_split(&mut a, &mut b, self.0.raw(), stream.raw()) };
        if status == 0 {
            Ok((Key(Array::from_raw(a)), Key(Array::from_raw(b))))
        } else {
            Err(op_failure("split_key", &[&self.0], String::new()))
        }
    }

    /// The two words of the key, as a uint32 array of shape `[2]`.
    pub fn array(&self) -> &Array {
        &self.0
    }
}

/// Uniform in `[low, high)`, of a floating dtype.
pub fn uniform(key: &Key, low: f32, high: f32, shape: &[i32], dtype: Dtype) -> Result<Array> {
    check_shape("uniform", shape, dtype)?;
    let lowest = Array::scalar(low)?;
    let highest = Array::scalar(high)?;
    array_op!("uniform" [] "{low} to {high}, {dtype}{shape:?}"; mlx_random_uniform(
        lowest.raw(), highest.raw(), shape.as_ptr(), shape.len(), dtype.to_raw(), key.0.raw(),
    ))
}

/// 32 random bits an element, as uint32.
pub fn bits(key: &Key, shape: &[i32]) -> Result<Array> {
    check_shape("bits", shape, Dtype::Uint32)?;
    array_op!("bits" [] "{shape:?}";
        mlx_random_bits(shape.as_ptr(), shape.len(), 4, key.0.raw()))
}

/// Normal with this mean and standard deviation, of a floating dtype.
pub fn normal(key: &Key, shape: &[i32], dtype: Dtype, mean: f32, std: f32) -> Result<Array> {
    check_shape("normal", shape, dtype)?;
    array_op!("normal" [] "mean {mean}, std {std}, {dtype}{shape:?}"; mlx_random_normal(
        shape.as_ptr(), shape.len(), dtype.to_raw(), mean, std, key.0.raw(),
    ))
}

/// Standard Gumbel: the index of the largest of `logits + gumbel` is a draw from
/// `softmax(logits)`.
pub fn gumbel(key: &Key, shape: &[i32], dtype: Dtype) -> Result<Array> {
    check_shape("gumbel", shape, dtype)?;
    array_op!("gumbel" [] "{dtype}{shape:?}"; mlx_random_gumbel(
        shape.as_ptr(), shape.len(), dtype.to_raw(), key.0.raw(),
    ))
}

/// One index along `axis` for each distribution `softmax(logits)`, as uint32; `axis` disappears.
pub fn categorical(key: &Key, logits: &Array, axis: i32) -> Result<Array> {
    array_op!("categorical" [logits] "axis {axis}";
        mlx_random_categorical(logits.raw(), axis, key.0.raw()))
}
