//! The steps of what a block does behind attention: an MLP, a mixture, both, and what it adds of an input of its own.

use super::{Addend, ArrayExperts, Builder, Stream, added, rows, served};
use crate::block::graph::{AllExperts, Linear};
use crate::block::{Both, OwnInput};
use crate::mlp::Gated;
use crate::rms_norm::norm::Norm;
use crate::steps::listed::{Made, Packing, Step, Unlisted};
use crate::steps::words::{Address, Ending, Op, Word};

impl Builder {
    pub(super) fn gated<'a>(
        &mut self,
        mlp: &Gated<Linear<'a>>,
        stream: Stream<'a>,
        norm: &Norm<'a>,
        kept: i32,
    ) -> Made<Addend<'a>> {
        let places = self.places;
        self.gate(mlp, stream, norm, Some(kept), places.inner, true)?;
        self.down(mlp, places.inner, places.down)?;
        Ok(added(places.down))
    }

    /// The gates of an MLP, times its other half.
    fn gate<'a>(
        &mut self,
        mlp: &Gated<Linear<'a>>,
        stream: Stream<'a>,
        norm: &Norm<'a>,
        kept: Option<i32>,
        to: i32,
        meet: bool,
    ) -> Made<()> {
        let [gate, up] = [&mlp.gate, &mlp.up].map(|linear| Packing::of(&linear.weight));
        let (Some(gate), Some(up)) = (gate, up) else {
            return Err(Unlisted::Unserved);
        };
        served(gate.is_like(up) && mlp.cut.is_none())?;
        let mut step = Step::new(Op::PRODUCT);
        self.arrays.put_linear(&mut step, 0, &mlp.gate)?;
        self.arrays.put_linear(&mut step, 1, &mlp.up)?;
        self.read(&mut step, stream, Some(norm), kept)?;
        step.end(Ending::GATED);
        step.activate(mlp.activation);
        step.set(Word::TO, to);
        self.push(if meet { step.meet() } else { step });
        Ok(())
    }

    /// The last product of an MLP. The blocks meet behind it.
    fn down(&mut self, mlp: &Gated<Linear<'_>>, from: i32, to: i32) -> Made<()> {
        let mut step = Step::new(Op::PRODUCT);
        self.arrays.put_linear(&mut step, 0, &mlp.down)?;
        self.copy(&mut step, from);
        step.set(Word::TO, to);
        self.push(step.meet());
        Ok(())
    }

    pub(super) fn mixture<'a>(
        &mut self,
        experts: &ArrayExperts<'a>,
        stream: Stream<'a>,
        norm: &Norm<'a>,
        kept: i32,
    ) -> Made<Addend<'a>> {
        served(experts.router_norm.is_none())?;
        let places = self.places;
        let gate_at = places.router + rows(&experts.router.weight)?;
        if let Some(shared) = &experts.shared {
            self.gate(&shared.mlp, stream, norm, None, places.inner, false)?;
        }
        let mut maps = vec![(experts.router, places.router)];
        maps.extend(experts.shared.as_ref().map(|shared| (shared.gate, gate_at)));
        self.products(&maps, stream, Some(norm), Some(kept))?;
        let there = Stream {
            at: kept,
            addend: Addend::default(),
        };
        self.experts(experts, there, norm, places.down, experts.shared.is_none())?;
        if let Some(shared) = &experts.shared {
            // A warp has the same rows in both steps.
            let mut step = Step::new(Op::PRODUCT);
            self.arrays.put_linear(&mut step, 0, &shared.mlp.down)?;
            self.copy(&mut step, places.inner);
            step.end(Ending::ADD_SHARED);
            step.set(Word::OWN, gate_at);
            step.set(Word::TO, places.down);
            self.push(step.meet());
        }
        Ok(added(places.down))
    }

    /// The experts that the router's logits name.
    fn experts<'a>(
        &mut self,
        experts: &ArrayExperts<'a>,
        stream: Stream<'a>,
        norm: &Norm<'a>,
        to: i32,
        meet: bool,
    ) -> Made<()> {
        let places = self.places;
        let each = experts.each.stacked.as_ref().ok_or(Unlisted::Unserved)?;
        let [gate, up] = [&each.gate, &each.up].map(|linear| Packing::of(&linear.weight));
        let (Some(gate), Some(up)) = (gate, up) else {
            return Err(Unlisted::Unserved);
        };
        let (count, top) = (rows(&experts.router.weight)?, experts.top as i32);
        served(gate.is_like(up) && each.cut.is_none() && (1..=count.min(32)).contains(&top))?;
        let mut inner = Step::new(Op::EXPERTS_UP);
        self.arrays.put_linear(&mut inner, 0, &each.gate)?;
        self.arrays.put_linear(&mut inner, 1, &each.up)?;
        self.read(&mut inner, stream, Some(norm), None)?;
        inner.activate(each.activation);
        inner.set(Word::TO, places.shared);
        let mut outer = Step::new(Op::EXPERTS_DOWN);
        self.arrays.put_linear(&mut outer, 0, &each.down)?;
        outer.set(Word::TO, to);
        for step in [&mut inner, &mut outer] {
            step.set(Word::TOP, top);
            step.set(Word::EXPERTS, count);
            step.set(Word::RENORMALISED, experts.renormalised.into());
            step.set(Word::ROUTER_LOGITS, places.router);
            step.real(Word::ROUTER_SCALE, experts.router_scale);
            if experts.each.factors.len() == count as usize {
                self.arrays
                    .put_floats(step, Address::FACTORS, experts.each.factors)?;
            }
        }
        self.copy_several(&mut outer, places.shared, top);
        self.push(inner.meet());
        self.push(if meet { outer.meet() } else { outer });
        Ok(())
    }

    pub(super) fn both<'a>(
        &mut self,
        both: &Both<Linear<'a>, Norm<'a>, AllExperts<'a>>,
        stream: Stream<'a>,
        norm: &Norm<'a>,
        kept: i32,
    ) -> Made<Addend<'a>> {
        let places = self.places;
        served(both.experts.shared.is_none())?;
        self.gate(&both.gated, stream, norm, None, places.inner, false)?;
        let router_norm = both.experts.router_norm.as_ref().unwrap_or(norm);
        let maps = [(both.experts.router, places.router)];
        self.products(&maps, stream, Some(router_norm), Some(kept))?;
        let there = Stream {
            at: kept,
            addend: Addend::default(),
        };
        self.down(&both.gated, places.inner, places.second)?;
        self.experts(
            &both.experts,
            there,
            &both.experts_before,
            places.down,
            true,
        )?;
        Ok(Addend {
            at: Some(places.second),
            norm: Some(both.after),
            second: Some((places.down, both.experts_after)),
            ..Addend::default()
        })
    }

    /// What a layer adds of its own input.
    pub(super) fn own_input<'a>(
        &mut self,
        own: &OwnInput<Linear<'a>, Norm<'a>>,
        stream: Stream<'a>,
    ) -> Made<Stream<'a>> {
        let places = self.places;
        let kept = self.other(stream.at);
        let mut gate = Step::new(Op::PRODUCT);
        self.arrays.put_linear(&mut gate, 0, &own.gate)?;
        self.read(&mut gate, stream, None, Some(kept))?;
        gate.end(Ending::TIMES_OWN);
        gate.activate(own.activation);
        gate.set(Word::OWN, places.own + own.column as i32);
        gate.set(Word::TO, places.own_inner);
        self.push(gate.meet());
        let mut projection = Step::new(Op::PRODUCT);
        self.arrays
            .put_linear(&mut projection, 0, &own.projection)?;
        self.copy(&mut projection, places.own_inner);
        projection.set(Word::TO, places.out);
        self.push(projection.meet());
        Ok(Stream {
            at: kept,
            addend: Addend {
                at: Some(places.out),
                norm: Some(own.norm),
                ..Addend::default()
            },
        })
    }
}
