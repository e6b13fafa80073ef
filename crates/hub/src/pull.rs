//! From a name to a folder with a model.

use std::fs;
use std::path::PathBuf;

use crate::blob::Fetch;
use crate::cache::{Cache, weights_of};
use crate::client::{Client, Failed, without_query};
use crate::digest::Digest;
use crate::error::at;
use crate::listing::{Answer, Listed, Listing, RemoteFile};
use crate::{Error, Name, Result, Settings};

/// Bytes of a list of files, or of an index of weights, at the most.
const MOST_LISTED: u64 = 256 << 20;
const INDEX: &str = "model.safetensors.index.json";

/// What happens while a model is fetched.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// So many files of so many bytes are to be fetched; others are there.
    Begins {
        /// Files to fetch.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// This file comes next.
    File(&'a str),
    /// So many more bytes are there.
    Fetched(u64),
    /// Another process fetches the same.
    Waits(&'a str),
    /// The digest of this file is made.
    Checking(&'a str),
}

/// A hub and a cache.
pub struct Hub {
    client: Client,
    cache: Cache,
    offline: bool,
    piece: u64,
}

impl Hub {
    /// By settings, mostly those of the environment.
    pub fn new(settings: Settings) -> Self {
        Self {
            client: Client::new(&settings),
            cache: Cache::new(&settings.cache),
            offline: settings.offline,
            piece: settings.piece.max(1),
        }
    }

    /// What was fetched before.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What the hub has under a name.
    ///
    /// # Errors
    /// Where it has nothing, or not for this token; where it cannot be reached, or must not be.
    pub fn look_up(&self, name: &Name) -> Result<Listing> {
        if self.offline {
            return Err(Error::Offline(name.to_string()));
        }
        let url = self.client.list_url(name);
        let wrong = |reason: String| Error::Protocol {
            url: without_query(&url).to_owned(),
            reason,
        };
        let answer = self.client.get(name, &url, None, MOST_LISTED)?;
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|error| wrong(error.to_string()))?;
        let (commit, listed, mut left_out) =
            answer.needed().map_err(|error| wrong(error.to_string()))?;
        let mut files = Vec::new();
        for file in listed {
            files.push(self.filled_in(name, &commit, file)?);
        }
        if let Some(index) = files.iter().find(|file| file.path == INDEX) {
            let url = self.client.file_url(name, &commit, &index.path);
            let index = self.client.get(name, &url, None, MOST_LISTED)?;
            if let Some(named) = weights_of(&index) {
                // Beside the parts there may be the whole.
                let is_part = |file: &RemoteFile| {
                    !file.has_weights() || file.path.contains('/') || named.contains(&file.path)
                };
                left_out += files
                    .iter()
                    .filter(|file| !is_part(file))
                    .map(|file| file.size)
                    .sum::<u64>();
                files.retain(is_part);
            }
        }
        if !files.iter().any(RemoteFile::has_weights) {
            return Err(Error::Refused(format!(
                "{} has no *.safetensors; models in other forms cannot be run",
                name.repository()
            )));
        }
        Ok(Listing {
            commit,
            files,
            left_out,
        })
    }

    /// A file with its size and digest, which lists of other hubs leave out.
    fn filled_in(&self, name: &Name, commit: &str, file: Listed) -> Result<RemoteFile> {
        let (size, digest) = match (file.size, file.digest) {
            (Some(size), Some(digest)) => (size, digest),
            _ => {
                let url = self.client.file_url(name, commit, &file.path);
                self.client.try_again(&url, || {
                    let reply = self.client.ask(name, &url, true, None)?;
                    let header = |first: &str, second: &str| {
                        reply
                            .header(first)
                            .or_else(|| reply.header(second))
                            .map(str::to_owned)
                    };
                    let size =
                        header("x-linked-size", "content-length").and_then(|n| n.parse().ok());
                    let etag = header("x-linked-etag", "etag");
                    match (size, etag) {
                        (Some(size), Some(etag)) => Ok((size, Digest::of_etag(&etag)?)),
                        _ => Err(Failed::Forever(Error::Protocol {
                            url: url.clone(),
                            reason: "neither a size nor an ETag".to_owned(),
                        })),
                    }
                })?
            }
        };
        Ok(RemoteFile {
            path: file.path,
            size,
            digest,
        })
    }

    /// Bytes of a revision that are not in the cache.
    pub fn missing_bytes(&self, name: &Name, listing: &Listing) -> u64 {
        let repository = self.cache.repository(name);
        let missing = listing
            .files
            .iter()
            .filter(|file| !repository.has(file.digest.name(), file.size));
        missing.map(|file| file.size).sum()
    }

    /// Fetches what is not there of a model: its folder. What was broken off goes on where it was.
    ///
    /// # Errors
    /// As [`Hub::look_up`]; where what comes is not what was told; and those of the file system.
    pub fn pull(&self, name: &Name, event: &(dyn Fn(Event<'_>) + Sync)) -> Result<PathBuf> {
        if self.offline
            && let Some(dir) = self.cache.find(name)?
        {
            return Ok(dir);
        }
        let listing = self.look_up(name)?;
        let repository = self.cache.repository(name);
        let is_there = |file: &RemoteFile| repository.has(file.digest.name(), file.size);
        let missing = || listing.files.iter().filter(|file| !is_there(file));
        event(Event::Begins {
            files: missing().count(),
            bytes: missing().map(|file| file.size).sum(),
        });
        let blobs = repository.dir.join("blobs");
        fs::create_dir_all(&blobs).map_err(at(&blobs))?;
        for file in &listing.files {
            let digest = file.digest.name();
            if !is_there(file) {
                event(Event::File(&file.path));
                let lock = repository.lock(digest, || event(Event::Waits(&file.path)))?;
                if !is_there(file) {
                    let fetch = Fetch {
                        client: &self.client,
                        name,
                        file,
                        url: self.client.file_url(name, &listing.commit, &file.path),
                        piece: self.piece,
                        event,
                    };
                    fetch.run(&repository.blob(digest))?;
                } else {
                    event(Event::Fetched(file.size));
                }
                drop(lock);
            }
            repository.link(&listing.commit, &file.path, digest)?;
        }
        repository.name(name.revision(), &listing.commit)?;
        Ok(repository.snapshot(&listing.commit))
    }
}
