//! Linear maps of one input.

use kernels::graph::{self, Columns};
use mlx_core::{Array, DeviceKind, device};

use super::Linear;
use super::linear::Matrix;
use crate::Result;

/// Several linear maps of one input.
///
/// On CUDA they are one matrix, where they can be: one product has a third of the launches and fills the
/// GPU better, and one unpacking makes the matrix.
pub(crate) struct Projections<const N: usize> {
    maps: [Linear; N],
    /// The outputs of `maps` are outputs of it.
    joined: Option<Linear>,
}

impl<const N: usize> Projections<N> {
    pub(crate) fn new(maps: [Linear; N]) -> Result<Self> {
        let joined = match device::current()? {
            DeviceKind::Cuda => Linear::joined(&maps.each_ref())?,
            _ => None,
        };
        let Some(joined) = joined else {
            return Ok(Self { maps, joined: None });
        };
        let mut start = 0;
        let mut parts = Vec::with_capacity(N);
        for map in &maps {
            let stop = start + map.outputs();
            parts.extend(joined.outputs_between(start, stop)?);
            start = stop;
        }
        let joined = Some(joined);
        Ok(match parts.try_into() {
            Ok(maps) => Self { maps, joined },
            Err(_) => Self { maps, joined: None },
        })
    }

    /// The one matrix.
    pub(super) fn joined(&self) -> Option<&Matrix> {
        self.joined.as_ref().map(Linear::matrix)
    }

    /// Each of them.
    pub(super) fn maps(&self) -> &[Linear; N] {
        &self.maps
    }

    /// `x [.., in]` through each map: `[.., out]`. `plain` is the one matrix, if it has been unpacked.
    pub(super) fn forward(&self, x: &Array, plain: Option<&Matrix>) -> Result<[Columns; N]> {
        let Some(joined) = &self.joined else {
            let products = Linear::forward_all(x, self.maps.each_ref())?;
            return Ok(products.map(Columns::all));
        };
        let y = joined.forward_with(x, plain)?;
        let mut start = 0;
        Ok(self.maps.each_ref().map(|map| {
            let columns = Columns::of(&y, start, map.outputs());
            start += map.outputs();
            columns
        }))
    }

    /// For operations that have the products in them.
    pub(crate) fn as_linears(&self) -> [graph::Linear<'_>; N] {
        self.maps.each_ref().map(Linear::as_linear)
    }

    pub(crate) fn arrays(&self) -> Vec<&Array> {
        let joined = self.joined.iter().flat_map(Linear::arrays);
        joined
            .chain(self.maps.iter().flat_map(Linear::arrays))
            .collect()
    }
}
