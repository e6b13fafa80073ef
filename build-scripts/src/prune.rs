//! What is in the cache, what a checkout needs of it, and the rest removed.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Backend;
use crate::build::Build;
use crate::cuda_compiler;
use crate::error::{IoContext, Result};
use crate::machine::{Machine, Version};
use crate::prefix::Native;

/// A file or folder of the cache that is there or not as a whole.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it is.
    pub path: PathBuf,
    /// How many bytes it has; those that two entries share are counted in both.
    pub bytes: u64,
    /// Whether a build of the checkout would use it.
    pub needed: bool,
}

/// All that is in the cache, and what of it the checkout with these C++ sources needs.
///
/// # Errors
/// If there is no cache, or it cannot be read.
pub fn entries(csrc: &Path) -> Result<Vec<Entry>> {
    let build = Build::new(&|_| {})?;
    let needed = build.needed(csrc)?;
    build.entries(&needed)
}

/// Removes what the checkout with these C++ sources does not need; says how many bytes that freed.
///
/// Programs that were built from other sources and find their library in the cache do not any
/// more, until they are built again. `removed` is told of each entry.
///
/// # Errors
/// If there is no cache, or it cannot be changed.
pub fn prune(csrc: &Path, progress: &dyn Fn(&str), removed: &dyn Fn(&Entry)) -> Result<u64> {
    let build = Build::new(progress)?;
    if !build.cache.root().is_dir() {
        return Ok(0);
    }
    let needed = build.needed(csrc)?;
    build.locked(|| build.prune(&needed, removed))
}

impl Build<'_> {
    /// Every path in the cache that a build of this checkout, for this machine or for a Mac, uses.
    fn needed(&self, csrc: &Path) -> Result<BTreeSet<PathBuf>> {
        let mut needed: BTreeSet<_> = self
            .pins
            .files()
            .map(|file| self.cache.downloads().join(file))
            .collect();
        needed.insert(self.mlx_c_folder());
        needed.insert(self.cache.builds().join("zig"));
        for role in ["cmake", "ninja", "libclang", "ziglang"] {
            if let Ok(wheel) = self.pins.one(role, &self.host) {
                needed.insert(self.unpacked_folder(role, &[wheel]));
            }
        }
        if let Ok(wheels) = cuda_compiler::wheels(self) {
            needed.insert(self.unpacked_folder("nvrtc", &wheels));
        }
        let macs = self.pins.all("mlx-metal", &Machine::mac(Version(0, 0)))?;
        let macs = macs.into_iter().map(|wheel| Machine::mac(wheel.min_macos));
        let linux = ["x86_64", "aarch64"].map(|arch| Machine::of("linux", arch));
        for target in linux.into_iter().chain(macs) {
            for &backend in Backend::all_for(&target) {
                let native = Native {
                    csrc,
                    backend,
                    target: target.clone(),
                };
                let wheels = self.wheels_of(backend, &target)?;
                needed.insert(self.mlx_folder(backend, &wheels));
                needed.insert(self.work_folder(&native));
                needed.insert(self.prefix(&native)?.folder);
            }
        }
        Ok(needed)
    }

    fn entries(&self, needed: &BTreeSet<PathBuf>) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        for folder in self.cache.folders() {
            if !folder.is_dir() {
                continue;
            }
            for entry in fs::read_dir(&folder).at("cannot list", &folder)? {
                let path = entry.at("cannot list", &folder)?.path();
                found.push(Entry {
                    bytes: room(&[&path]),
                    needed: needed.contains(&path),
                    path,
                });
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn prune(&self, needed: &BTreeSet<PathBuf>, removed: &dyn Fn(&Entry)) -> Result<u64> {
        let root = self.cache.root();
        let before = room(&[root]);
        for entry in self.entries(needed)?.into_iter().filter(|e| !e.needed) {
            let path = &entry.path;
            let done = match path.is_dir() {
                // Away under its name at once: who looks for it meanwhile finds all of it or nothing.
                true => crate::files::temp_beside(path).and_then(|aside| {
                    fs::rename(path, aside.path().join("old")).at("cannot remove", path)
                }),
                false => fs::remove_file(path).at("cannot remove", path),
            };
            done?;
            removed(&entry);
        }
        Ok(before.saturating_sub(room(&[root])))
    }
}

/// How many bytes files and folders take, each file once, however many names it has.
fn room(paths: &[&Path]) -> u64 {
    let (mut seen, mut bytes) = (HashSet::new(), 0);
    let mut pending: Vec<PathBuf> = paths.iter().map(|&path| path.to_owned()).collect();
    while let Some(path) = pending.pop() {
        let Ok(data) = path.symlink_metadata() else {
            continue;
        };
        if data.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            pending.extend(entries.map(|entry| entry.path()));
        } else if seen.insert((data.dev(), data.ino())) {
            bytes += data.len();
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::cache::Cache;
    use crate::files;
    use crate::pins::Pins;

    #[test]
    fn only_what_the_checkout_does_not_need_goes_and_its_size_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let csrc = folder.path().join("csrc");
        files::create_dir(&csrc).unwrap();
        fs::write(csrc.join("a.cpp"), "").unwrap();
        let cache = Cache::at(folder.path().join("cache"));
        let pins = Pins::of_this_project().unwrap();
        let build = Build::with(pins, cache.clone(), &|_| {});
        let native = Native {
            csrc: &csrc,
            backend: Backend::default_for(&build.host),
            target: build.host.clone(),
        };
        let put = |path: &Path, bytes: usize| {
            files::create_dir(path.parent().unwrap()).unwrap();
            fs::write(path, vec![1; bytes]).unwrap();
        };
        let current = build.prefix(&native).unwrap();
        let wheels = build.wheels_of(native.backend, &native.target).unwrap();
        let wheel = build.mlx_folder(native.backend, &wheels).join("libmlx");
        let download = cache.downloads().join(&wheels[0].file);
        put(&wheel, 1000);
        put(&download, 100);
        put(&current.library, 10);
        fs::hard_link(&wheel, current.library_dir.join("libmlx")).unwrap();
        // Of an older version: the same libmlx, another bridge.
        let old = cache.native().join("cpu-linux-x86_64-0000000000000000");
        put(&old.join("bridge"), 7);
        fs::hard_link(&wheel, old.join("libmlx")).unwrap();
        let old_wheel = cache.downloads().join("old-1-py3-none-any.whl");
        put(&old_wheel, 3);

        let removed = RefCell::new(Vec::new());
        let needed = build.needed(&csrc).unwrap();
        let told = |entry: &Entry| removed.borrow_mut().push(entry.path.clone());
        let freed = build.locked(|| build.prune(&needed, &told)).unwrap();
        assert_eq!(removed.into_inner(), [old_wheel.clone(), old.clone()]);
        assert_eq!(freed, 10, "the bytes that another name keeps are not freed");
        assert!(!old.exists() && !old_wheel.exists());
        assert!(wheel.is_file() && download.is_file() && current.library.is_file());
    }
}
