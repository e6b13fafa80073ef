//! A prompt is read once.
//!
//! What prompts made stays in a tree over their tokens, shared by all requests of a model, as long as there is memory
//! that nobody else needs: a request begins behind the longest beginning of its prompt that is there. Each entry is the
//! cache of a sequence that has stopped; where a model forgets (windows, recurrent states) there are some at the ends of
//! chunks too. A request begins only where what it then reads, and with it its text, is the same to the bit as without
//! ([`cuts`]).
//!
//! In pages, entries and requests share what they hold by count, and what was kept can also go to disk, for the next
//! process ([`disk`]). In buffers, on GPUs and with MLX's own operations, a request has a copy; an entry is what a
//! sequence left when it ended, or a copy where that can no longer go back to its prompt.

mod cuts;
mod disk;
mod tree;

use models::Model;
use models::cache::Cache;
use models::states::SequenceId;

use crate::Result;
pub(crate) use cuts::Cuts;
pub(crate) use disk::{Disk, Loading, PrefixDir};
pub(crate) use tree::alike;
use tree::{Found, FoundPlace, Tree};

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
    /// Whether sequences share what they hold.
    paged: bool,
    disk: Option<Disk>,
}

/// The cache of a sequence that has stopped.
pub(crate) struct Entry {
    pub(crate) cache: Cache,
    pub(crate) cuts: Cuts,
    /// Of its first tokens, those that anybody may go on from.
    pub(crate) exact: usize,
    /// Of the cache, which does not change: they are added up at each step of an answer.
    bytes: u64,
}

impl Entry {
    pub(crate) fn new(cache: Cache, cuts: Cuts, exact: usize) -> Self {
        let bytes = cache.all_bytes() as u64;
        Self {
            cache,
            cuts,
            exact,
            bytes,
        }
    }

    /// Whether this is all that `other` is of the first `end` tokens, which both have.
    fn has_all_of(&self, other: &Self, end: i32) -> bool {
        let is_as_good = self.cuts == other.cuts && self.exact >= other.exact;
        is_as_good && self.cache.reachable(end) == end
    }

    /// How many tokens of it are left behind going back to `to` or, where that cannot be, to less; each a place
    /// where it may be left.
    fn reached(&self, mut to: usize, place: impl Fn(usize) -> usize) -> usize {
        loop {
            to = place(to);
            match self.cache.reachable(to as i32).unsigned_abs() as usize {
                reached if reached > to => return 0,
                reached if reached == to => return to,
                reached => to = reached,
            }
        }
    }
}

/// Where a request begins.
pub(crate) struct Start {
    /// It holds the first `tokens` tokens of the prompt.
    pub(crate) cache: Cache,
    pub(crate) tokens: usize,
    /// Of these, those that anybody may go on from.
    pub(crate) exact: usize,
}

/// What a request asks for.
pub(crate) struct Asked<'a> {
    pub(crate) prompt: &'a [u32],
    pub(crate) cuts: Cuts,
    /// Whether it goes on from what decoding made as well.
    pub(crate) any: bool,
    /// Bytes that a copy may take.
    pub(crate) room: u64,
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
        Self {
            tree: Tree::default(),
            limit: if model.info().bidirectional { 0 } else { limit },
            rows: model.rows_apart_in_prompts(),
            forgets: model.forgets(),
            paged: model.states().is_some(),
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

    /// Whether a state is to be kept behind `read` tokens of a prompt of `length`, which are whole chunks, if it shares
    /// so many with others.
    pub(crate) fn is_due(&self, read: usize, length: usize, cuts: Cuts, shared: usize) -> bool {
        let here = read..read + cuts.chunk;
        // Pages go back from the prompt's end.
        let is_last = !self.paged && here.contains(&(length - 1));
        self.forgets
            && (read.is_multiple_of(EVERY * cuts.chunk) || here.contains(&shared) || is_last)
    }

    /// Whether what a prompt made is to be kept when all of it has been read, which takes no memory in pages. A buffer
    /// that forgets nothing is kept when the sequence ends, and none that does is of use then.
    pub(crate) fn is_due_behind_prompts(&self) -> bool {
        self.paged
    }

    /// The longest beginning of a prompt that is there.
    pub(crate) fn find(&mut self, asked: &Asked<'_>) -> Result<Known> {
        let Asked { prompt, cuts, .. } = *asked;
        let (mut shared, mut best, mut at) = (0, WORTH - 1, None);
        for found in self.tree.alike(prompt) {
            shared = shared.max(found.shared);
            if found.shared <= best {
                break;
            }
            let entry = found.what;
            let reached = match asked.any {
                true => entry.reached(found.shared.min(prompt.len() - 1), |to| to),
                false if entry.cuts != cuts => continue,
                false => {
                    let to = found.shared.min(entry.exact).min(prompt.len() - 1);
                    entry.reached(to, |to| cuts.at_most(to, prompt.len()))
                }
            };
            if reached > best {
                (best, at) = (reached, Some(found.place()));
            }
        }
        let start = match at {
            Some(place) => self.start(place, best, asked.room)?,
            None => None,
        };
        Ok(Known { start, shared })
    }

    /// A cache of the first `tokens` tokens of what was found at `place`: that itself, where a copy has no room.
    fn start(&mut self, place: FoundPlace, tokens: usize, room: u64) -> Result<Option<Start>> {
        self.tree.touch(place);
        let Some(entry) = self.tree.get_mut(place) else {
            return Ok(None);
        };
        let exact = entry.exact.min(tokens);
        let mut cache = match self.paged || entry.bytes <= room {
            true => entry.cache.fork()?,
            false => match self.tree.remove(place) {
                Some(entry) => entry.cache,
                None => return Ok(None),
            },
        };
        let reached = cache.rewind(tokens as i32).unsigned_abs() as usize;
        Ok((reached == tokens).then_some(Start {
            cache,
            tokens,
            exact,
        }))
    }

    /// Keeps what was made of `tokens`, which are all that `cache` holds; the cache goes on.
    pub(crate) fn keep(
        &mut self,
        model: &Model,
        tokens: &[u32],
        cache: &mut Cache,
        cuts: Cuts,
        exact: usize,
    ) -> Result<()> {
        if exact < LEAST || cache.nbytes() as u64 > self.limit {
            return Ok(());
        }
        let cache = cache.fork()?;
        self.put(model, tokens, Entry::new(cache, cuts, exact));
        Ok(())
    }

    /// Keeps what a sequence in buffers left that has ended; gives it back where it is not to be kept.
    pub(crate) fn take_over(
        &mut self,
        model: &Model,
        tokens: &[u32],
        entry: Entry,
    ) -> Option<Entry> {
        if self.paged || self.forgets || entry.bytes > self.limit {
            return Some(entry);
        }
        self.put(model, tokens, entry);
        None
    }

    fn put(&mut self, model: &Model, tokens: &[u32], entry: Entry) {
        // What can be made of another by going back need not be there twice.
        let alike = self.tree.alike(tokens);
        let end = tokens.len();
        let is_there = |found: &&Found<'_, Entry>| {
            found.shared == end && found.what.has_all_of(&entry, end as i32)
        };
        if let Some(place) = alike.iter().find(is_there).map(Found::place) {
            self.tree.touch(place);
            return;
        }
        let less = self.tree.take_on_the_way(tokens, |other| {
            !entry.has_all_of(other, other.cache.offset())
        });
        drop(less);
        self.tree.keep(tokens, entry);
        while self.bytes(model) > self.limit && self.tree.drop_oldest().is_some() {}
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
        cache: &mut Cache,
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
        match model.states() {
            Some(states) => states.bytes_of_all(&self.ids()) as u64,
            None => self.bytes_of_buffers(),
        }
    }

    /// The same in buffers.
    pub(crate) fn bytes_of_buffers(&self) -> u64 {
        match self.paged {
            true => 0,
            false => self.tree.all().map(|entry| entry.bytes).sum(),
        }
    }

    /// Bytes of pages that would be free if nothing were kept, neither here nor in `other`.
    pub(crate) fn bytes_alone(&self, model: &Model, other: Option<SequenceId>) -> u64 {
        let waiting = self.disk.iter().flat_map(Disk::waiting);
        let waiting = waiting.filter_map(Cache::sequence);
        let ids: Vec<SequenceId> = self.ids().into_iter().chain(waiting).chain(other).collect();
        let states = model.states();
        states.map_or(0, |states| states.bytes_alone(&ids) as u64)
    }

    fn ids(&self) -> Vec<SequenceId> {
        let caches = self.tree.all().map(|entry| &entry.cache);
        caches.filter_map(Cache::sequence).collect()
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
