//! A prompt is read once.
//!
//! What prompts made stays in a tree over their tokens, shared by all requests of a model, as long as there is memory
//! that nobody else needs: a request begins behind the longest beginning of its prompt that is there. It takes pages by
//! count, so nothing is copied. Each entry is a sequence that has stopped; where a model forgets (windows, recurrent
//! states) there are some at the ends of chunks too. A request begins only where what it then reads, and with it its
//! text, is the same to the bit as without ([`cuts`]).
//!
//! What was kept can also go to disk, for the next process ([`disk`]).
//!
//! This is of sequences in pages. In buffers, on GPUs and with MLX's own operations, the last sequence serves the next
//! prompt where that asks for it.

mod cuts;
mod disk;
mod tree;

use models::Model;
use models::cache::Cache;
use models::states::SequenceId;

use crate::Result;
pub(crate) use cuts::Cuts;
pub(crate) use disk::{Disk, Loading, PrefixDir};
use tree::Tree;
pub(crate) use tree::alike;

/// The least tokens that are kept: a page has room for 256.
const LEAST: usize = 64;

/// The least tokens for which a request begins elsewhere than at the beginning: fewer are read with the next.
const WORTH: usize = 16;

/// Of a model that forgets, a state is kept each time so many chunks were read.
const EVERY: usize = 4;

/// What prompts made.
pub(crate) struct Prefixes {
    tree: Tree<Entry>,
    /// Bytes that they may take.
    limit: u64,
    rows: Option<usize>,
    /// Whether a sequence can go back only to where something was kept.
    forgets: bool,
    disk: Option<Disk>,
}

/// A sequence that has stopped.
struct Entry {
    cache: Cache,
    id: SequenceId,
    cuts: Cuts,
    /// Of its first tokens, those that anybody may go on from.
    exact: usize,
}

/// Where a request begins.
pub(crate) struct Start {
    /// It holds the first `tokens` tokens of the prompt.
    pub(crate) cache: Cache,
    pub(crate) tokens: usize,
}

/// What is known of a prompt.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) start: Option<Start>,
    /// So many of its tokens were read by others, who may not all have left what it could go on from.
    pub(crate) shared: usize,
}

impl Prefixes {
    /// Nothing yet, of a model that may be given `limit` bytes for it.
    pub(crate) fn new(model: &Model, limit: u64) -> Self {
        let states = model.states();
        Self {
            tree: Tree::default(),
            limit: match states.is_some() && !model.info().bidirectional {
                true => limit,
                false => 0,
            },
            rows: model.rows_apart_in_prompts(),
            forgets: states.is_some_and(|states| states.forgets()),
            disk: None,
        }
    }

    /// Keeps them on disk too.
    pub(crate) fn on_disk(&mut self, disk: Option<Disk>) {
        self.disk = disk;
    }

    pub(crate) fn cuts(&self, chunk: usize) -> Cuts {
        let (chunk, rows) = (chunk.max(1), self.rows);
        Cuts { chunk, rows }
    }

    /// Whether a state is to be kept behind `read` tokens, which are whole chunks, of a prompt that shares so many
    /// with others.
    pub(crate) fn is_due(&self, read: usize, cuts: Cuts, shared: usize) -> bool {
        let branches_here = (read..read + cuts.chunk).contains(&shared);
        self.forgets && (read.is_multiple_of(EVERY * cuts.chunk) || branches_here)
    }

    /// The longest beginning of a prompt that is there.
    pub(crate) fn find(&mut self, model: &Model, prompt: &[u32], cuts: Cuts) -> Result<Known> {
        let Some(states) = model.states() else {
            return Ok(Known::default());
        };
        let (mut shared, mut best, mut at) = (0, WORTH - 1, None);
        for found in self.tree.alike(prompt) {
            shared = shared.max(found.shared);
            if found.shared <= best {
                break;
            }
            let entry = found.what;
            if entry.cuts != cuts {
                continue;
            }
            let mut to = found.shared.min(entry.exact).min(prompt.len() - 1);
            let reached = loop {
                to = cuts.at_most(to, prompt.len());
                match states.reachable(entry.id, to as i32).unsigned_abs() as usize {
                    reached if reached > to => break 0,
                    reached if reached == to => break to,
                    reached => to = reached,
                }
            };
            if reached > best {
                (best, at) = (reached, Some(found.place()));
            }
        }
        drop(states);
        let Some(place) = at else {
            return Ok(Known {
                start: None,
                shared,
            });
        };
        self.tree.touch(place);
        let entry = self.tree.get(place);
        let cache = entry.map(|entry| entry.cache.fork()).transpose()?;
        let start = cache.and_then(|mut cache| {
            let tokens = cache.rewind(best as i32).unsigned_abs() as usize;
            (tokens == best).then_some(Start { cache, tokens })
        });
        Ok(Known { start, shared })
    }

    /// Keeps what was made of `tokens`, which are all that `cache` holds.
    pub(crate) fn keep(
        &mut self,
        model: &Model,
        tokens: &[u32],
        cache: &Cache,
        cuts: Cuts,
        exact: usize,
    ) -> Result<()> {
        if self.limit == 0 || exact < LEAST {
            return Ok(());
        }
        let cache = cache.fork()?;
        let Some(id) = cache.sequence() else {
            return Ok(());
        };
        // What can be made of the new one by going back need not be there twice. It goes when nobody looks at the
        // states any more.
        let _less = {
            let Some(states) = model.states() else {
                return Ok(());
            };
            if states.bytes_of(id) as u64 > self.limit {
                return Ok(());
            }
            self.tree.take_on_the_way(tokens, |entry| {
                let end = entry.cache.offset();
                entry.cuts != cuts || entry.exact > exact || states.reachable(id, end) != end
            })
        };
        let entry = Entry {
            cache,
            id,
            cuts,
            exact,
        };
        self.tree.keep(tokens, entry);
        while self.bytes(model) > self.limit && self.tree.drop_oldest().is_some() {}
        Ok(())
    }

    /// Begins to read from disk what is there of a prompt beyond the `read` tokens that need not be read in any case,
    /// if that is faster than reading them anew.
    pub(crate) fn fetch(
        &mut self,
        model: &Model,
        prompt: &[u32],
        cuts: Cuts,
        read: usize,
    ) -> Option<Loading> {
        self.disk.as_mut()?.find(model, prompt, cuts, read)
    }

    /// What was to be read, once it is there; `Some(None)` where it came to nothing.
    pub(crate) fn fetched(
        &mut self,
        model: &Model,
        loading: &Loading,
    ) -> Result<Option<Option<Cache>>> {
        match &mut self.disk {
            Some(disk) => disk.take(model, loading),
            None => Ok(Some(None)),
        }
    }

    /// Has what `cache` holds of `tokens`, which have run, written to disk; `cost` is what one took to read, in
    /// nanoseconds.
    pub(crate) fn write(
        &mut self,
        tokens: &[u32],
        cache: &Cache,
        cuts: Cuts,
        cost: f64,
    ) -> Result<()> {
        match &mut self.disk {
            Some(disk) => disk.write(tokens, cache, cuts, cost),
            None => Ok(()),
        }
    }

    /// Goes on writing. Whether there is more to be written.
    pub(crate) fn background(&mut self, model: &Model) -> bool {
        let disk = self.disk.as_mut();
        disk.is_some_and(|disk| disk.go_on(model))
    }

    /// Writes what waits to be written, before the model goes.
    pub(crate) fn finish(&mut self, model: &Model) {
        if let Some(disk) = &mut self.disk {
            disk.finish(model);
        }
    }

    /// Bytes of all that is kept.
    fn bytes(&self, model: &Model) -> u64 {
        let states = model.states();
        states.map_or(0, |states| states.bytes_of_all(&self.ids()) as u64)
    }

    /// Bytes that would be free if nothing were kept, neither here nor in `other`.
    pub(crate) fn bytes_alone(&self, model: &Model, other: Option<SequenceId>) -> u64 {
        let waiting = self.disk.iter().flat_map(Disk::waiting);
        let waiting = waiting.filter_map(Cache::sequence);
        let ids: Vec<SequenceId> = self.ids().into_iter().chain(waiting).chain(other).collect();
        let states = model.states();
        states.map_or(0, |states| states.bytes_alone(&ids) as u64)
    }

    fn ids(&self) -> Vec<SequenceId> {
        self.tree.all().map(|entry| entry.id).collect()
    }

    /// Gives up what waits to be written, or what was used longest ago; false if nothing is there.
    pub(crate) fn drop_one(&mut self) -> bool {
        let waiting = self.disk.as_mut().is_some_and(Disk::drop_one);
        waiting || self.tree.drop_oldest().is_some()
    }

    /// Gives up everything that is in memory.
    pub(crate) fn clear(&mut self) {
        while self.drop_one() {}
    }
}
