//! One build at a time in a cache, and the traces of interrupted ones removed.

use std::fs::{self, File};
use std::path::Path;

use crate::build::Build;
use crate::error::{Error, IoContext, Result};
use crate::files;

impl Build<'_> {
    /// Runs `work` while no other process builds in this cache.
    ///
    /// The operating system releases the lock when the process ends, however it ends. Not to be
    /// nested: the second call would wait for the first.
    pub(crate) fn locked<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let root = self.cache.root();
        let path = root.join(".lock");
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        let file = fs::create_dir_all(root).and_then(|()| options.open(&path));
        let file = file.map_err(|reason| Error::UnusableCache {
            path: root.to_owned(),
            reason,
        })?;
        if file.try_lock().is_err() {
            self.say("waiting for another build to finish");
            file.lock().at("cannot lock", &path)?;
        }
        self.sweep();
        work()
    }

    /// Removes what an interrupted build left; holding the lock, nobody else's is there.
    fn sweep(&self) {
        sweep(self.cache.root());
        for folder in self.cache.folders() {
            sweep(&folder);
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
    use crate::cache::Cache;
    use crate::pins::Pins;

    fn build<'a>(folder: &Path, progress: &'a dyn Fn(&str)) -> Build<'a> {
        Build::with(
            Pins::parse("wheel = []").unwrap(),
            Cache::at(folder),
            progress,
        )
    }

    #[test]
    fn a_second_build_waits_for_the_first_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (folder, made) = (folder.path(), folder.path().join("made"));
        let (inside, entered) = mpsc::channel();
        let (leave, left) = mpsc::channel::<()>();
        let said = RefCell::new(Vec::new());
        thread::scope(|scope| {
            let made = &made;
            let first = scope.spawn(move || {
                build(folder, &|_| {}).locked(|| {
                    inside.send(()).unwrap();
                    left.recv().unwrap();
                    fs::write(made, "").at("cannot write", made)
                })
            });
            entered.recv().unwrap();
            let progress = |line: &str| {
                said.borrow_mut().push(line.to_owned());
                // It is waiting now: the first may finish.
                leave.send(()).unwrap();
            };
            let second = build(folder, &progress);
            let made = second.locked(|| Ok(made.is_file())).unwrap();
            assert!(made, "the first had not finished");
            first.join().unwrap().unwrap();
        });
        assert_eq!(said.into_inner(), ["waiting for another build to finish"]);
    }

    #[test]
    fn what_an_interrupted_build_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let kept = cache.downloads().join("a.whl");
        let left = [
            cache.root().join(".tmp-a").join("fresh"),
            cache.downloads().join(".tmp-b").join("a.whl"),
            cache.wheels().join(".tmp-c").join("fresh"),
            cache.native().join(".tmp-d").join("fresh"),
        ];
        for file in left.iter().chain([&kept]) {
            files::create_dir(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        build(folder.path(), &|_| {}).locked(|| Ok(())).unwrap();
        assert!(left.iter().all(|file| !file.exists()));
        assert!(kept.is_file());
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_named_with_what_to_do() {
        // Not even root can make a folder in a file.
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let cache = file.join("cache");
        let told = build(&cache, &|_| {}).locked(|| Ok(())).unwrap_err();
        let told = told.to_string();
        assert!(told.contains(&cache.display().to_string()), "{told}");
        assert!(told.contains("set MLX_BACKEND_CACHE"), "{told}");
    }
}
