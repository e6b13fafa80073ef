//! Memory-mapped files, the source of zero-copy weights.

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
