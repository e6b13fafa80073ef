//! How far the host may run ahead of a GPU in a prefill.
//!
//! Building the graph of a prompt takes a fraction of the time of computing it, and what an operation
//! allocates comes back only when it is done. Left alone, the host would have allocated the
//! activations of every layer, and every unpacked matrix, before the first layer is computed. So it
//! submits a few layers at a time and waits for those that are some way behind: the GPU has enough to
//! do, and memory for a few layers is enough. The first layer goes alone, since the GPU waits for it.
//!
//! On CUDA a pass is submitted before it is returned, long or short: its attention reads the caches where
//! they lie, and what overwrites them later has to come behind it.
//!
//! Only CUDA's products unpack matrices, which takes memory for a pass of two tokens as well. On Metal a pass
//! has to be long to need this: MLX itself lets few command buffers run ahead there, and each submission is
//! paid for.

use std::collections::VecDeque;

use kernels::graph;
use mlx_core::{Array, DeviceKind, device};

use crate::Result;

/// Groups of layers that are submitted and not yet waited for.
const AHEAD: usize = 2;

/// What a group may take: each submission costs the host as much as several operations.
const GROUP_BYTES: usize = 256 << 20;

/// Layers of a group at most: while one is built the GPU should have another.
const GROUP_LAYERS: usize = 4;

/// Tokens of a pass from which on its activations are worth it.
const TOKENS: i32 = 64;

/// The layers under way.
pub(crate) struct Pace {
    /// The outputs of their groups; `None` where nobody runs ahead.
    submitted: Option<VecDeque<Array>>,
    /// Layers of a group.
    group: usize,
    /// Layers until the next group is whole.
    left: usize,
    /// Whether a pass must be submitted in any case.
    in_place: bool,
}

impl Pace {
    /// For a pass over so many tokens, of which a layer takes so many bytes, unpacked matrices among them
    /// if the device makes any.
    pub(crate) fn new(tokens: i32, layer_bytes: usize, unpacks: bool) -> Result<Self> {
        let worth_it = unpacks || tokens >= TOKENS;
        let needed = worth_it && device::current()? != DeviceKind::Cpu;
        Ok(Self {
            submitted: needed.then(VecDeque::new),
            group: (GROUP_BYTES / layer_bytes.max(1)).clamp(1, GROUP_LAYERS),
            left: 1,
            in_place: graph::writes_in_place()?,
        })
    }

    /// Called with the output of each layer. True where all layers so far are submitted, so that other passes
    /// may come in between.
    pub(crate) fn submit(&mut self, layer: &Array) -> Result<bool> {
        let Some(submitted) = &mut self.submitted else {
            return Ok(false);
        };
        self.left -= 1;
        if self.left > 0 {
            return Ok(false);
        }
        self.left = self.group;
        mlx_core::async_eval(&[layer])?;
        submitted.push_back(layer.clone());
        if submitted.len() > AHEAD
            && let Some(oldest) = submitted.pop_front()
        {
            oldest.eval()?;
        }
        Ok(true)
    }

    /// Called with the output of the last layer.
    pub(crate) fn finish(&self, last: &Array) -> Result<()> {
        let all_submitted = self.submitted.is_some() && self.left == self.group;
        if self.in_place && !all_submitted {
            mlx_core::async_eval(&[last])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mlx_core::Dtype;
    use mlx_core::device::{self, Choice, stand_in};

    use super::*;

    /// How often a pass over so many tokens through eight layers is submitted on the way.
    fn submissions(tokens: i32, layer_bytes: usize) -> usize {
        let mut pace = Pace::new(tokens, layer_bytes, false).unwrap();
        let x = Array::ones(&[4, 4], Dtype::Float32).unwrap();
        let mut count = 0;
        for _ in 0..8 {
            count += usize::from(pace.submit(&x).unwrap());
        }
        pace.finish(&x).unwrap();
        count
    }

    #[test]
    fn metal_is_paced_in_long_passes_only() {
        stand_in::play(Some(stand_in::Mac {
            memory_bytes: 32 << 30,
            recommended_working_set: 24 << 30,
        }));
        device::open(Choice::Metal).unwrap();
        assert_eq!(submissions(1, 1 << 20), 0);
        assert_eq!(submissions(TOKENS - 1, GROUP_BYTES), 0);
        // The first layer, and then four at a time; large ones each alone.
        assert_eq!(submissions(TOKENS, 1 << 20), 2);
        assert_eq!(submissions(2048, GROUP_BYTES), 8);
        device::open(Choice::Cpu).unwrap();
        assert_eq!(submissions(2048, GROUP_BYTES), 0);
    }
}
