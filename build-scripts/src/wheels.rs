//! Brings pinned wheels to this machine and proves that they are the pinned ones.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;

use crate::build::Build;
use crate::error::{Error, IoContext, Result};
use crate::files;
use crate::pins::Wheel;
use crate::stamp;

impl Build<'_> {
    /// The verified file of a wheel; downloads it unless it is there already.
    fn wheel_file(&self, wheel: &Wheel) -> Result<PathBuf> {
        let file = self.cache.downloads().join(&wheel.file);
        let expected = wheel.sha256.clone();
        if file.is_file() {
            let found = files::sha256(&file)?;
            return match found == expected {
                true => Ok(file),
                false => Err(Error::Checksum {
                    file,
                    expected,
                    found,
                }),
            };
        }
        let python = self.python()?;
        self.say(format!("downloading {}", wheel.file));
        let temporary = files::temp_beside(&file)?;
        let told = Cell::new(0);
        let arrived = |bytes: u64| {
            let megabytes = bytes / 1_000_000;
            // A line for each 50 MB: enough to see that a large one is coming.
            if megabytes >= told.get() + 50 {
                told.set(megabytes);
                self.say(format!("  {megabytes} MB so far"));
            }
        };
        let fetched = python
            .download(wheel, temporary.path(), &arrived)
            .map_err(|reason| {
                let folder = self.cache.downloads();
                Error::Download {
                    file: wheel.file.clone(),
                    reason,
                    folder,
                }
            })?;
        let found = files::sha256(&fetched)?;
        if found != expected {
            let file = wheel.file.clone();
            return Err(Error::DownloadChecksum {
                file,
                expected,
                found,
            });
        }
        fs::rename(&fetched, &file).at("cannot put in place", &file)?;
        Ok(file)
    }

    /// Where these wheels, and no others, are unpacked, or will be.
    pub(crate) fn unpacked_folder(&self, name: &str, wheels: &[&Wheel]) -> PathBuf {
        let digests: Vec<_> = wheels
            .iter()
            .map(|w| ("wheel", w.sha256.as_bytes()))
            .collect();
        let digest = stamp::of(&digests);
        self.cache.wheels().join(format!("{name}-{digest}"))
    }

    /// The folder with these wheels unpacked; unpacks them unless they are there.
    ///
    /// It is complete or absent: the wheels are unpacked beside it and moved there.
    pub(crate) fn unpacked(&self, name: &str, wheels: &[&Wheel]) -> Result<PathBuf> {
        let target = self.unpacked_folder(name, wheels);
        if target.is_dir() {
            return Ok(target);
        }
        let mut verified = Vec::new();
        for wheel in wheels {
            verified.push((*wheel, self.wheel_file(wheel)?));
        }
        let python = self.python()?;
        for wheel in wheels {
            self.say(format!("unpacking {}", wheel.file));
        }
        let temporary = files::temp_beside(&target)?;
        let fresh = temporary.path().join("fresh");
        python.unpack(&verified, &fresh)?;
        files::publish(&fresh, &target)?;
        Ok(target)
    }

    /// Like [`Build::unpacked`], for who does not hold the lock; takes it only if there is work.
    pub(crate) fn locked_unpacked(&self, name: &str, wheels: &[&Wheel]) -> Result<PathBuf> {
        let target = self.unpacked_folder(name, wheels);
        match target.is_dir() {
            true => Ok(target),
            false => self.locked(|| self.unpacked(name, wheels)),
        }
    }
}

#[cfg(test)]
mod tests;
