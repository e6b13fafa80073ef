//! The cache on disk, as `huggingface_hub` lays it out:
//!
//! ```text
//! models--OWNER--MODEL/blobs/DIGEST
//!                      refs/REVISION            a commit
//!                      snapshots/COMMIT/FILE    a link to a blob
//! .locks/models--OWNER--MODEL/DIGEST.lock
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::at;
use crate::{Name, Result};

/// A folder of models.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// A model in the cache.
#[derive(Clone, Debug)]
pub struct Cached {
    /// Its repository, with a revision unless that is `main`.
    pub name: Name,
    /// The commit.
    pub commit: String,
    /// Its folder, which can be opened as a model.
    pub path: PathBuf,
    /// Bytes of its files.
    pub bytes: u64,
    /// Whether all of its weights are there.
    pub whole: bool,
}

impl Cache {
    /// The cache in a folder, which need not exist.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a model that is there with all of its weights.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn find(&self, name: &Name) -> Result<Option<PathBuf>> {
        let repository = self.repository(name);
        let Some(commit) = repository.commit(name.revision())? else {
            return Ok(None);
        };
        let dir = repository.snapshot(&commit);
        Ok(is_whole(&dir).then_some(dir))
    }

    /// All models, by name.
    ///
    /// # Errors
    /// When the cache cannot be read.
    pub fn list(&self) -> Result<Vec<Cached>> {
        let mut all = Vec::new();
        for folder in entries(&self.root)? {
            let Some(name) = folder
                .file_name()
                .and_then(|f| Name::of_folder(f.to_str()?))
            else {
                continue;
            };
            let repository = self.repository(&name);
            let refs = repository.refs()?;
            for path in entries(&repository.dir.join("snapshots"))? {
                let Some(commit) = path.file_name().and_then(|f| f.to_str()) else {
                    continue;
                };
                let mut names = refs
                    .iter()
                    .filter(|(_, c)| c == commit)
                    .map(|(r, _)| r.as_str())
                    .peekable();
                let called: Vec<&str> = match names.peek() {
                    Some(_) => names.collect(),
                    None => vec![commit],
                };
                for revision in called {
                    let text = match revision {
                        "main" => name.repository(),
                        other => format!("{}@{other}", name.repository()),
                    };
                    let Ok(name) = text.parse() else { continue };
                    all.push(Cached {
                        name,
                        commit: commit.to_owned(),
                        bytes: files(&path)?
                            .iter()
                            .filter_map(|f| fs::metadata(f).ok())
                            .map(|m| m.len())
                            .sum(),
                        whole: is_whole(&path),
                        path: path.clone(),
                    });
                }
            }
        }
        all.sort_by(|a, b| (&a.name, &a.commit).cmp(&(&b.name, &b.commit)));
        Ok(all)
    }

    /// Bytes that are free where the cache is.
    pub fn free_bytes(&self) -> Option<u64> {
        let there = self.root.ancestors().find(|folder| folder.is_dir())?;
        let disk = rustix::fs::statvfs(there).ok()?;
        Some(disk.f_bavail * disk.f_frsize)
    }

    pub(crate) fn repository(&self, name: &Name) -> Repository {
        Repository {
            dir: self.root.join(name.folder()),
            locks: self.root.join(".locks").join(name.folder()),
        }
    }
}

/// A repository in the cache.
pub(crate) struct Repository {
    pub(crate) dir: PathBuf,
    pub(crate) locks: PathBuf,
}

impl Repository {
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs").join(digest)
    }

    /// Whether a blob is there with all of its bytes.
    pub(crate) fn has(&self, digest: &str, size: u64) -> bool {
        fs::metadata(self.blob(digest)).is_ok_and(|blob| blob.len() == size)
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.dir.join("snapshots").join(commit)
    }

    pub(crate) fn reference(&self, revision: &str) -> PathBuf {
        self.dir.join("refs").join(revision)
    }

    /// The commit that a revision names: by a ref, or itself.
    pub(crate) fn commit(&self, revision: &str) -> Result<Option<String>> {
        let path = self.reference(revision);
        match fs::read_to_string(&path) {
            Ok(commit) if is_commit(commit.trim()) => Ok(Some(commit.trim().to_owned())),
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => {
                let is = is_commit(revision) && self.snapshot(revision).is_dir();
                Ok(is.then(|| revision.to_owned()))
            }
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// All refs: revisions and commits.
    pub(crate) fn refs(&self) -> Result<Vec<(String, String)>> {
        let folder = self.dir.join("refs");
        let mut refs = Vec::new();
        for path in files(&folder)? {
            let revision = path.strip_prefix(&folder).ok().and_then(Path::to_str);
            if let (Some(revision), Ok(commit)) = (revision, fs::read_to_string(&path)) {
                refs.push((revision.to_owned(), commit.trim().to_owned()));
            }
        }
        Ok(refs)
    }

    /// Waits until nobody else makes the blob.
    pub(crate) fn lock(&self, digest: &str, wait: impl FnOnce()) -> Result<File> {
        fs::create_dir_all(&self.locks).map_err(at(&self.locks))?;
        let path = self.locks.join(format!("{digest}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(at(&path))?;
        if file.try_lock().is_err() {
            wait();
            file.lock().map_err(at(&path))?;
        }
        Ok(file)
    }

    /// Has `path` of a snapshot lead to a blob.
    pub(crate) fn link(&self, commit: &str, path: &str, digest: &str) -> Result<()> {
        let link = self.snapshot(commit).join(path);
        let folder = link.parent().unwrap_or(&link);
        fs::create_dir_all(folder).map_err(at(folder))?;
        let up = "../".repeat(2 + path.matches('/').count());
        let to = format!("{up}blobs/{digest}");
        if fs::read_link(&link).is_ok_and(|there| there == Path::new(&to)) {
            return Ok(());
        }
        // In one step, so that nobody sees a snapshot without a file that it had.
        let beside = beside(folder);
        std::os::unix::fs::symlink(&to, &beside).map_err(at(&beside))?;
        fs::rename(&beside, &link).map_err(at(&link))
    }

    /// Has a revision name a commit.
    pub(crate) fn name(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit {
            return Ok(());
        }
        let path = self.reference(revision);
        let folder = path.parent().unwrap_or(&path);
        fs::create_dir_all(folder).map_err(at(folder))?;
        let beside = beside(folder);
        fs::write(&beside, commit).map_err(at(&beside))?;
        fs::rename(&beside, &path).map_err(at(&path))
    }
}

/// A path in a folder that nobody else has.
fn beside(folder: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    folder.join(format!(".{}.{count}", std::process::id()))
}

fn is_commit(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

/// What a folder holds, in order; nothing where it is not there.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let read = match fs::read_dir(folder) {
        Ok(read) => read,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(at(folder)(error)),
    };
    let paths: io::Result<Vec<PathBuf>> = read.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(at(folder))?;
    paths.sort();
    Ok(paths)
}

/// The files in a folder and the folders in it. Links to folders are not followed.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in entries(folder)? {
        match path.is_dir() && !path.is_symlink() {
            true => all.extend(files(&path)?),
            false => all.push(path),
        }
    }
    Ok(all)
}

/// Whether a folder has a description and all weights that it speaks of.
fn is_whole(dir: &Path) -> bool {
    let index = dir.join("model.safetensors.index.json");
    let weights = match fs::read(&index) {
        Ok(index) => weights_of(&index),
        Err(_) => None,
    };
    let any = || {
        let names = entries(dir).unwrap_or_default();
        names
            .iter()
            .any(|path| path.extension().is_some_and(|e| e == "safetensors") && path.is_file())
    };
    let whole = match weights {
        Some(names) => names.iter().all(|name| dir.join(name).is_file()),
        None => any(),
    };
    whole && dir.join("config.json").is_file()
}

/// The files that an index of weights names.
pub(crate) fn weights_of(index: &[u8]) -> Option<BTreeSet<String>> {
    let index: serde_json::Value = serde_json::from_slice(index).ok()?;
    let names = index.get("weight_map")?.as_object()?.values();
    names.map(|name| Some(name.as_str()?.to_owned())).collect()
}
