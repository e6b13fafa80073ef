//! A part of a sequence as a file: a header, the bytes of the page, and checksums of them.
//!
//! It is written under another name and renamed when it is whole, so a reader finds all of it or none; what a power
//! cut or a bad disk makes of it, the checksums tell. Nothing is believed before they are right.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::key::Name;

/// Begins each file; the digits are the format's version.
const MAGIC: [u8; 8] = *b"mlpfx001";

/// Bytes that have a checksum each.
const BLOCK: usize = 1 << 20;

/// Bytes of a header.
const HEADER: usize = 64;

/// What a file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: Name,
    /// Bytes of the page.
    pub(super) len: u64,
    /// How long it took to read the page's tokens, in nanoseconds.
    pub(super) cost: u64,
}

impl Header {
    /// Magic, name, length, cost, and a checksum of all that.
    fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..40].copy_from_slice(&self.name.0);
        bytes[40..48].copy_from_slice(&self.len.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.cost.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; HEADER]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
        let header = Self {
            name: Name(bytes[8..40].try_into().ok()?),
            len: number(40)?,
            cost: number(48)?,
        };
        (header.to_bytes() == *bytes).then_some(header)
    }
}

fn damaged(path: &Path) -> io::Error {
    let message = format!("{} is damaged", path.display());
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Reads the header of the part `name` with a page of `len` bytes.
///
/// # Errors
/// Of kind `InvalidData` where the file is another's or damaged.
pub(super) fn read_header(path: &Path, name: Name, len: usize) -> io::Result<Header> {
    header(&mut File::open(path)?, path, name, len)
}

fn header(file: &mut File, path: &Path, name: Name, len: usize) -> io::Result<Header> {
    let mut bytes = [0; HEADER];
    file.read_exact(&mut bytes)
        .map_err(|error| short(error, path))?;
    let header = Header::from_bytes(&bytes).filter(|h| h.name == name && h.len == len as u64);
    let whole = HEADER + len + 4 * len.div_ceil(BLOCK);
    let is_whole = file.metadata()?.len() == whole as u64;
    header.filter(|_| is_whole).ok_or_else(|| damaged(path))
}

/// A file that ends too early is damaged.
fn short(error: io::Error, path: &Path) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(path),
        _ => error,
    }
}

/// Reads the page of the part `name`. Where this fails, anything may be in `page`.
///
/// # Errors
/// As [`read_header`].
pub(super) fn read(path: &Path, name: Name, page: &mut [u8]) -> io::Result<()> {
    let mut file = File::open(path)?;
    header(&mut file, path, name, page.len())?;
    let mut sums = Vec::with_capacity(page.len().div_ceil(BLOCK));
    for block in page.chunks_mut(BLOCK) {
        file.read_exact(block).map_err(|error| short(error, path))?;
        // While it is in the processor's cache.
        sums.push(crc32fast::hash(block));
    }
    let mut written = vec![0; 4 * sums.len()];
    file.read_exact(&mut written)
        .map_err(|error| short(error, path))?;
    let same = written
        .chunks(4)
        .zip(sums)
        .all(|(bytes, sum)| *bytes == sum.to_le_bytes());
    match same {
        true => Ok(()),
        false => Err(damaged(path)),
    }
}

/// Writes a part; returns the bytes of the file.
///
/// # Errors
/// When the disk is full or the folder cannot be written. Nothing is left then.
pub(super) fn write(path: &Path, header: &Header, page: &[u8]) -> io::Result<u64> {
    static FILES: AtomicU64 = AtomicU64::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_extension(format!("{}-{number}.{UNFINISHED}", std::process::id()));
    let written = write_as(&unfinished, header, page).and_then(|bytes| {
        fs::rename(&unfinished, path)?;
        Ok(bytes)
    });
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}

/// How the names of files end that are being written.
pub(super) const UNFINISHED: &str = "tmp";

fn write_as(path: &Path, header: &Header, page: &[u8]) -> io::Result<u64> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // It is what somebody wrote to a model.
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    file.write_all(&header.to_bytes())?;
    let mut sums = Vec::with_capacity(4 * page.len().div_ceil(BLOCK));
    for block in page.chunks(BLOCK) {
        file.write_all(block)?;
        sums.extend(crc32fast::hash(block).to_le_bytes());
    }
    file.write_all(&sums)?;
    Ok((HEADER + page.len() + sums.len()) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: Name = Name([7; 32]);

    fn written(dir: &Path, page: &[u8]) -> std::path::PathBuf {
        let path = dir.join("part");
        let header = Header {
            name: NAME,
            len: page.len() as u64,
            cost: 5,
        };
        write(&path, &header, page).unwrap();
        path
    }

    #[test]
    fn what_was_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        for len in [1, BLOCK - 1, BLOCK, 2 * BLOCK + 3] {
            let page: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let path = written(dir.path(), &page);
            let mut found = vec![0; len];
            read(&path, NAME, &mut found).unwrap();
            assert!(found == page);
            assert_eq!(read_header(&path, NAME, len).unwrap().cost, 5);
            let of_another = read(&path, Name([8; 32]), &mut found).unwrap_err();
            assert_eq!(of_another.kind(), io::ErrorKind::InvalidData);
            assert!(read(&path, NAME, &mut vec![0; len + 1]).is_err());
            assert_eq!(
                fs::read_dir(dir.path()).unwrap().count(),
                1,
                "nothing else is left"
            );
        }
    }

    #[test]
    fn a_bit_that_turned_and_an_end_that_is_missing_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let page: Vec<u8> = (0..5000).map(|i| (i * 31 % 251) as u8).collect();
        let path = written(dir.path(), &page);
        let whole = fs::read(&path).unwrap();
        let mut found = vec![0; page.len()];
        for at in (0..whole.len())
            .step_by(7)
            .chain(whole.len() - 4..whole.len())
        {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            assert!(read(&path, NAME, &mut found).is_err(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(read(&path, NAME, &mut found).is_err(), "{at} bytes");
            let mut longer = whole.clone();
            longer.push(0);
            fs::write(&path, &longer).unwrap();
            assert!(read(&path, NAME, &mut found).is_err());
        }
    }
}
