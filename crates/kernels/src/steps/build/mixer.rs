//! The steps of attention, from the residual stream to what its output projection sees.

use super::{ArrayAttention, Builder, Stream, columns, rows, served};
use crate::block::graph::Block;
use crate::rms_norm::norm::Norm;
use crate::steps::listed::{Made, Step, Unlisted};
use crate::steps::words::{Address, Op, Word};

impl Builder {
    /// Products that make queries, and keys and values where the layer has such.
    pub(super) fn queries<'a>(
        &mut self,
        attention: &ArrayAttention<'a>,
        stream: Stream<'a>,
        norm: &Norm<'a>,
        kept: i32,
    ) -> Made<()> {
        let places = self.places;
        let mut maps = vec![(attention.queries, places.queries)];
        maps.extend(attention.keys.map(|keys| (keys, places.keys)));
        maps.extend(attention.values.map(|values| (values, places.values)));
        self.products(&maps, stream, Some(norm), Some(kept))
    }

    pub(super) fn attend(
        &mut self,
        block: &Block<'_>,
        attention: &ArrayAttention<'_>,
        slides: bool,
        state: usize,
    ) -> Made<()> {
        let places = self.places;
        let dim = self.head_dim(block, attention)?;
        let heads = columns(&block.output.weight)? / dim;
        if let Some(keys) = &attention.keys {
            self.kv_heads.push((state, rows(&keys.weight)? / dim));
        }
        let known = self.kv_heads.iter().find(|(of, _)| *of == state);
        let kv_heads = known.map_or(0, |(_, heads)| *heads);
        served(kv_heads > 0 && heads % kv_heads == 0)?;
        let layer = self.rank(state, false).ok_or(Unlisted::Unserved)?;
        let all = rows(&attention.queries.weight)?;
        served(all == heads * dim * if attention.gated { 2 } else { 1 })?;
        let mut step = Step::new(Op::ATTEND);
        let splits = (self.multiprocessors / kv_heads).max(1);
        let planes = attention.rotation.periods.dim(0);
        served(2 * planes <= dim)?;
        let numbers = [
            (Word::HEADS, heads),
            (Word::KV_HEADS, kv_heads),
            (Word::DIM, dim),
            (Word::QUERIES, places.queries),
            (Word::QUERY_STRIDE, all / heads),
            (Word::KEYS, attention.keys.map_or(-1, |_| places.keys)),
            (
                Word::VALUES,
                attention.values.map_or(places.keys, |_| places.values),
            ),
            (Word::PLANES, planes),
            (Word::LAYER, layer as i32),
            (Word::SLIDES, slides.into()),
            (Word::SPLITS, splits),
            (Word::PARTIAL, places.partial),
            (Word::COUNTERS, places.counters),
            (Word::TO, places.mixed),
        ];
        numbers
            .iter()
            .for_each(|(word, number)| step.set(*word, *number));
        for (word, at, norm) in [
            (Word::QUERY_EPS, Address::QUERY_NORM, &attention.query_norm),
            (Word::KEY_EPS, Address::KEY_NORM, &attention.key_norm),
        ] {
            step.real(word, -1.0);
            norm.as_ref().map_or(Ok(()), |norm| {
                self.arrays.put_norm(&mut step, at, word, norm)
            })?;
        }
        step.real(Word::VALUE_EPS, attention.value_norm.unwrap_or(-1.0));
        step.real(Word::POSITION_SCALE, attention.rotation.scale);
        step.real(Word::SCORE_SCALE, attention.scores.scale);
        step.real(Word::SCORE_CAP, attention.scores.softcap.unwrap_or(0.0));
        self.arrays
            .put(&mut step, Address::PERIODS, attention.rotation.periods)?;
        if let Some(sinks) = &attention.sinks {
            self.arrays.put_floats(&mut step, Address::SINKS, sinks)?;
        }
        self.most.queries_a_key = self.most.queries_a_key.max(heads / kv_heads);
        self.longest = [self.longest[0].max(dim), self.longest[1].max(splits)];
        self.push(step.meet());
        Ok(())
    }

    /// Elements of a head: a power of two that the lanes of a warp can share.
    pub(super) fn head_dim(&self, block: &Block<'_>, attention: &ArrayAttention<'_>) -> Made<i32> {
        let dim = match &attention.query_norm {
            Some(norm) => norm.weight.dim(0),
            None => 2 * attention.rotation.periods.dim(0),
        };
        let width = columns(&block.output.weight)?;
        served(matches!(dim, 16 | 32 | 64 | 128 | 256 | 512) && width % dim == 0)?;
        // A thread has two columns of a head.
        served(dim <= 64 * self.warps)?;
        Ok(dim)
    }
}
