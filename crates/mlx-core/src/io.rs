//! Memory-mapped files, the source of weights: on a CPU they are used where they lie, on a GPU copied.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A file mapped read-only into memory.
///
/// Pages come from the disk when they are first touched and belong to the operating system's file
/// cache, so mapping costs nothing and several processes share one copy. Pass it to
/// [`Array::from_owned_bytes`](crate::Array::from_owned_bytes).
#[derive(Debug)]
pub struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// Maps the whole of `file`.
    pub fn new(file: &File) -> io::Result<Arc<Self>> {
        // SAFETY: the map is read-only and private to this value. As with every map, a file that
        // another process shortens while it is in use ends the process with a bus error; model
        // files are replaced by renaming, not rewritten in place, so this is the accepted price of
        // not copying gigabytes.
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Arc::new(Self(map)))
    }

    /// Says that the bytes in `range` are to be read soon, so that the system fetches them in large pieces
    /// meanwhile, instead of page by page when they are touched.
    ///
    /// A hint: failing, it does nothing.
    pub fn will_need(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            let len = range.end.min(self.0.len()).saturating_sub(range.start);
            if len > 0 {
                let _ = self
                    .0
                    .advise_range(memmap2::Advice::WillNeed, range.start, len);
            }
        }
    }

    /// Gives the memory of the bytes in `range` back to the system, for somebody who has copied
    /// them. They are read from the file again should anybody look.
    ///
    /// A hint: failing, it does nothing.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        {
            use memmap2::UncheckedAdvice::DontNeed;
            let len = range.end.min(self.0.len()).saturating_sub(range.start);
            // SAFETY: the map is of a file and never written, so a page that is dropped is the same
            // when it is read again.
            let _ = unsafe { self.0.unchecked_advise_range(DontNeed, range.start, len) };
        }
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
