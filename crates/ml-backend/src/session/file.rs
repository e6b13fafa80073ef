//! How a conversation lies on disk: lines of JSON.
//!
//! The first line says what this is, in which form, and which model it was had with; each other one is a message as
//! chat APIs write it. A file is never written in place: what is new is written beside it, brought to the disk, and
//! renamed, so whoever is killed leaves the old conversation or the new one. Who has it open holds a lock on it, and
//! on what is to be renamed before that is: two programs cannot undo each other's turns.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::SessionError;
use super::model::SessionModel;
use crate::chat::Message;

type Result<T, E = SessionError> = std::result::Result<T, E>;

/// The form that is written, and read.
pub(super) const VERSION: u64 = 1;
/// Bytes of a first line at the most: of what is no session no more than that is read.
const LONGEST_HEADER: u64 = 64 << 10;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    ml_session: u64,
    model: Option<SessionModel>,
}

/// A session's file, which nobody else has as long as this lives: for programs that open it before they load a model.
#[derive(Debug)]
pub struct SessionFile {
    /// Without links: what is renamed would replace one.
    path: PathBuf,
    /// The file of that name, locked.
    lock: File,
    messages: Vec<Message>,
    model: Option<SessionModel>,
    is_new: bool,
    /// Whether it was made here and has nothing yet.
    is_made: bool,
}

impl SessionFile {
    /// Opens a file, or begins one; in a folder that is there.
    ///
    /// # Errors
    /// A file that is no session, that another session has, or that cannot be read or written.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = resolved(path.as_ref());
        let is_made = !path.exists();
        let lock = open_locked(&path)?;
        let contents = Contents::read(&lock, &path)?;
        let is_new = contents.is_none();
        let Contents { model, messages } = contents.unwrap_or_default();
        Ok(Self {
            path,
            lock,
            messages,
            model,
            is_new,
            is_made,
        })
    }

    /// The conversation that it has.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    pub(super) fn take_messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }

    /// Whether there was no such file, or an empty one.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The model that it was had with before.
    pub(super) fn model(&self) -> Option<&SessionModel> {
        self.model.as_ref()
    }

    /// Whether it is the file of that name.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.path == resolved(path)
    }

    /// Has the file hold these messages, or leaves it as it was.
    pub(super) fn write(&mut self, model: &SessionModel, messages: &[Message]) -> Result<()> {
        let part = part_of(&self.path);
        let write = || -> io::Result<File> {
            let mut file = new_file(&part)?;
            // Whoever opens it once it is renamed sees that it is taken.
            let _ = file.try_lock();
            if let Ok(known) = self.lock.metadata() {
                file.set_permissions(known.permissions())?;
            }
            file.write_all(text_of(model, messages)?.as_bytes())?;
            file.sync_all()?;
            fs::rename(&part, &self.path)?;
            Ok(file)
        };
        match write() {
            Ok(file) => {
                (self.lock, self.is_made) = (file, false);
                Ok(())
            }
            Err(source) => {
                let _ = fs::remove_file(&part);
                Err(failed("write", &self.path, source))
            }
        }
    }
}

impl Drop for SessionFile {
    fn drop(&mut self) {
        if self.is_made {
            // The model that was to answer could not be loaded.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The conversation of a file, which is only read.
pub(super) fn read(path: &Path) -> Result<Vec<Message>> {
    let file = File::open(path).map_err(|source| failed("read", path, source))?;
    let contents = Contents::read(&file, path)?;
    let none = || SessionError::NotASession {
        path: path.to_owned(),
    };
    contents.map(|contents| contents.messages).ok_or_else(none)
}

#[derive(Default)]
struct Contents {
    model: Option<SessionModel>,
    messages: Vec<Message>,
}

impl Contents {
    /// What a file holds; `None` if that is nothing.
    fn read(file: &File, path: &Path) -> Result<Option<Self>> {
        let cannot = |source| failed("read", path, source);
        let foreign = || SessionError::NotASession {
            path: path.to_owned(),
        };
        // What is no plain file may have no end.
        if !file.metadata().map_err(cannot)?.is_file() {
            return Err(foreign());
        }
        let mut reader = BufReader::new(file);
        let mut first = Vec::new();
        let mut header = Read::by_ref(&mut reader).take(LONGEST_HEADER);
        header.read_until(b'\n', &mut first).map_err(cannot)?;
        if first.is_empty() {
            return Ok(None);
        }
        let header: serde_json::Value = serde_json::from_slice(&first).map_err(|_| foreign())?;
        let version = header.get("ml_session").and_then(serde_json::Value::as_u64);
        let broken = |line, problem: String| SessionError::Broken {
            path: path.to_owned(),
            line,
            problem,
        };
        match version {
            None => return Err(foreign()),
            Some(version) if version > VERSION => {
                let path = path.to_owned();
                return Err(SessionError::LaterVersion { path, version });
            }
            Some(_) => {}
        }
        let header: Header =
            serde_json::from_value(header).map_err(|cause| broken(1, of_line(&cause)))?;
        let mut messages = Vec::new();
        for (number, line) in (2..).zip(reader.split(b'\n')) {
            let line = line.map_err(cannot)?;
            let message = serde_json::from_slice(&line);
            messages.push(message.map_err(|cause| broken(number, of_line(&cause)))?);
        }
        Ok(Some(Self {
            model: header.model,
            messages,
        }))
    }
}

/// What is wrong within a line: to serde each is the first.
fn of_line(cause: &serde_json::Error) -> String {
    cause
        .to_string()
        .replace(" at line 1 column ", " at column ")
}

fn text_of(model: &SessionModel, messages: &[Message]) -> io::Result<String> {
    let header = Header {
        ml_session: VERSION,
        model: Some(model.clone()),
    };
    let mut text = serde_json::to_string(&header)? + "\n";
    for message in messages {
        text += &serde_json::to_string(message)?;
        text.push('\n');
    }
    Ok(text)
}

/// The file of that name, locked; it is made if there is none.
fn open_locked(path: &Path) -> Result<File> {
    /// Renames by others that are seen in a row before that counts as being in use.
    const TRIES: usize = 8;
    let cannot = |source| failed("open", path, source);
    for _ in 0..TRIES {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = private(&mut options).open(path).map_err(cannot)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => break,
            // A file system without locks has sessions all the same.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        // Whoever had it may have renamed another one to its name in between.
        if is_same(&file, path).map_err(cannot)? {
            return Ok(file);
        }
    }
    Err(SessionError::InUse {
        path: path.to_owned(),
    })
}

#[cfg(unix)]
fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
    match fs::metadata(path) {
        Ok(there) => Ok(id(&there) == id(&file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_same(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}

fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    private(&mut options).open(path)
}

/// What is said to a model is nobody else's business.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// The path behind links, as far as there is one.
fn resolved(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    // The folder is there at the least, or opening the file says that it is not.
    let folder = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return path.to_owned(),
    };
    match (folder.canonicalize(), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

/// Beside the file. Its name is always the same: who was killed leaves one at the most, and the next one takes it.
fn part_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    path.with_file_name(name)
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> SessionError {
    SessionError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}
