//! Memory that host operations read and write where it lies.

use crate::ffi::api;
use crate::{Array, Dtype, Result};

/// Rooms begin at whole cache lines; what the allocator gives does not.
const LINE: usize = 64;

/// Bytes of a row of the array that the memory is from: an axis counts to 2³¹ only.
const ROW: usize = 4096;

/// Memory of MLX's allocator, whose figures and limits count it, that MLX itself never touches.
///
/// To MLX an array never changes, and every array that a node reads costs time. What is changed again and
/// again, the keys and values of a cache, lies in rooms, which the closures that use them hold: a room is freed
/// when the last of them has run. Nothing orders what they do but the inputs of their nodes.
#[derive(Debug)]
pub struct Room {
    data: *mut u8,
    len: usize,
    /// Keeps the memory. No operation is ever given it, so that MLX cannot reuse the buffer for a result.
    _array: Array,
}

// SAFETY: the address is used by whoever vouches for it. Of `_array` nothing is used but its drop, which
// counts down an atomic reference count.
unsafe impl Send for Room {}
// SAFETY: as above; `&Room` gives an address only.
unsafe impl Sync for Room {}

impl Room {
    /// `len` bytes of anything. What this thread has submitted is waited for.
    pub fn new(len: usize) -> Result<Self> {
        let rows = i32::try_from((len + LINE).div_ceil(ROW)).unwrap_or(i32::MAX);
        let shape = [rows, ROW as i32];
        // Zeros would be written now, and the system would have to find all of the memory.
        let array = super::single("room", &[], &shape, Dtype::Uint8, |_, _| Ok(()))?;
        array.eval()?;
        // SAFETY: the handle is alive, and its array is computed: this is the address of its first byte.
        let start = unsafe { api().mlx_array_data_uint8(array.raw()) }.cast_mut();
        Ok(Self {
            // The array has a line more than is asked for.
            data: start.wrapping_add(start.align_offset(LINE)),
            len,
            _array: array,
        })
    }

    /// The first byte, at a multiple of 64.
    pub fn as_ptr(&self) -> *mut u8 {
        self.data
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks for none")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// What the allocator gave for it.
    pub fn nbytes(&self) -> usize {
        self._array.nbytes()
    }
}
