//! Steps as they are made: numbers by name, arrays by their place in a table.

use mlx_core::{Array, Dtype, Result};

use super::words::{Address, Ending, Format, Gate, Op, Word};
use crate::block::graph::{Linear, Weight};
use crate::gated::Activation;
use crate::rms_norm::norm::Norm;
use mlx_core::quant::Mode;

/// Why a model is not made a list.
pub(super) enum Unlisted {
    /// The kernel lacks something of it.
    Unserved,
    Failed(mlx_core::Error),
}

impl From<mlx_core::Error> for Unlisted {
    fn from(error: mlx_core::Error) -> Self {
        Self::Failed(error)
    }
}

pub(super) type Made<T> = std::result::Result<T, Unlisted>;

/// A step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    words: [i32; Word::WORDS as usize],
    arrays: [i32; Address::ADDRESSES as usize],
}

impl Step {
    pub(super) fn new(op: Op) -> Self {
        let mut step = Self {
            words: [0; Word::WORDS as usize],
            arrays: [-1; Address::ADDRESSES as usize],
        };
        step.set(Word::OP, op as i32);
        for none in [Word::ADDEND, Word::SECOND, Word::KEEP] {
            step.set(none, -1);
        }
        step.real(Word::SCALE, 1.0);
        step
    }

    pub(super) fn set(&mut self, word: Word, to: i32) {
        self.words[word as usize] = to;
    }

    pub(super) fn get(&self, word: Word) -> i32 {
        self.words[word as usize]
    }

    pub(super) fn real(&mut self, word: Word, to: f32) {
        self.words[word as usize] = to.to_bits().cast_signed();
    }

    /// All of it, as the kernel reads it.
    pub(super) fn numbers(&self) -> impl Iterator<Item = i32> {
        self.words.into_iter().chain(self.arrays)
    }

    /// The blocks meet behind it.
    pub(super) fn meet(mut self) -> Self {
        self.set(Word::MEET, 1);
        self
    }

    pub(super) fn activate(&mut self, by: Activation) {
        let kind = match by {
            Activation::Silu => Gate::SILU,
            Activation::GeluTanh => Gate::GELU,
            Activation::Clamped { limit, alpha } => {
                self.real(Word::LIMIT, limit);
                self.real(Word::ALPHA, alpha);
                Gate::CLAMPED
            }
        };
        self.set(Word::ACTIVATION, kind as i32);
    }

    pub(super) fn end(&mut self, how: Ending) {
        self.set(Word::ENDING, how as i32);
    }
}

/// Arrays that steps name by their place.
pub(super) struct Arrays {
    pub(super) all: Vec<Array>,
    /// Of norms and biases.
    pub(super) dtype: Dtype,
}

impl Arrays {
    fn place(&mut self, array: &Array) -> Result<i32> {
        // MLX would copy a part of a larger array, dense or not.
        let dense = match array.is_dense()? {
            true => array.clone(),
            false => array.contiguous()?,
        };
        self.all.push(dense);
        Ok(self.all.len() as i32 - 1)
    }

    /// As it is.
    pub(super) fn put(&mut self, step: &mut Step, at: Address, array: &Array) -> Made<()> {
        step.arrays[at as usize] = self.place(array)?;
        Ok(())
    }

    /// Of a norm, or what is added to rows.
    pub(super) fn put_vector(&mut self, step: &mut Step, at: Address, array: &Array) -> Made<()> {
        let array = match array.dtype() == self.dtype {
            true => array.clone(),
            false => array.cast(self.dtype)?,
        };
        self.put(step, at, &array)
    }

    pub(super) fn put_floats(&mut self, step: &mut Step, at: Address, floats: &[f32]) -> Made<()> {
        let array = Array::from_slice(floats, &[floats.len() as i32])?;
        self.put(step, at, &array)
    }

    pub(super) fn put_norm(
        &mut self,
        step: &mut Step,
        at: Address,
        eps: Word,
        norm: &Norm<'_>,
    ) -> Made<()> {
        step.real(eps, norm.eps);
        self.put_vector(step, at, norm.weight)
    }

    /// The matrix, or matrices behind each other, that part `part` of a step has, with its rows.
    pub(super) fn put_linear(
        &mut self,
        step: &mut Step,
        part: usize,
        linear: &Linear<'_>,
    ) -> Made<()> {
        const WEIGHTS: [[Address; 4]; 4] = [
            [
                Address::MATRIX,
                Address::MATRIX_1,
                Address::MATRIX_2,
                Address::MATRIX_3,
            ],
            [
                Address::MATRIX_4,
                Address::MATRIX_5,
                Address::MATRIX_6,
                Address::MATRIX_7,
            ],
            [
                Address::MATRIX_8,
                Address::MATRIX_9,
                Address::MATRIX_10,
                Address::MATRIX_11,
            ],
            [
                Address::MATRIX_12,
                Address::MATRIX_13,
                Address::MATRIX_14,
                Address::MATRIX_15,
            ],
        ];
        const ROWS: [Word; 4] = [Word::ROWS, Word::ROWS_1, Word::ROWS_2, Word::ROWS_3];
        let packing = Packing::of(&linear.weight).ok_or(Unlisted::Unserved)?;
        if part == 0 {
            packing.put(step);
        }
        let [weight, scales, biases, added] = WEIGHTS[part];
        step.set(ROWS[part], packing.rows);
        step.set(Word::PARTS, part as i32 + 1);
        match &linear.weight {
            Weight::Dense(w) => self.put(step, weight, w)?,
            Weight::Packed(p) => {
                self.put(step, weight, p.weight)?;
                self.put(step, scales, p.scales)?;
                p.biases.map_or(Ok(()), |b| self.put(step, biases, b))?;
            }
            Weight::Bf12(_) => return Err(Unlisted::Unserved),
        }
        linear
            .bias
            .map_or(Ok(()), |bias| self.put_vector(step, added, bias))
    }
}

/// How a matrix is stored. Its rows do not matter where two are compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    format: Format,
    group: i32,
    wide_scales: bool,
    pub(super) rows: i32,
    pub(super) columns: i32,
}

impl Packing {
    /// `None` for what the kernel cannot read. Of several matrices behind each other, rows are those of one.
    pub(super) fn of(weight: &Weight<'_>) -> Option<Self> {
        let (format, group, wide_scales, array, each) = match weight {
            Weight::Dense(w) => match w.dtype() {
                Dtype::Float32 => (Format::FLOATS, 1, false, *w, 1),
                Dtype::Bfloat16 => (Format::HALVES, 1, false, *w, 1),
                _ => return None,
            },
            Weight::Packed(p) => {
                let format = match (p.scheme.mode, p.scheme.bits) {
                    (Mode::Affine, 8) => Format::EIGHT_BITS,
                    (Mode::Affine, 4) => Format::FOUR_BITS,
                    (Mode::Mxfp4, 4) => Format::SMALL_FLOATS,
                    _ => return None,
                };
                let wide = match p.scales.dtype() {
                    Dtype::Float32 => true,
                    Dtype::Bfloat16 | Dtype::Uint8 => false,
                    _ => return None,
                };
                (
                    format,
                    p.scheme.group_size,
                    wide,
                    p.weight,
                    32 / p.scheme.bits,
                )
            }
            Weight::Bf12(_) => return None,
        };
        let (rows, columns) = (array.dim(-2), array.dim(-1) * each);
        let packing = Self {
            format,
            group,
            wide_scales,
            rows,
            columns,
        };
        let fits =
            array.ndim() >= 2 && columns % packing.lane_columns() == 0 && columns % group == 0;
        let fits = fits && group.count_ones() == 1;
        fits.then_some(packing)
    }

    /// Columns that a lane has at once.
    pub(super) fn lane_columns(self) -> i32 {
        match self.format {
            Format::FLOATS => 4,
            Format::HALVES => 8,
            Format::EIGHT_BITS => 16,
            Format::FOUR_BITS | Format::SMALL_FLOATS => 32,
        }
    }

    /// Columns up to whole chunks of a warp.
    pub(super) fn whole_columns(self) -> i32 {
        let chunk = 32 * self.lane_columns();
        (self.columns + chunk - 1) / chunk * chunk
    }

    /// Whether one step may have both.
    pub(super) fn is_like(self, other: Self) -> bool {
        let key = |p: Self| (p.format as i32, p.group, p.wide_scales, p.columns);
        key(self) == key(other)
    }

    fn put(self, step: &mut Step) {
        step.set(Word::FORMAT, self.format as i32);
        step.set(Word::GROUP, self.group);
        step.set(Word::WIDE_SCALES, self.wide_scales.into());
        step.set(Word::COLUMNS, self.columns);
        step.set(Word::SUMS_AT, self.whole_columns());
    }
}
