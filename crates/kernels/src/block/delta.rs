//! A gated delta net in a block, from the residual stream to what its output projection sees.

use super::mixer::{DeltaInputs, DeltaNet};
use crate::delta::net::{EnteredView, NetView, Sequence, delta_net};
use crate::error::ensure;
use crate::linear::{Intermediate, LinearView, products};
use crate::rms_norm::NormView;
use crate::vector::copy;
use crate::{Cpu, Result, View, ViewMut};

impl DeltaNet<LinearView<'_>, NormView<'_>, &[f32]> {
    /// The normalized rows `h` `[L, hidden]` of the `sequences` through the net; of the result the last R,
    /// `y` `[R, Hv · Dv]`.
    pub(super) fn run(
        &self,
        cpu: &Cpu,
        h: View<'_>,
        sequences: Vec<Sequence<'_>>,
        y: ViewMut<'_>,
    ) -> Result<()> {
        let (length, dtype) = (h.layout().rows, h.layout().dtype);
        let rows = y.layout().rows;
        ensure!(super::OP, rows <= length, "{rows} rows of {length}");
        let room = |w: &LinearView<'_>| Intermediate::take(dtype, length, w.weight.rows());
        let net = |by_key_head| NetView {
            sizes: self.sizes,
            by_key_head,
            filter: self.filter,
            decay: self.decay,
            step: self.step,
            norm: self.norm,
        };
        let mut all = match rows < length {
            true => Some(Intermediate::take(dtype, length, y.layout().cols)),
            false => None,
        };
        let mut y = y;
        let to = match &mut all {
            Some(all) => all.view_mut()?,
            None => y.reborrow(),
        };
        match &self.inputs {
            DeltaInputs::Apart(maps) => {
                let [mut mixed, mut z, mut b, mut a] = maps.each_ref().map(room);
                let parts = [&mut mixed, &mut z, &mut b, &mut a];
                let parts = maps.iter().zip(parts);
                let parts = parts.map(|(w, y)| Ok((w, y.view_mut()?)));
                products(cpu, h, parts.collect::<Result<_>>()?)?;
                let entered = EnteredView {
                    mixed: mixed.view()?,
                    z: z.view()?,
                    b: b.view()?,
                    a: a.view()?,
                };
                delta_net(cpu, &entered, &net(false), sequences, to)?;
            }
            DeltaInputs::ByKeyHead(maps) => {
                let [mut qkvz, mut ba] = maps.each_ref().map(room);
                let [of_qkvz, of_ba] = maps;
                let parts = vec![(of_qkvz, qkvz.view_mut()?), (of_ba, ba.view_mut()?)];
                products(cpu, h, parts)?;
                let entered = EnteredView {
                    mixed: qkvz.view()?,
                    z: qkvz.view()?,
                    b: ba.view()?,
                    a: ba.view()?,
                };
                delta_net(cpu, &entered, &net(true), sequences, to)?;
            }
        }
        match &all {
            Some(all) => copy(cpu, all.view()?.slice_rows(length - rows..length)?, y),
            None => Ok(()),
        }
    }
}
