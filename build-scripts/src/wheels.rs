//! Brings pinned wheels to this machine and proves that they are the pinned ones.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};

use crate::build::Build;
use crate::error::{Error, IoContext, Result};
use crate::files;
use crate::pins::Wheel;

/// The file in an unpacked folder that says which wheels are there.
const MARKER: &str = ".wheels";

impl Build<'_> {
    /// The verified file of a wheel; downloads it unless it is there already.
    fn wheel_file(&self, wheel: &Wheel) -> Result<PathBuf> {
        let file = self.layout.downloads().join(&wheel.file);
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
                let folder = self.layout.downloads();
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

    /// Makes `target` the folder in which these wheels, and no others, are unpacked.
    ///
    /// It is complete or absent: the wheels are unpacked beside it and moved there.
    pub(crate) fn wheels(&self, wheels: &[&Wheel], target: &Path) -> Result<()> {
        if wheels_are(wheels, target) {
            return Ok(());
        }
        let mut verified = Vec::new();
        for wheel in wheels {
            verified.push((*wheel, self.wheel_file(wheel)?));
        }
        let python = self.python()?;
        for wheel in wheels {
            self.say(format!("unpacking {}", wheel.file));
        }
        let temporary = files::temp_beside(target)?;
        let fresh = temporary.path().join("fresh");
        python.unpack(&verified, &fresh)?;
        files::write_atomic(&fresh.join(MARKER), digests(wheels).as_bytes())?;
        files::replace_dir(&fresh, target)
    }
}

/// Whether these wheels, and no others, are unpacked in `folder`.
pub(crate) fn wheels_are(wheels: &[&Wheel], folder: &Path) -> bool {
    fs::read_to_string(folder.join(MARKER)).is_ok_and(|found| found == digests(wheels))
}

fn digests(wheels: &[&Wheel]) -> String {
    wheels.iter().map(|w| format!("{}\n", w.sha256)).collect()
}

#[cfg(test)]
mod tests;
