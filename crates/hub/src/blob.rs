//! One file's content: fetched in pieces, several at a time, and checked.
//!
//! The pieces go into one file at their places, beside which another tells which are there, so that what was broken
//! off goes on. Only what has the digest that the hub told becomes a blob.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::client::{Client, Failed, Reply, without_query};
use crate::error::at;
use crate::listing::RemoteFile;
use crate::pull::Event;
use crate::{Error, Name, Result};

/// Pieces that are on the way at a time.
const AT_ONCE: usize = 8;

/// A file that is to become a blob.
pub(crate) struct Fetch<'a> {
    pub(crate) client: &'a Client,
    pub(crate) name: &'a Name,
    pub(crate) file: &'a RemoteFile,
    /// Its address at the hub.
    pub(crate) url: String,
    /// Bytes of a piece.
    pub(crate) piece: u64,
    pub(crate) event: &'a (dyn Fn(Event<'_>) + Sync),
}

impl Fetch<'_> {
    /// Makes the blob `to`, unless it is there.
    pub(crate) fn run(&self, to: &Path) -> Result<()> {
        let part = Part::open(to, self.file.size, self.piece)?;
        let there = part.there.len() as u64 * self.piece;
        (self.event)(Event::Fetched(there.min(self.file.size)));
        self.pieces(&part)?;
        part.file.sync_all().map_err(at(&part.path))?;
        self.check(&part)?;
        fs::rename(&part.path, to).map_err(at(to))?;
        part.forget()
    }

    /// Fetches what is not there.
    fn pieces(&self, part: &Part) -> Result<()> {
        let count = self.file.size.div_ceil(self.piece) as usize;
        let missing: Vec<u64> = (0..count as u64)
            .filter(|i| !part.there.contains(i))
            .collect();
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        // Where the hub leads to; it need not be asked for each piece.
        let leads_to = Mutex::new(self.url.clone());
        let first_error = Mutex::new(None);
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let Some(piece) = missing.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                if let Err(error) = self.fetch(part, *piece, &leads_to, &stop) {
                    stop.store(true, Ordering::Relaxed);
                    first_error
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(error);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..missing.len().min(AT_ONCE) {
                scope.spawn(work);
            }
            work();
        });
        match first_error
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
        {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Fetches one piece; what breaks off goes on where it was.
    fn fetch(
        &self,
        part: &Part,
        piece: u64,
        leads_to: &Mutex<String>,
        stop: &AtomicBool,
    ) -> Result<()> {
        let mut left = piece * self.piece..((piece + 1) * self.piece).min(self.file.size);
        while !left.is_empty() && !stop.load(Ordering::Relaxed) {
            // As long as something comes, the connection is good enough.
            self.client.try_again(&self.url, || {
                let before = left.start;
                let result = self.some(part, &mut left, leads_to);
                match result {
                    Err(Failed::Now { .. }) if left.start > before => Ok(()),
                    result => result,
                }
            })?;
        }
        match left.is_empty() {
            true => part.has(piece),
            false => Ok(()),
        }
    }

    /// Fetches the beginning of a range, at best all of it.
    fn some(
        &self,
        part: &Part,
        left: &mut Range<u64>,
        leads_to: &Mutex<String>,
    ) -> std::result::Result<(), Failed> {
        let known = || leads_to.lock().unwrap_or_else(PoisonError::into_inner);
        let url = known().clone();
        let reply = match self.client.ask(self.name, &url, false, Some(left.clone())) {
            // Then the hub is asked again where it leads to.
            Err(failed) if url != self.url => {
                known().clone_from(&self.url);
                return Err(failed);
            }
            reply => reply?,
        };
        known().clone_from(&reply.url);
        self.fits(&reply, left)?;
        let mut buffer = vec![0; 256 << 10];
        let mut body = reply.body.into_reader();
        while !left.is_empty() {
            let most = buffer.len().min((left.end - left.start) as usize);
            match body.read(&mut buffer[..most]) {
                Ok(0) => {
                    return Err(Failed::Now {
                        reason: "the connection ended early".to_owned(),
                        wait: None,
                    });
                }
                Ok(count) => {
                    let write = part.file.write_all_at(&buffer[..count], left.start);
                    write.map_err(at(&part.path)).map_err(Failed::Forever)?;
                    left.start += count as u64;
                    (self.event)(Event::Fetched(count as u64));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Failed::Now {
                        reason: error.to_string(),
                        wait: None,
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether an answer has the bytes that were asked for, of a file of the size that was told.
    fn fits(&self, reply: &Reply, left: &Range<u64>) -> std::result::Result<(), Failed> {
        let length = |name| reply.header(name).and_then(|text| text.parse().ok());
        let size: Option<u64> = match reply.status {
            206 => {
                let range = reply
                    .header("content-range")
                    .and_then(|text| text.strip_prefix("bytes "));
                let (at, size) = range
                    .and_then(|text| text.split_once('/'))
                    .unwrap_or_default();
                if !at.starts_with(&format!("{}-", left.start)) {
                    return Err(Failed::Forever(Error::Protocol {
                        url: without_query(&reply.url).to_owned(),
                        reason: format!("the range {at:?} instead of one from {} on", left.start),
                    }));
                }
                size.parse().ok()
            }
            // The whole file, by one who knows no ranges: its beginning is what was asked for, or of no use.
            _ if left.start == 0 => length("content-length"),
            _ => {
                return Err(Failed::Forever(Error::Protocol {
                    url: without_query(&reply.url).to_owned(),
                    reason: "it knows no ranges, so what was broken off cannot go on".to_owned(),
                }));
            }
        };
        match size {
            Some(size) if size != self.file.size => Err(Failed::Forever(Error::Mismatch {
                file: self.file.path.clone(),
                what: "size",
                found: size.to_string(),
                told: self.file.size.to_string(),
            })),
            _ => Ok(()),
        }
    }

    /// Whether all that came is what the hub told; if not, it goes.
    fn check(&self, part: &Part) -> Result<()> {
        (self.event)(Event::Checking(&self.file.path));
        let mut content = File::open(&part.path).map_err(at(&part.path))?;
        let digest = &self.file.digest;
        let found = digest
            .found(&mut content, self.file.size)
            .map_err(at(&part.path))?;
        if found == digest.name() {
            return Ok(());
        }
        fs::remove_file(&part.path).map_err(at(&part.path))?;
        part.forget()?;
        Err(Error::Mismatch {
            file: self.file.path.clone(),
            what: "digest",
            found,
            told: digest.name().to_owned(),
        })
    }
}

/// What there is of a blob.
struct Part {
    path: PathBuf,
    file: File,
    /// Pieces that were there already.
    there: HashSet<u64>,
    list: PathBuf,
    /// The list of pieces, a line each.
    pieces: Mutex<File>,
}

impl Part {
    /// Of the blob `to`. It is this program's own: others take the length of a half for what is there of it.
    fn open(to: &Path, size: u64, piece: u64) -> Result<Self> {
        let (path, list) = (to.with_extension("ml-part"), to.with_extension("ml-pieces"));
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(at(path))
        };
        let file = open(&path)?;
        let before = file.metadata().map_err(at(&path))?.len();
        let mut pieces = open(&list)?;
        let first = format!("{size} {piece}");
        let mut lines = BufReader::new(pieces.try_clone().map_err(at(&list))?)
            .lines()
            .map_while(io::Result::ok);
        // A list of other pieces tells nothing, nor does one whose file has gone.
        let same = lines.next().is_some_and(|line| line == first) && before == size;
        let there = match same {
            true => lines
                .filter_map(|line| line.parse().ok())
                .filter(|i| *i < size.div_ceil(piece))
                .collect(),
            false => HashSet::new(),
        };
        if !same {
            file.set_len(size).map_err(at(&path))?;
            let begin = pieces.set_len(0).and_then(|()| {
                io::Seek::rewind(&mut pieces)?;
                writeln!(pieces, "{first}")
            });
            begin.map_err(at(&list))?;
        } else {
            // Behind a line that was cut off.
            let end =
                io::Seek::seek(&mut pieces, io::SeekFrom::End(0)).and_then(|_| writeln!(pieces));
            end.map_err(at(&list))?;
        }
        Ok(Self {
            path,
            file,
            there,
            list,
            pieces: Mutex::new(pieces),
        })
    }

    /// A piece is there, and stays there.
    fn has(&self, piece: u64) -> Result<()> {
        self.file.sync_data().map_err(at(&self.path))?;
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pieces, "{piece}").map_err(at(&self.list))
    }

    /// Removes the list.
    fn forget(&self) -> Result<()> {
        fs::remove_file(&self.list).map_err(at(&self.list))
    }
}
