//! Brings pinned wheels to this machine and proves that they are the pinned ones.

use std::fs;
use std::path::PathBuf;

use crate::build::Build;
use crate::error::{Error, IoContext, Result};
use crate::files;
use crate::pins::Wheel;

impl Build<'_> {
    /// The verified file of a wheel; downloads it unless it is there already.
    pub(crate) fn wheel_file(&self, wheel: &Wheel) -> Result<PathBuf> {
        let folder = self.layout.downloads();
        let file = folder.join(&wheel.file);
        if !file.is_file() {
            self.say(format!("downloading {}", wheel.file));
            let python = self.python()?;
            let temporary = files::temp_beside(&file)?;
            let fetched =
                python
                    .download(wheel, temporary.path())
                    .map_err(|reason| Error::Download {
                        file: wheel.file.clone(),
                        reason,
                        folder: folder.clone(),
                    })?;
            fs::rename(&fetched, &file).at("cannot put in place", &file)?;
        }
        let found = files::sha256(&file)?;
        if found != wheel.sha256 {
            return Err(Error::Checksum {
                file,
                expected: wheel.sha256.clone(),
                found,
            });
        }
        Ok(file)
    }

    /// Unpacks verified wheels into a folder that is complete or absent.
    pub(crate) fn unpack(&self, wheels: &[&Wheel], target: &std::path::Path) -> Result<()> {
        let mut verified = Vec::new();
        for wheel in wheels {
            verified.push((*wheel, self.wheel_file(wheel)?));
        }
        for wheel in wheels {
            self.say(format!("unpacking {}", wheel.file));
        }
        let temporary = files::temp_beside(target)?;
        let fresh = temporary.path().join("fresh");
        self.python()?.unpack(&verified, &fresh)?;
        files::replace_dir(&fresh, target)
    }
}
