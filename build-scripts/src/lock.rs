//! One build at a time in a checkout, and the traces of interrupted ones removed.

use std::fs::{self, File};
use std::path::Path;

use crate::build::Build;
use crate::error::{IoContext, Result};
use crate::files;

impl Build<'_> {
    /// Runs `work` while no other process builds in this checkout.
    ///
    /// The operating system releases the lock when the process ends, however it ends. Not to be
    /// nested: the second call would wait for the first.
    pub(crate) fn locked<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let folder = self.layout.prefixes();
        files::create_dir(&folder)?;
        let path = folder.join(".lock");
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&path);
        let file = file.at("cannot open", &path)?;
        if file.try_lock().is_err() {
            self.say("waiting for another build to finish");
            file.lock().at("cannot lock", &path)?;
        }
        self.sweep();
        work()
    }

    /// Removes what an interrupted build left; holding the lock, nobody else's is there.
    fn sweep(&self) {
        let prefixes = self.layout.prefixes();
        for folder in [
            self.layout.vendor(),
            self.layout.downloads(),
            self.layout.tools(),
        ] {
            sweep(&folder);
        }
        sweep(&prefixes);
        for entry in fs::read_dir(&prefixes).into_iter().flatten().flatten() {
            sweep(&entry.path());
        }
    }
}

/// Best effort: what cannot be removed is in nobody's way.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with(files::TEMPORARY)
        {
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
}
