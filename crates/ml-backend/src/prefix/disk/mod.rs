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
use std::sync::mpsc::{Receiver, TryRecvError};
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
    origin: Origin,
    writer: Writer,
    jobs: VecDeque<Job>,
    /// Bytes a second.
    rate: f64,
}

/// What decides the model's numbers.
enum Origin {
    /// Its files are being read.
    Coming(Receiver<[u8; 32]>),
    Known([u8; 32]),
    /// They could not be.
    Unknown,
}

/// A sequence that is to be written.
struct Job {
    cache: Cache,
    /// Those that it begins with.
    tokens: Vec<u32>,
    cuts: Cuts,
    /// Once the names are known: the folder, and what is not there yet.
    parts: Option<(PathBuf, VecDeque<(Part, Name)>)>,
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
            writer,
            jobs: VecDeque::new(),
            rate: DISK_RATE,
        })
    }

    /// The folder and the names of a prompt's parts; `None` as long as the model's files are being read.
    fn names(&mut self, tokens: &[u32], cuts: Cuts) -> Option<(PathBuf, Chain)> {
        if let Origin::Coming(coming) = &self.origin {
            self.origin = match coming.try_recv() {
                Ok(origin) => Origin::Known(origin),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => Origin::Unknown,
            };
        }
        let Origin::Known(origin) = self.origin else {
            return None;
        };
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
        // What all need is there up to then.
        let is_new =
            |part: &Part| !matches!(part, Part::Keys { kind, .. } if always.contains(kind));
        let fits = |pages: &usize| {
            let tokens = pages * PAGE;
            let mut others = states.needed(*pages).into_iter().filter(is_new);
            cuts.at_most(tokens, prompt.len()) == tokens && others.all(is_there)
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
        tokens: &[u32],
        cache: &mut Cache,
        cuts: Cuts,
        cost: f64,
    ) -> Result<()> {
        let is_off = matches!(self.origin, Origin::Unknown);
        if is_off || tokens.len() < PAGE || self.jobs.len() >= WAITING {
            return Ok(());
        }
        self.jobs.push_back(Job {
            cache: cache.fork()?,
            tokens: tokens.to_vec(),
            cuts,
            parts: None,
            cost,
        });
        Ok(())
    }

    /// What is to be written of a job; `None` as long as its files' names are not known.
    fn parts(&mut self, model: &Model, job: &mut Job) -> Option<(PathBuf, VecDeque<(Part, Name)>)> {
        if let Some(parts) = job.parts.take() {
            return Some(parts);
        }
        let (dir, chain) = self.names(&job.tokens, job.cuts)?;
        let mut parts = match (model.states(), job.cache.sequence()) {
            (Some(states), Some(id)) => states.parts(id, job.tokens.len() as i32),
            _ => Vec::new(),
        };
        // From the first page on: without those before it none is of use.
        parts.sort_by_key(|part| (part.pages(), *part));
        let named = parts
            .into_iter()
            .filter_map(|part| Some((part, chain.name(part)?)));
        let new: VecDeque<_> = named
            .filter(|(_, name)| !name.path(&dir).exists())
            .collect();
        if !new.is_empty() && private_folder(&dir).is_err() {
            return Some((dir, VecDeque::new()));
        }
        Some((dir, new))
    }

    /// Hands the writer what it has room for. Whether there is more.
    pub(crate) fn go_on(&mut self, model: &Model) -> bool {
        while let Some(mut job) = self.jobs.pop_front() {
            let Some((dir, mut parts)) = self.parts(model, &mut job) else {
                let coming = matches!(self.origin, Origin::Coming(_));
                match coming {
                    true => self.jobs.push_front(job),
                    false => self.jobs.clear(),
                }
                return coming;
            };
            let more = self.offer(model, &job, &dir, &mut parts);
            if more == Some(true) {
                job.parts = Some((dir, parts));
                self.jobs.push_front(job);
                return true;
            }
            if more.is_none() {
                self.jobs.clear();
            }
        }
        false
    }

    /// The same of one sequence; `None` if the writer has ended.
    fn offer(
        &self,
        model: &Model,
        job: &Job,
        dir: &Path,
        parts: &mut VecDeque<(Part, Name)>,
    ) -> Option<bool> {
        let (states, id) = (model.states()?, job.cache.sequence()?);
        while let Some((part, name)) = parts.front().copied() {
            let Some(page) = states.still(id, part) else {
                // An operation that has not run writes there.
                return Some(true);
            };
            let task = Task {
                path: name.path(dir),
                header: Header {
                    name,
                    len: states.part_bytes(part) as u64,
                    cost: (job.cost * PAGE as f64) as u64,
                },
                page,
            };
            match self.writer.offer(task) {
                Ok(()) => parts.pop_front(),
                Err(Some(_)) => return Some(true),
                Err(None) => return None,
            };
        }
        Some(false)
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
