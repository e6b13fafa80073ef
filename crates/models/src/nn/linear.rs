//! A matrix, dense or quantized, with or without a bias.

use kernels::graph::{self, Encoded, Packed, Weight};
use mlx_core::quant::{self, Scheme};
use mlx_core::{Array, DeviceKind, Dtype, device, ops};

use crate::weights::{Loader, Source, Stored};
use crate::{Error, Result};

/// The weights of a linear map from `in` to `out` features.
pub(crate) enum Matrix {
    /// Floats `[out, in]`.
    Dense(Array),
    /// Bfloat16 `[out, in]`, encoded.
    Bf12(Encoded),
    /// Packed words, with scales and, for the affine mode, biases.
    Quantized {
        weight: Array,
        scales: Array,
        biases: Option<Array>,
        scheme: Scheme,
    },
}

impl Matrix {
    pub(crate) fn load(at: &Loader<'_>) -> Result<Self> {
        match Self::as_stored(at)? {
            Self::Dense(weight) if at.may_encode() => {
                let Some(encoded) = graph::encode_bf12(&weight)? else {
                    at.refuse();
                    return Ok(Self::Dense(weight));
                };
                let bytes = weight.nbytes();
                drop(weight);
                at.replaced("weight", bytes, encoded.nbytes());
                Ok(Self::Bf12(encoded))
            }
            stored => Ok(stored),
        }
    }

    /// The same without another form, or a stack of matrices in one array.
    pub(super) fn as_stored(at: &Loader<'_>) -> Result<Self> {
        match at.stored()? {
            Stored::Dense => Ok(Self::Dense(at.floats("weight")?)),
            Stored::Quantized(scheme) => {
                // The scales of mxfp4, mxfp8 and nvfp4 are bytes with a meaning of their own.
                let affine = scheme.mode == quant::Mode::Affine;
                Ok(Self::Quantized {
                    weight: at.raw("weight")?,
                    scales: if affine {
                        at.floats("scales")?
                    } else {
                        at.raw("scales")?
                    },
                    biases: if affine {
                        Some(at.floats("biases")?)
                    } else {
                        None
                    },
                    scheme,
                })
            }
        }
    }

    /// The same with no part in another dtype: for rows, which are cast by themselves.
    pub(super) fn of_rows(at: &Loader<'_>) -> Result<Self> {
        Ok(match at.stored()? {
            Stored::Dense => Self::Dense(at.raw("weight")?),
            Stored::Quantized(scheme) => {
                let affine = scheme.mode == quant::Mode::Affine;
                let biases = affine.then(|| at.raw("biases")).transpose()?;
                Self::Quantized {
                    weight: at.raw("weight")?,
                    scales: at.raw("scales")?,
                    biases,
                    scheme,
                }
            }
        })
    }

    /// `x [.., in]` to `[.., out]`.
    pub(crate) fn apply(&self, x: &Array) -> Result<Array> {
        let [y] = Self::apply_all(x, [self])?;
        Ok(y)
    }

    /// `matrices` as plain ones, made together, if products with as many rows as `x` would unpack each;
    /// else none.
    pub(super) fn unpacked<const N: usize>(
        x: &Array,
        matrices: [Option<&Self>; N],
    ) -> Result<[Option<Self>; N]> {
        let packed = matrices.map(|m| match m.map(Self::as_weight) {
            Some(Weight::Packed(packed)) => Some(packed),
            _ => None,
        });
        let packed: Option<Vec<Packed<'_>>> = packed.into_iter().collect();
        let made = match packed {
            Some(packed) => graph::unpacked(x, &packed)?,
            None => None,
        };
        let mut made = made.into_iter().flatten();
        Ok(std::array::from_fn(|_| made.next().map(Self::Dense)))
    }

    /// `x [.., in]` through each matrix; those of one kind are one operation.
    fn apply_all<const N: usize>(x: &Array, matrices: [&Self; N]) -> Result<[Array; N]> {
        let (mut dense, mut packed, mut bf12) = (Vec::new(), Vec::new(), Vec::new());
        let weights = matrices.map(Self::as_weight);
        for weight in weights {
            match weight {
                Weight::Dense(w) => dense.push(w),
                Weight::Packed(w) => packed.push(w),
                Weight::Bf12(w) => bf12.push(w),
            }
        }
        let mut dense = graph::matmuls(x, &dense)?.into_iter();
        let mut packed = graph::quantized_matmuls(x, &packed)?.into_iter();
        let mut bf12 = graph::bf12_matmuls(x, &bf12)?.into_iter();
        let products = weights.map(|weight| match weight {
            Weight::Dense(_) => dense.next(),
            Weight::Packed(_) => packed.next(),
            Weight::Bf12(_) => bf12.next(),
        });
        Ok(products.map(|y| y.expect("each matrix has a product")))
    }

    /// One matrix of the rows of all of `matrices`; `None` for what cannot be put together.
    pub(super) fn joined(matrices: &[&Self]) -> Result<Option<Self>> {
        let Some((first, others)) = matrices.split_first() else {
            return Ok(None);
        };
        let kind = |array: &Array| (array.dtype(), array.shape()[1..].to_vec());
        let kinds = |m: &Self| m.arrays().into_iter().map(kind).collect::<Vec<_>>();
        let alike = |m: &&Self| m.scheme() == first.scheme() && kinds(m) == kinds(first);
        if first.arrays().is_empty() || !others.iter().all(alike) {
            return Ok(None);
        }
        let arrays = (0..first.arrays().len()).map(|i| {
            let parts: Vec<&Array> = matrices.iter().map(|m| m.arrays()[i]).collect();
            Ok(ops::concatenate(&parts, 0)?)
        });
        Ok(first.with_arrays(arrays.collect::<Result<_>>()?))
    }

    /// Those of one size and kind in one array each, with an axis in front; not of encoded matrices.
    pub(super) fn stacked(matrices: &[Self]) -> Result<Self> {
        let Some(first) = matrices.first() else {
            return Err(Error::Input("a stack of no matrices".to_owned()));
        };
        let arrays = (0..first.arrays().len()).map(|i| {
            let parts: Vec<&Array> = matrices.iter().map(|m| m.arrays()[i]).collect();
            Ok(ops::stack(&parts, 0)?)
        });
        let stacked = first.with_arrays(arrays.collect::<Result<_>>()?);
        stacked.ok_or_else(|| Error::Input("a stack of encoded matrices".to_owned()))
    }

    /// The matrices of a stack `[N, out, in]`, each where it lies.
    pub(super) fn each(&self) -> Result<Vec<Self>> {
        let count = self.arrays().first().map_or(0, |array| array.dim(0));
        let of = |i: i32| {
            let arrays = self.arrays().into_iter().map(|array| {
                let (rows, columns) = (array.dim(1), array.dim(2));
                let one = array.slice(&[i, 0, 0], &[i + 1, rows, columns])?;
                Ok(one.reshape(&[rows, columns])?)
            });
            Ok(self.with_arrays(arrays.collect::<Result<_>>()?))
        };
        let all = (0..count).filter_map(|i| of(i).transpose());
        all.collect()
    }

    /// Rows `x [.., 1, in]` times the matrices of this stack that `indices` names: `[indices.., 1, out]`.
    /// `sorted` says that they ascend.
    pub(super) fn gathered(&self, x: &Array, indices: &Array, sorted: bool) -> Result<Array> {
        match self {
            Self::Dense(stack) => Ok(ops::gather_matmul(x, stack, indices, sorted)?),
            Self::Bf12(_) => Err(Error::Input("a stack of encoded matrices".to_owned())),
            Self::Quantized {
                weight,
                scales,
                biases,
                scheme,
            } => {
                // MLX compiles a kernel there for each kind of such products, which takes minutes.
                if device::current()? == DeviceKind::Cuda {
                    let dtype = Some(x.dtype());
                    let stack = quant::dequantize(weight, scales, biases.as_ref(), scheme, dtype)?;
                    return Ok(ops::gather_matmul(x, &stack, indices, sorted)?);
                }
                let stack = quant::Quantized {
                    weight: weight.clone(),
                    scales: scales.clone(),
                    biases: biases.clone(),
                };
                Ok(quant::gather_quantized_matmul(
                    x, &stack, indices, sorted, scheme,
                )?)
            }
        }
    }

    /// `x [.., in]` to `[.., out]`, both float32: by MLX, for few outputs.
    fn apply_in_float32(&self, x: &Array) -> Result<Array> {
        if let Some(y) = graph::logits(x, self.as_weight())? {
            return Ok(y);
        }
        let wide = |array: &Array| array.cast(Dtype::Float32);
        let x = wide(x)?;
        Ok(match self {
            Self::Dense(weight) => ops::matmul(&x, &wide(weight)?.t()?)?,
            Self::Bf12(_) => wide(&self.apply(&x)?)?,
            Self::Quantized {
                weight,
                scales,
                biases,
                scheme,
            } => {
                let scales = match scales.dtype().is_floating() {
                    true => wide(scales)?,
                    false => scales.clone(),
                };
                let biases = biases.as_ref().map(wide).transpose()?;
                if device::current()? == DeviceKind::Cuda {
                    let dtype = Some(Dtype::Float32);
                    let plain = quant::dequantize(weight, &scales, biases.as_ref(), scheme, dtype)?;
                    return Ok(ops::matmul(&x, &plain.t()?)?);
                }
                quant::quantized_matmul(&x, weight, &scales, biases.as_ref(), true, scheme)?
            }
        })
    }

    /// The rows from `start` to `stop`, which lie where they are; not of an encoded matrix.
    pub(super) fn rows_between(&self, start: i32, stop: i32) -> Result<Option<Self>> {
        let rows = |array: &Array| Ok(array.slice(&[start, 0], &[stop, array.dim(1)])?);
        let arrays = self.arrays().into_iter().map(rows);
        Ok(self.with_arrays(arrays.collect::<Result<_>>()?))
    }

    /// The same with other arrays, as many as [`Matrix::arrays`] has; `None` for an encoded matrix.
    fn with_arrays(&self, arrays: Vec<Array>) -> Option<Self> {
        let mut arrays = arrays.into_iter();
        match self {
            Self::Dense(_) => Some(Self::Dense(arrays.next()?)),
            Self::Bf12(_) => None,
            Self::Quantized { scheme, .. } => Some(Self::Quantized {
                weight: arrays.next()?,
                scales: arrays.next()?,
                biases: arrays.next(),
                scheme: *scheme,
            }),
        }
    }

    fn scheme(&self) -> Option<Scheme> {
        match self {
            Self::Quantized { scheme, .. } => Some(*scheme),
            Self::Dense(_) | Self::Bf12(_) => None,
        }
    }

    /// Rows, which are the features that come out.
    pub(super) fn outputs(&self) -> i32 {
        match self {
            Self::Dense(weight) | Self::Quantized { weight, .. } => weight.dim(0),
            Self::Bf12(encoded) => encoded.rows() as i32,
        }
    }

    /// Columns, which are the features that go in.
    fn inputs(&self) -> i32 {
        match self {
            Self::Dense(weight) => weight.dim(1),
            Self::Quantized { weight, scheme, .. } => weight.dim(1) * 32 / scheme.bits,
            Self::Bf12(encoded) => encoded.cols() as i32,
        }
    }

    /// The rows at `ids [L]`, as floats `[L, in]`, of `dtype` if they were packed.
    pub(crate) fn rows(&self, ids: &Array, dtype: Dtype) -> Result<Array> {
        Ok(match self.as_weight() {
            Weight::Dense(weight) => graph::rows(weight, ids)?,
            Weight::Packed(weight) => graph::dequantized_rows(weight, ids, dtype)?,
            Weight::Bf12(weight) => graph::bf12_rows(weight, ids)?,
        })
    }

    pub(crate) fn as_weight(&self) -> Weight<'_> {
        match self {
            Self::Dense(weight) => Weight::Dense(weight),
            Self::Bf12(weight) => Weight::Bf12(weight),
            Self::Quantized {
                weight,
                scales,
                biases,
                scheme,
            } => Weight::Packed(Packed {
                weight,
                scales,
                biases: biases.as_ref(),
                scheme,
            }),
        }
    }

    /// Whether a GPU that unpacks may make a plain matrix of it for a product with so many rows.
    pub(crate) fn unpacks(&self, rows: i32) -> bool {
        match self {
            Self::Dense(_) => false,
            Self::Bf12(_) => true,
            Self::Quantized { .. } => rows > 1,
        }
    }

    /// What is yet to be computed.
    pub(crate) fn arrays(&self) -> Vec<&Array> {
        match self {
            Self::Dense(weight) => vec![weight],
            Self::Bf12(_) => Vec::new(),
            Self::Quantized {
                weight,
                scales,
                biases,
                ..
            } => [weight, scales].into_iter().chain(biases).collect(),
        }
    }
}

/// `x W^T + b`.
pub(crate) struct Linear {
    matrix: Matrix,
    bias: Option<Array>,
}

impl Linear {
    pub(crate) fn load(source: &Source<'_>, linear: &arch::Linear<String>) -> Result<Self> {
        let bias = |name| source.cast(source.vector(name, 0.0)?);
        Ok(Self {
            matrix: Matrix::load(&source.matrix(&linear.weight))?,
            bias: linear.bias.as_deref().map(bias).transpose()?,
        })
    }

    /// The same with its matrix as the files have it.
    pub(crate) fn as_stored(source: &Source<'_>, linear: &arch::Linear<String>) -> Result<Self> {
        let bias = |name| source.cast(source.vector(name, 0.0)?);
        Ok(Self {
            matrix: Matrix::as_stored(&source.matrix(&linear.weight))?,
            bias: linear.bias.as_deref().map(bias).transpose()?,
        })
    }

    /// `x [.., in]` to `[.., out]`, both float32.
    pub(super) fn forward_in_float32(&self, x: &Array) -> Result<Array> {
        let y = self.matrix.apply_in_float32(x)?;
        match &self.bias {
            Some(bias) => Ok(ops::add(&y, &bias.cast(Dtype::Float32)?)?),
            None => Ok(y),
        }
    }

    /// The matrix as plain float32.
    pub(super) fn plain_in_float32(&self) -> Result<Array> {
        Ok(match &self.matrix {
            Matrix::Dense(weight) => weight.cast(Dtype::Float32)?,
            Matrix::Quantized {
                weight,
                scales,
                biases,
                scheme,
            } => {
                let dtype = Some(Dtype::Float32);
                quant::dequantize(weight, scales, biases.as_ref(), scheme, dtype)?
            }
            Matrix::Bf12(_) => return Err(Error::Input("an encoded matrix".to_owned())),
        })
    }

    /// The matrix there, without a bias.
    pub(crate) fn unbiased(at: Loader<'_>) -> Result<Self> {
        Ok(Self {
            matrix: Matrix::load(&at)?,
            bias: None,
        })
    }

    /// `x [.., in]` to `[.., out]`.
    pub(crate) fn forward(&self, x: &Array) -> Result<Array> {
        let [y] = Self::forward_all(x, [self])?;
        Ok(y)
    }

    /// `x [.., in]` through each of several maps, together.
    pub(super) fn forward_all<const N: usize>(x: &Array, maps: [&Self; N]) -> Result<[Array; N]> {
        let mut products = Matrix::apply_all(x, maps.map(|map| &map.matrix))?;
        for (y, map) in products.iter_mut().zip(maps) {
            if let Some(bias) = &map.bias {
                *y = ops::add(y, bias)?;
            }
        }
        Ok(products)
    }

    /// The same, with its matrix as a plain one, if that has been made.
    pub(super) fn forward_with(&self, x: &Array, plain: Option<&Matrix>) -> Result<Array> {
        let y = plain.unwrap_or(&self.matrix).apply(x)?;
        match &self.bias {
            Some(bias) => Ok(ops::add(&y, bias)?),
            None => Ok(y),
        }
    }

    /// One map of the outputs of all of `maps`; `None` for what cannot be put together.
    pub(super) fn joined(maps: &[&Self]) -> Result<Option<Self>> {
        let matrices: Vec<&Matrix> = maps.iter().map(|map| &map.matrix).collect();
        let biases: Vec<&Array> = maps.iter().filter_map(|map| map.bias.as_ref()).collect();
        if !biases.is_empty() && biases.len() < maps.len() {
            return Ok(None);
        }
        let Some(matrix) = Matrix::joined(&matrices)? else {
            return Ok(None);
        };
        let bias = match biases[..] {
            [] => None,
            _ => Some(ops::concatenate(&biases, 0)?),
        };
        Ok(Some(Self { matrix, bias }))
    }

    /// The outputs from `start` to `stop`, whose weights lie where they are; not of an encoded matrix.
    pub(super) fn outputs_between(&self, start: i32, stop: i32) -> Result<Option<Self>> {
        let Some(matrix) = self.matrix.rows_between(start, stop)? else {
            return Ok(None);
        };
        let bias = self.bias.as_ref().map(|bias| bias.slice(&[start], &[stop]));
        Ok(Some(Self {
            matrix,
            bias: bias.transpose()?,
        }))
    }

    /// What is added.
    pub(super) fn bias(&self) -> Option<&Array> {
        self.bias.as_ref()
    }

    /// The matrix.
    pub(super) fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// Features that come out.
    pub(super) fn outputs(&self) -> i32 {
        self.matrix.outputs()
    }

    /// Features that go in.
    pub(super) fn inputs(&self) -> i32 {
        self.matrix.inputs()
    }

    /// For operations that have a product in them.
    pub(crate) fn as_linear(&self) -> graph::Linear<'_> {
        graph::Linear {
            weight: self.matrix.as_weight(),
            bias: self.bias.as_ref(),
        }
    }

    /// Whether a GPU that unpacks may make a plain matrix of it for a product with so many rows.
    pub(crate) fn unpacks(&self, rows: i32) -> bool {
        self.matrix.unpacks(rows)
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        self.matrix.arrays().into_iter().chain(&self.bias).collect()
    }
}
