//! The steps of a gated delta net, from the residual stream to what its output projection multiplies.

use mlx_core::{Array, Dtype};

use super::{ArrayNet, Builder, Stream, rows, served};
use crate::block::DeltaInputs;
use crate::delta::net::Sizes;
use crate::rms_norm::norm::Norm;
use crate::steps::listed::{Made, Step, Unlisted};
use crate::steps::nets::Nets;
use crate::steps::words::{Address, Input, Op, Word};

/// Columns of a head's state that a block may have: each thread has four, and a row is a warp's at the most.
const OF_TASK: [i32; 6] = [4, 8, 16, 32, 64, 128];

impl Builder {
    /// Products of what comes in, and the net on them.
    pub(super) fn net<'a>(
        &mut self,
        net: &ArrayNet<'a>,
        stream: Stream<'a>,
        norm: &Norm<'a>,
        kept: i32,
        state: usize,
    ) -> Made<()> {
        let places = self.places;
        let maps = match net.inputs {
            DeltaInputs::Apart([qkv, z, b, a]) => vec![
                (qkv, places.queries),
                (z, places.gates),
                (b, places.keys),
                (a, places.values),
            ],
            DeltaInputs::ByKeyHead([qkvz, ba]) => {
                vec![(qkvz, places.queries), (ba, places.keys)]
            }
        };
        let sizes = net.sizes;
        let [values, channels] = [sizes.heads * sizes.value_dim, sizes.channels()];
        let widths: &[usize] = match net.inputs {
            DeltaInputs::Apart(_) => &[channels, values, sizes.heads, sizes.heads],
            DeltaInputs::ByKeyHead(_) => &[channels + values, 2 * sizes.heads],
        };
        for ((map, _), width) in maps.iter().zip(widths) {
            served(rows(&map.weight)? == *width as i32)?;
        }
        self.products(&maps, stream, Some(norm), Some(kept))?;
        let at = self.rank(state, true).ok_or(Unlisted::Unserved)?;
        let nets = Nets {
            count: self.states[1].len(),
            sizes,
        };
        served(self.nets.is_none_or(|other| other == nets))?;
        self.nets = Some(nets);
        let mut step = Step::new(Op::NET);
        self.name(&mut step, net)?;
        step.set(Word::STATE, at as i32 * nets.floats());
        step.set(Word::TAIL, at as i32 * nets.numbers());
        step.set(Word::TO, places.mixed);
        for (address, array) in [
            (Address::FILTER, net.filter),
            (Address::DECAY, net.decay),
            (Address::FORGETTING, net.step),
        ] {
            self.floats(&mut step, address, array)?;
        }
        // As `run_net` lays it out.
        let columns = step.get(Word::OF_TASK);
        let room = 2 * sizes.key_dim as i32 + columns * (1 + 2 * self.warps);
        self.most.shared = self.most.shared.max(room);
        self.push(step.meet());
        Ok(())
    }

    /// The input of a product is what the heads have read, through their norm and gates.
    pub(super) fn reads(&mut self, step: &mut Step, net: &ArrayNet<'_>) -> Made<()> {
        self.name(step, net)?;
        step.set(Word::INPUT, Input::READS as i32);
        step.real(Word::EPS, net.norm.eps);
        served(net.norm.weight.dim(0) == net.sizes.value_dim as i32)?;
        self.floats(step, Address::NORM, net.norm.weight)
    }

    /// Sizes, and where things are.
    fn name(&self, step: &mut Step, net: &ArrayNet<'_>) -> Made<()> {
        let Sizes {
            key_heads,
            heads,
            key_dim,
            value_dim,
            width,
        } = net.sizes;
        let fits = |dim: usize| dim.is_multiple_of(4) && (1..=128).contains(&dim);
        served(fits(key_dim) && fits(value_dim) && width > 1 && key_heads > 0)?;
        served(heads.is_multiple_of(key_heads))?;
        let all = (heads * value_dim) as i32;
        let possible = OF_TASK
            .into_iter()
            .filter(|columns| value_dim as i32 % columns == 0 && columns / 4 <= self.warps * 32);
        // As few columns as there are blocks for.
        let most = possible.clone().max().ok_or(Unlisted::Unserved)?;
        let columns = possible
            .clone()
            .find(|columns| all / columns <= self.multiprocessors)
            .unwrap_or(most);
        let places = self.places;
        let by_key_head = matches!(net.inputs, DeltaInputs::ByKeyHead(_));
        let (gates, forgotten) = match by_key_head {
            true => (places.queries, places.keys),
            false => (places.gates, places.values),
        };
        for (word, number) in [
            (Word::NET_HEADS, heads as i32),
            (Word::KEY_HEADS, key_heads as i32),
            (Word::KEY_DIM, key_dim as i32),
            (Word::VALUE_DIM, value_dim as i32),
            (Word::WIDTH, width as i32),
            (Word::OF_TASK, columns),
            (Word::BY_KEY_HEAD, by_key_head.into()),
            (Word::MIXED, places.queries),
            (Word::READ_GATES, gates),
            (Word::LEARNED, places.keys),
            (Word::FORGOTTEN, forgotten),
        ] {
            step.set(word, number);
        }
        Ok(())
    }

    fn floats(&mut self, step: &mut Step, at: Address, array: &Array) -> Made<()> {
        served(array.dtype() == Dtype::Float32)?;
        self.arrays.put(step, at, array)
    }
}
