//! Normalisation and rotation of queries and keys as nodes of MLX's graph.

use mlx_core::{Array, Result, fast, host_op};

use super::entry::{Entered, Entry, Rotation};
use super::{RotationView, cuda};
use crate::Cpu;
use crate::arrays::{are_floats, heads_inside, heads_outside_mut, on_cpu};
use crate::columns::Columns;
use crate::kv::{self, Slot};
use crate::rms_norm::graph::rms_norm;
use crate::rms_norm::norm::{Norm, norm as kernel_norm};

/// Normalizes and rotates queries and keys, and puts keys and values into `slot`, which has room for
/// the L tokens.
///
/// On CUDA that writes the cache where it lies, and what is returned may be views of it: attention over them
/// has to be submitted before the next operation that writes the cache.
pub fn into_cache(entry: &Entry<'_>, by: Rotation<'_>, slot: &mut Slot) -> Result<Entered> {
    match cuda::into_cache(entry, by, slot)? {
        Some(queries) => Entered::of(&queries, slot),
        None => in_parts(entry, by, slot),
    }
}

/// The same by single operations.
pub(crate) fn in_parts(entry: &Entry<'_>, by: Rotation<'_>, slot: &mut Slot) -> Result<Entered> {
    let dim = slot.buffers.heads().dim;
    let by_head = |part: &Columns| -> Result<Array> {
        let [tokens, _] = part.rows();
        part.to_array()?.reshape(&[1, tokens, -1, dim])
    };
    let queries = norm_rope(&by_head(&entry.queries)?, entry.query_norm, by)?;
    let keys = norm_rope(&by_head(&entry.keys)?, entry.key_norm, by)?;
    let values = by_head(&entry.values)?.transpose(&[0, 2, 1, 3])?;
    let (buffers, start) = (&mut slot.buffers, slot.start);
    if let Some(queries) = kv::metal::enter(&queries, &keys, &values, buffers, start)? {
        let [keys, values] = buffers.views(slot.visible)?;
        return Ok(Entered {
            queries,
            keys,
            values,
        });
    }
    slot.buffers.write(&keys, &values, slot.start)?;
    let [keys, values] = slot.buffers.first(slot.visible)?;
    Ok(Entered {
        queries,
        keys,
        values,
    })
}

/// `rotate(norm(x))`: `x` is `[1, L, heads, head_dim]`, the result `[1, heads, L, head_dim]`.
pub(crate) fn norm_rope(x: &Array, norm: Option<Norm<'_>>, by: Rotation<'_>) -> Result<Array> {
    let shape = x.shape();
    let &[1, length, heads, dim] = shape else {
        return mlx(x, norm, by);
    };
    let fits = norm.is_none_or(|norm| norm.fits(x)) && are_floats(&[x]);
    if !fits || by.periods.shape() != [dim / 2] || by.offset < 0 || !on_cpu()? {
        return mlx(x, norm, by);
    }
    let (eps, scale, offset) = (norm.map(|n| n.eps), by.scale, by.offset as usize);
    let mut inputs = vec![x, by.periods];
    inputs.extend(norm.map(|norm| norm.weight));
    let shape = [1, heads, length, dim];
    host_op::single("norm_rope", &inputs, &shape, x.dtype(), move |inputs, y| {
        let norm = match (inputs.get(2), eps) {
            (Some(weight), Some(eps)) => Some(kernel_norm(weight, eps)?),
            _ => None,
        };
        let rope = RotationView {
            periods: inputs[1].elements()?,
            scale,
            offset,
        };
        let x = heads_inside(&inputs[0])?;
        let y = heads_outside_mut(y)?;
        Ok(super::rope(Cpu::shared(), x, norm, rope, y)?)
    })
}

fn mlx(x: &Array, norm: Option<Norm<'_>>, by: Rotation<'_>) -> Result<Array> {
    let x = match norm {
        Some(norm) => rms_norm(x, norm)?,
        None => x.clone(),
    };
    let heads_first = x.transpose(&[0, 2, 1, 3])?;
    fast::rope(
        &heads_first,
        // The first features of a head where it is not rotated whole.
        2 * by.periods.dim(0),
        false,
        None,
        by.scale,
        by.offset,
        Some(by.periods),
    )
}
