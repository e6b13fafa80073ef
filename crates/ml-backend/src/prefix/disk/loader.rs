//! Parts on their way from files into pages, read by a thread of their own.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant, SystemTime};

use models::states::{PageRoom, Part};

use super::file;
use super::key::Name;

/// A part to be read, and where to.
pub(super) struct Wanted {
    pub(super) part: Part,
    pub(super) name: Name,
    pub(super) path: PathBuf,
    pub(super) room: PageRoom,
}

/// A sequence whose parts are being read.
pub(crate) struct Loading {
    parts: Receiver<Option<Loaded>>,
    stop: Arc<AtomicBool>,
    /// Whole pages of the sequence.
    pub(super) pages: usize,
}

/// All parts, and how long they took.
pub(crate) struct Loaded {
    pub(super) parts: Vec<(Part, PageRoom)>,
    pub(super) bytes: u64,
    pub(super) time: Duration,
}

/// How far it is.
pub(crate) enum Progress {
    Coming,
    /// One was not what it should be, or has gone.
    Failed,
    There(Loaded),
}

impl Loading {
    /// Has a thread read all of `wanted`.
    pub(super) fn start(wanted: Vec<Wanted>, pages: usize) -> std::io::Result<Self> {
        let (tell, parts) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let work = move || {
            let _ = tell.send(read(wanted, &stopped));
        };
        let named = std::thread::Builder::new().name("prefix".to_owned());
        named.spawn(work)?;
        Ok(Self { parts, stop, pages })
    }

    /// Does not wait.
    pub(super) fn look(&self) -> Progress {
        match self.parts.try_recv() {
            Ok(Some(loaded)) => Progress::There(loaded),
            Err(TryRecvError::Empty) => Progress::Coming,
            Ok(None) | Err(TryRecvError::Disconnected) => Progress::Failed,
        }
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn read(wanted: Vec<Wanted>, stop: &AtomicBool) -> Option<Loaded> {
    let began = Instant::now();
    let mut parts = Vec::with_capacity(wanted.len());
    let mut bytes = 0;
    let mut paths = Vec::with_capacity(wanted.len());
    for mut one in wanted {
        if stop.load(Ordering::Relaxed) {
            return None;
        }
        let page = one.room.bytes_mut();
        if let Err(error) = file::read(&one.path, one.name, page) {
            if error.kind() == std::io::ErrorKind::InvalidData {
                tracing::warn!(%error, "removed; the prompt is read anew");
                let _ = std::fs::remove_file(&one.path);
            }
            return None;
        }
        bytes += page.len() as u64;
        parts.push((one.part, one.room));
        paths.push(one.path);
    }
    let time = began.elapsed();
    // The last ones go first when room is needed: those at the beginning are of use to more prompts.
    let now = SystemTime::now();
    for (i, path) in paths.iter().enumerate() {
        let used = now - Duration::from_millis(i as u64);
        if let Ok(file) = File::options().append(true).open(path) {
            let _ = file.set_modified(used);
        }
    }
    Some(Loaded { parts, bytes, time })
}
