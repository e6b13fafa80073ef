//! Part of what several matrices made together of one input.

use mlx_core::{Array, Result};

/// Neighbouring columns of an array `[.., S]`, dense in row-major order.
#[derive(Clone)]
pub struct Columns {
    array: Array,
    start: i32,
    width: i32,
}

impl Columns {
    /// `width` columns of `array` from `start` on.
    pub fn of(array: &Array, start: i32, width: i32) -> Self {
        Self {
            array: array.clone(),
            start,
            width,
        }
    }

    /// All columns.
    pub fn all(array: Array) -> Self {
        let width = array.dim(-1);
        Self {
            array,
            start: 0,
            width,
        }
    }

    /// How many they are.
    pub fn width(&self) -> i32 {
        self.width
    }

    /// An array of these columns alone.
    pub fn to_array(&self) -> Result<Array> {
        let mut stop = self.array.shape().to_vec();
        let mut start = vec![0; stop.len()];
        match (start.last_mut(), stop.last_mut()) {
            (Some(start), Some(stop)) if self.width < *stop => {
                (*start, *stop) = (self.start, self.start + self.width);
            }
            _ => return Ok(self.array.clone()),
        }
        self.array.slice(&start, &stop)
    }

    /// The array that they are columns of.
    pub(crate) fn array(&self) -> &Array {
        &self.array
    }

    /// The first of them.
    pub(crate) fn start(&self) -> i32 {
        self.start
    }

    /// Rows of the array, and how many elements they are apart.
    pub(crate) fn rows(&self) -> [i32; 2] {
        let Some((&apart, outer)) = self.array.shape().split_last() else {
            return [1, 1];
        };
        [outer.iter().product(), apart]
    }
}
