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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::Layout;

    /// A checkout with nothing but an empty pins file.
    fn checkout() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::at(folder.path());
        files::create_dir(&layout.vendor()).unwrap();
        fs::write(layout.pins(), "wheel = []").unwrap();
        (folder, layout)
    }

    #[test]
    fn a_second_build_waits_for_the_first_and_says_so() {
        let (_folder, layout) = checkout();
        let (inside, entered) = mpsc::channel();
        let (leave, left) = mpsc::channel::<()>();
        let said = RefCell::new(Vec::new());
        thread::scope(|scope| {
            let layout = &layout;
            let first = scope.spawn(move || {
                let build = Build::new(layout, &|_| {}).unwrap();
                build.locked(|| {
                    inside.send(()).unwrap();
                    left.recv().unwrap();
                    fs::write(layout.vendor().join("made"), "").at("cannot write", &layout.vendor())
                })
            });
            entered.recv().unwrap();
            let progress = |line: &str| {
                said.borrow_mut().push(line.to_owned());
                // It is waiting now: the first may finish.
                leave.send(()).unwrap();
            };
            let second = Build::new(layout, &progress).unwrap();
            let made = second
                .locked(|| Ok(layout.vendor().join("made").is_file()))
                .unwrap();
            assert!(made, "the first had not finished");
            first.join().unwrap().unwrap();
        });
        assert_eq!(said.into_inner(), ["waiting for another build to finish"]);
    }

    #[test]
    fn what_an_interrupted_build_left_is_removed_and_nothing_else() {
        let (_folder, layout) = checkout();
        let kept = layout.downloads().join("a.whl");
        let left = [
            layout.vendor().join(".tmp-a").join("fresh"),
            layout.downloads().join(".tmp-b").join("a.whl"),
            layout.tools().join(".tmp-c").join("old"),
            layout.prefixes().join("cpu").join(".tmp-stamp"),
        ];
        for file in left.iter().chain([&kept]) {
            files::create_dir(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        Build::new(&layout, &|_| {})
            .unwrap()
            .locked(|| Ok(()))
            .unwrap();
        assert!(left.iter().all(|file| !file.exists()));
        assert!(kept.is_file());
    }
}
