//! The thread that writes parts to files, and keeps them within their bound.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use models::states::StillPage;

use super::file::{self, Header, UNFINISHED};
use super::{Origin, origin};

/// Parts that wait for the thread: it reads pages where they lie, which nobody can write meanwhile.
const WAITING: usize = 2;

/// A file that is being written for so long is nobody's.
const ABANDONED: Duration = Duration::from_secs(600);

/// A part to be written.
pub(super) struct Task {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    pub(super) page: StillPage,
}

/// What the thread starts with.
pub(super) struct Setup {
    /// The folder of all models.
    pub(super) root: PathBuf,
    /// Bytes of all files in it.
    pub(super) most: u64,
    /// The model, and how it is computed.
    pub(super) model: PathBuf,
    pub(super) how: String,
}

/// The callers' end of the thread.
pub(super) struct Writer {
    tasks: Option<SyncSender<Task>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread, which first tells what decides the model's numbers, if nobody knows it.
    pub(super) fn start(setup: Setup) -> std::io::Result<(Self, Origin)> {
        let (tasks, queue) = sync_channel(WAITING);
        let (tell, coming) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let digests = setup.root.join(DIGESTS);
        let origin = match origin::known(&setup.model, &setup.how, &digests) {
            Some(origin) => Origin::Known(origin),
            None => Origin::Coming(coming),
        };
        let is_known = matches!(origin, Origin::Known(_));
        let work = move || {
            let found = match is_known {
                true => Ok(None),
                false => origin::of(&setup.model, &setup.how, &digests, &stopped).map(Some),
            };
            match found {
                Ok(digest) => {
                    let _ = digest.map(|digest| tell.send(digest));
                    write_all(&setup, &queue);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "prompts are not kept on disk: the model cannot be read");
                }
            }
        };
        let named = std::thread::Builder::new().name("prefixes".to_owned());
        let thread = named.spawn(work)?;
        let writer = Self {
            tasks: Some(tasks),
            thread: Some(thread),
            stop,
        };
        Ok((writer, origin))
    }

    /// Gives a task to the thread, or back if it has enough. `Err(None)` if it has ended.
    pub(super) fn offer(&self, task: Task) -> Result<(), Option<Task>> {
        let Some(tasks) = &self.tasks else {
            return Err(None);
        };
        tasks.try_send(task).map_err(|error| match error {
            TrySendError::Full(task) => Some(task),
            TrySendError::Disconnected(_) => None,
        })
    }
}

impl Drop for Writer {
    /// What the thread was given is written; what it reads of the model's files is not finished.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Digests of models' files, in the folder of all models.
pub(super) const DIGESTS: &str = "digests";

fn write_all(setup: &Setup, queue: &Receiver<Task>) {
    let mut held = tidy(&setup.root, setup.most);
    for task in queue {
        // Another process may have been faster.
        if task.path.exists() {
            continue;
        }
        match file::write(&task.path, &task.header, task.page.bytes()) {
            Ok(bytes) => held += bytes,
            Err(error) => {
                tracing::warn!(%error, path = %task.path.display(), "prompts are no longer kept on disk");
                return;
            }
        }
        drop(task);
        if held > setup.most {
            held = tidy(&setup.root, setup.most);
        }
    }
}

/// Removes what was used longest ago until the files take a tenth less than they may, if they take more; and what
/// nobody finished. Returns the bytes that they take.
fn tidy(root: &Path, most: u64) -> u64 {
    let now = SystemTime::now();
    let mut files = Vec::new();
    let mut held = 0;
    let folders = fs::read_dir(root).into_iter().flatten().flatten();
    for folder in folders.filter(|folder| folder.file_name() != DIGESTS) {
        let inside = fs::read_dir(folder.path()).into_iter().flatten().flatten();
        for file in inside {
            let path = file.path();
            let Ok(about) = file.metadata() else {
                continue;
            };
            let used = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            if path.extension().is_some_and(|ending| ending == UNFINISHED) {
                let age = now.duration_since(used).unwrap_or_default();
                if age > ABANDONED {
                    let _ = fs::remove_file(&path);
                }
                continue;
            }
            held += about.len();
            files.push((used, path, about.len()));
        }
    }
    if held > most {
        files.sort();
        for (_, path, bytes) in files {
            if held <= most / 10 * 9 {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                held -= bytes;
            }
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_and_what_nobody_finished() {
        let root = tempfile::tempdir().unwrap();
        let hours = |n: u64| SystemTime::now() - Duration::from_secs(3600 * n);
        let file = |folder: &str, name: &str, age: u64| {
            let folder = root.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join(name);
            fs::write(&path, [0; 100]).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(hours(age)).unwrap();
            path
        };
        let [old, older, new] = [("a", "1", 5), ("b", "2", 9), ("a", "3", 1)]
            .map(|(folder, name, age)| file(folder, name, age));
        let (abandoned, written) = (file("b", "4.1-0.tmp", 1), file("b", "5.1-0.tmp", 0));
        let digest = file(DIGESTS, "x", 99);
        assert_eq!(tidy(root.path(), 300), 300);
        assert!(!abandoned.exists() && written.exists());
        assert_eq!(tidy(root.path(), 290), 200);
        assert!(old.exists() && !older.exists() && new.exists());
        assert_eq!(tidy(root.path(), 50), 0);
        assert!(!new.exists() && digest.exists());
    }
}
