//! What prompts made, on disk, for the next process.
//!
//! Each whole page of a prompt is a file by itself, named by a digest of all that decides what is in it ([`key`],
//! [`origin`]): prompts that begin alike share files, nothing is written twice, and what a program, a processor or a
//! model made that is not this one is never found. Files are written by a thread while others decode, from pages that
//! nobody writes any more, and read by another one straight into new pages; a request waits for that, nobody else. A
//! sequence can begin behind any whole page whose parts are all there.
//!
//! It begins there only if that is faster than reading the tokens: files say what it took to read them.

mod file;
mod key;
mod loader;
mod origin;
mod writer;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use models::Model;
use models::cache::Cache;
use models::states::{PAGE, Part, States};

use super::Cuts;
use crate::Result;
use file::Header;
use key::{Chain, Name, hex};
pub(crate) use loader::Loading;
use loader::{Progress, Wanted};
use writer::{DIGESTS, Setup, Task, Writer};

/// Bytes a second that a disk is believed to give until it was measured.
const DISK_RATE: f64 = 1e9;

/// How long a model that goes waits until what is to be written is written.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Sequences that wait to be written; more are not.
const WAITING: usize = 8;

/// Where prompts are kept, and how much of them.
#[derive(Clone, Debug)]
pub(crate) struct PrefixDir {
    pub(crate) dir: PathBuf,
    /// Bytes.
    pub(crate) most: u64,
}

/// The tier of a model.
pub(crate) struct Disk {
    root: PathBuf,
    origin: Receiver<[u8; 32]>,
    known: Option<[u8; 32]>,
    writer: Writer,
    jobs: VecDeque<Job>,
    /// Bytes a second.
    rate: f64,
}

/// A sequence that is being written.
struct Job {
    cache: Cache,
    dir: PathBuf,
    parts: VecDeque<(Part, Name)>,
    /// Nanoseconds that it took to read a token.
    cost: f64,
}

impl Disk {
    /// Opens the tier of the model in `model`; `how` is all that decides its numbers beside its files and this program.
    ///
    /// # Errors
    /// When the folder cannot be made or there is no thread.
    pub(crate) fn open(to: &PrefixDir, model: &Path, how: String) -> std::io::Result<Self> {
        private_folder(&to.dir.join(DIGESTS))?;
        let (writer, origin) = Writer::start(Setup {
            root: to.dir.clone(),
            most: to.most,
            model: model.to_owned(),
            how,
        })?;
        Ok(Self {
            root: to.dir.clone(),
            origin,
            known: None,
            writer,
            jobs: VecDeque::new(),
            rate: DISK_RATE,
        })
    }

    /// The folder and the names of a prompt's parts; `None` as long as the model's files are being read.
    fn names(&mut self, tokens: &[u32], cuts: Cuts) -> Option<(PathBuf, Chain)> {
        if self.known.is_none() {
            self.known = self.origin.try_recv().ok();
        }
        let origin = self.known?;
        let dir = self.root.join(hex(&origin[..16]));
        // How prompts are cut decides some of their bits.
        let mut with_cuts = origin;
        let cuts = (cuts.chunk as u64).to_le_bytes();
        with_cuts
            .iter_mut()
            .zip(cuts)
            .for_each(|(byte, cut)| *byte ^= cut);
        Some((dir, Chain::new(&with_cuts, tokens)))
    }

    /// Begins to read the longest beginning of a prompt that is there, if that is longer than the `read` tokens that
    /// need not be read in any case, and faster than reading the tokens between.
    pub(crate) fn find(
        &mut self,
        model: &Model,
        prompt: &[u32],
        cuts: Cuts,
        read: usize,
    ) -> Option<Loading> {
        let most = (prompt.len() - 1) / PAGE;
        if most * PAGE <= read {
            return None;
        }
        let (dir, chain) = self.names(&prompt[..most * PAGE], cuts)?;
        let states = model.states()?;
        let is_there = |part: Part| {
            chain
                .name(part)
                .is_some_and(|name| name.path(&dir).exists())
        };
        // Pages that all sequences need come first.
        let always = states.needed(1).into_iter().filter_map(|part| match part {
            Part::Keys { kind, .. } => Some(kind),
            Part::Recurrent { .. } => None,
        });
        let always: Vec<usize> = always
            .filter(|kind| {
                states.needed(most).contains(&Part::Keys {
                    kind: *kind,
                    page: 0,
                })
            })
            .collect();
        let whole = |page: &usize| {
            always
                .iter()
                .all(|&kind| is_there(Part::Keys { kind, page: *page }))
        };
        let most = (0..most).take_while(whole).count();
        let fits = |pages: &usize| {
            let tokens = pages * PAGE;
            cuts.at_most(tokens, prompt.len()) == tokens
                && states.needed(*pages).into_iter().all(is_there)
        };
        let pages = (1..=most)
            .rev()
            .take_while(|pages| pages * PAGE > read)
            .find(fits)?;
        let parts = states.needed(pages);
        if !self.pays(&states, &chain, &dir, &parts, (read, pages)) {
            return None;
        }
        let wanted = parts.into_iter().map(|part| {
            let name = chain.name(part)?;
            let (path, room) = (name.path(&dir), states.room(part).ok()?);
            Some(Wanted {
                part,
                name,
                path,
                room,
            })
        });
        let wanted: Option<Vec<Wanted>> = wanted.collect();
        Loading::start(wanted?, pages).ok()
    }

    /// Whether reading these parts is faster than reading the tokens from `read` on up to the end of `pages`.
    fn pays(
        &self,
        states: &States,
        chain: &Chain,
        dir: &Path,
        parts: &[Part],
        (read, pages): (usize, usize),
    ) -> bool {
        let bytes: usize = parts.iter().map(|part| states.part_bytes(*part)).sum();
        // One file of each page says what it cost.
        let mut costs = vec![0; pages];
        for part in parts {
            let place = part.pages() - 1;
            if costs[place] > 0 {
                continue;
            }
            let Some(name) = chain.name(*part) else {
                return false;
            };
            match file::read_header(&name.path(dir), name, states.part_bytes(*part)) {
                Ok(header) => costs[place] = header.cost,
                // Reading it says what is wrong with it.
                Err(_) => continue,
            }
        }
        let known: Vec<u64> = costs.iter().copied().filter(|cost| *cost > 0).collect();
        let mean = known.iter().sum::<u64>() as f64 / known.len().max(1) as f64;
        let anew = mean * 1e-9 * (pages * PAGE - read) as f64 / PAGE as f64;
        known.is_empty() || bytes as f64 / self.rate < anew
    }

    /// The sequence that was being read, once it is there; `Some(None)` where it came to nothing.
    pub(crate) fn take(
        &mut self,
        model: &Model,
        loading: &Loading,
    ) -> Result<Option<Option<Cache>>> {
        let loaded = match loading.look() {
            Progress::Coming => return Ok(None),
            Progress::Failed => return Ok(Some(None)),
            Progress::There(loaded) => loaded,
        };
        let rate = loaded.bytes as f64 / loaded.time.as_secs_f64().max(1e-6);
        // One that was busy once is not slow for ever.
        self.rate = (self.rate + rate) / 2.0;
        tracing::debug!(
            tokens = loading.pages * PAGE,
            megabytes = loaded.bytes >> 20,
            seconds = loaded.time.as_secs_f64(),
            "a prompt came from disk"
        );
        Ok(Some(Some(model.assembled(loading.pages, loaded.parts)?)))
    }

    /// Writes what `cache` holds of `tokens`, its first ones, in whole pages; `cost` is what a token took to read, in
    /// nanoseconds. Its pages are written by [`Disk::go_on`].
    pub(crate) fn write(
        &mut self,
        model: &Model,
        tokens: &[u32],
        cache: &Cache,
        cuts: Cuts,
        cost: f64,
    ) -> Result<()> {
        if tokens.len() < PAGE || self.jobs.len() >= WAITING {
            return Ok(());
        }
        let Some((dir, chain)) = self.names(tokens, cuts) else {
            return Ok(());
        };
        let parts = match (model.states(), cache.sequence()) {
            (Some(states), Some(id)) => states.parts(id, tokens.len() as i32),
            _ => return Ok(()),
        };
        let named = parts
            .into_iter()
            .filter_map(|part| Some((part, chain.name(part)?)));
        let new = named.filter(|(_, name)| !name.path(&dir).exists());
        let mut parts: Vec<(Part, Name)> = new.collect();
        if parts.is_empty() || private_folder(&dir).is_err() {
            return Ok(());
        }
        // From the first page on: without those before it none is of use.
        parts.sort_by_key(|(part, _)| (part.pages(), *part));
        self.jobs.push_back(Job {
            cache: cache.fork()?,
            dir,
            parts: parts.into(),
            cost,
        });
        Ok(())
    }

    /// Hands the writer what it has room for. Whether there is more.
    pub(crate) fn go_on(&mut self, model: &Model) -> bool {
        while let Some(job) = self.jobs.front_mut() {
            let Some((part, name)) = job.parts.front().copied() else {
                self.jobs.pop_front();
                continue;
            };
            let (Some(states), Some(id)) = (model.states(), job.cache.sequence()) else {
                self.jobs.clear();
                return false;
            };
            let Some(page) = states.still(id, part) else {
                // An operation that failed, or one that has not run.
                return true;
            };
            let task = Task {
                path: name.path(&job.dir),
                header: Header {
                    name,
                    len: states.part_bytes(part) as u64,
                    cost: (job.cost * PAGE as f64) as u64,
                },
                page,
            };
            drop(states);
            match self.writer.offer(task) {
                Ok(()) => {
                    job.parts.pop_front();
                }
                Err(Some(_)) => return true,
                Err(None) => {
                    self.jobs.clear();
                    return false;
                }
            }
        }
        false
    }

    /// The sequences that wait to be written.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Cache> {
        self.jobs.iter().map(|job| &job.cache)
    }

    /// Gives up the one that came last.
    pub(crate) fn drop_one(&mut self) -> bool {
        self.jobs.pop_back().is_some()
    }

    /// Writes what waits, for some seconds at the most.
    pub(crate) fn finish(&mut self, model: &Model) {
        let end = Instant::now() + LAST_WORDS;
        while self.go_on(model) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A folder that only its owner can look into: what is in it says what was written to a model.
fn private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    builder.create(path)
}
