//! LinearView maps on plain memory, whatever their matrices are stored as, and results on the way.

use crate::add::add_row;
use crate::bf12::{Bf12, bf12_matmuls};
use crate::matmul::matmuls;
use crate::quantized_matmul::{Quantized, quantized_matmuls};
use crate::scratch::Scratch;
use crate::{Cpu, Dtype, Layout, Result, View, ViewMut};

/// The weights `[N, K]` of a linear map.
#[derive(Clone, Copy, Debug)]
pub enum WeightView<'a> {
    /// Floats.
    Dense(View<'a>),
    /// Packed.
    Quantized(Quantized<'a>),
    /// Bfloat16, encoded.
    Bf12(&'a Bf12),
}

/// A linear map.
#[derive(Clone, Copy, Debug)]
pub struct LinearView<'a> {
    /// `[N, K]`.
    pub weight: WeightView<'a>,
    /// One row of N.
    pub bias: Option<View<'a>>,
}

/// `x wᵀ + bias`.
pub(crate) fn product(cpu: &Cpu, x: View<'_>, w: &LinearView<'_>, y: ViewMut<'_>) -> Result<()> {
    products(cpu, x, vec![(w, y)])
}

/// `x wᵀ + bias` for each part; products of one kind cost one fork.
pub(crate) fn products(
    cpu: &Cpu,
    x: View<'_>,
    mut parts: Vec<(&LinearView<'_>, ViewMut<'_>)>,
) -> Result<()> {
    let (mut dense, mut quantized, mut bf12) = (Vec::new(), Vec::new(), Vec::new());
    for (w, y) in &mut parts {
        let y = y.reborrow();
        match w.weight {
            WeightView::Dense(w) => dense.push((w, y)),
            WeightView::Quantized(w) => quantized.push((w, y)),
            WeightView::Bf12(w) => bf12.push((w, y)),
        }
    }
    if !dense.is_empty() {
        matmuls(cpu, x, &mut dense)?;
    }
    if !quantized.is_empty() {
        quantized_matmuls(cpu, x, &mut quantized)?;
    }
    if !bf12.is_empty() {
        bf12_matmuls(cpu, x, &mut bf12)?;
    }
    drop((dense, quantized, bf12));
    for (w, y) in parts {
        if let Some(bias) = w.bias {
            add_row(cpu, y, bias)?;
        }
    }
    Ok(())
}

impl WeightView<'_> {
    pub(crate) fn rows(&self) -> usize {
        match self {
            Self::Dense(w) => w.layout().rows,
            Self::Quantized(w) => w.rows(),
            Self::Bf12(w) => w.rows(),
        }
    }

    pub(crate) fn cols(&self) -> usize {
        match self {
            Self::Dense(w) => w.layout().cols,
            Self::Quantized(w) => w.cols(),
            Self::Bf12(w) => w.cols(),
        }
    }
}

/// A result on the way.
pub(crate) struct Intermediate {
    memory: Scratch<u8>,
    layout: Layout,
}

impl Intermediate {
    pub(crate) fn take(dtype: Dtype, rows: usize, cols: usize) -> Self {
        let layout = Layout::matrix(dtype, rows, cols);
        Self {
            memory: Scratch::take(rows * cols * dtype.size()),
            layout,
        }
    }

    pub(crate) fn view(&self) -> Result<View<'_>> {
        View::new(self.memory.as_slice(), self.layout)
    }

    pub(crate) fn view_mut(&mut self) -> Result<ViewMut<'_>> {
        ViewMut::new(self.memory.as_mut_slice(), self.layout)
    }

    /// Its memory, row after row.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut_slice()
    }

    /// Its numbers, of a matrix of float32.
    pub(crate) fn floats(&self) -> impl Iterator<Item = f32> {
        debug_assert_eq!(self.layout.dtype, Dtype::F32);
        let words = self.memory.as_slice().chunks_exact(4);
        words.map(|word| f32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
    }
}
