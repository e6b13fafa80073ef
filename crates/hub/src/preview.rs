//! A model's descriptions without its weights: enough to say what it will take.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::error::at;
use crate::pull::Hub;
use crate::{Error, Listing, Name, Result};

/// Bytes of a description, or of the head of a file of weights, at the most.
const MOST: u64 = 256 << 20;

impl Hub {
    /// Writes the files of `listing` into a folder as they are, but of weights only what says which there are: the
    /// rest is a hole of the right size, so the folder can be looked at and not run.
    ///
    /// # Errors
    /// As [`Hub::pull`].
    pub fn preview(&self, name: &Name, listing: &Listing, into: &Path) -> Result<()> {
        for file in &listing.files {
            let path = into.join(&file.path);
            let folder = path.parent().unwrap_or(into);
            fs::create_dir_all(folder).map_err(at(folder))?;
            let url = self.client().file_url(name, &listing.commit, &file.path);
            let get = |range| self.client().get(name, &url, range, MOST);
            if !file.has_weights() {
                fs::write(&path, get(None)?).map_err(at(&path))?;
                continue;
            }
            let wrong = |reason: &str| Error::Protocol {
                url: url.clone(),
                reason: reason.to_owned(),
            };
            let start: [u8; 8] = match get(Some(0..8))?.try_into() {
                Ok(start) => start,
                Err(_) => return Err(wrong("it gives other ranges than it is asked for")),
            };
            let length = u64::from_le_bytes(start);
            if length > MOST || length + 8 > file.size {
                return Err(wrong("no head of a file of weights"));
            }
            let head = get(Some(8..8 + length))?;
            if head.len() as u64 != length {
                return Err(wrong("it gives other ranges than it is asked for"));
            }
            let write = || {
                let mut to = File::create(&path)?;
                to.write_all(&start)?;
                to.write_all(&head)?;
                to.set_len(file.size)
            };
            write().map_err(at(&path))?;
        }
        Ok(())
    }
}
